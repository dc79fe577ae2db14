"""Draw results.csv, CA and energy score by row of the document, and CA over R@10: python plot.py RESULTS OUT.png."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from table import LONGER, PLAIN

SHOWN = {"point", "draw"}  # other ways of asking are points of the last panel
LEFT_OUT = ("the true concept",)
MARKERS = "sv^D<>PX*"  # of baselines, which are grey
COLOURS = [*(f"C{i}" for i in range(10) if i != 7), "black", "gold"]  # of models; C7 is grey
Result = dict[str, str]


def main(results: str, out: str) -> None:
    with Path(results).open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["row"] not in LEFT_OUT]
    plain = [row for row in rows if row["row"].endswith(PLAIN)]
    rows = [row for row in rows if not row["row"].endswith(PLAIN)]
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    by_ca, by_energy, plane = figure.subplots(1, 3)
    models = list(dict.fromkeys(row["row"] for row in rows if row["kind"] == "model"))
    others = list(dict.fromkeys(row["row"] for row in rows if row["kind"] != "model"))
    once = list(dict.fromkeys(name.removesuffix(LONGER) for name in models))
    colours = {name: COLOURS[once.index(name.removesuffix(LONGER)) % len(COLOURS)] for name in models}
    colours |= {name: str(0.15 + 0.7 * i / max(len(others), 1)) for i, name in enumerate(others)}
    draw_lines(by_ca, rows, "CA", colours)
    by_ca.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
    by_ca.set_ylabel("contrastive accuracy")
    draw_lines(by_energy, rows, "energy score", colours)
    by_energy.set_ylim(0.63, 0.73)  # of what draws; a point's score is its distance, far above
    by_energy.set_ylabel("energy score of draws (smaller is better)")
    draw_plane(plane, rows, colours)
    draw_gains(plane, places(plain), places(rows), colours)
    figure.legend(*by_ca.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
    figure.savefig(out, dpi=130)


def draw_lines(ax: Axes, rows: Sequence[Result], column: str, colours: dict[str, str]) -> None:
    """Draw a line a row of the table over ranges of rows of the document, with 95 % intervals; baselines dashed.

    A row trained longer is dotted, in the colour of the other.
    """
    mine = [row for row in rows if row["column"] == column and row["positions"] != "all"]
    ranges = sorted({row["positions"] for row in mine}, key=lambda name: int(name.split("-")[0]))
    asked: dict[str, str] = {}  # of several ways the one that draws, else the first
    for row in mine:
        if row["row"] not in asked or row["answer"] in (SHOWN if column == "CA" else {"draw"}):
            asked[row["row"]] = row["answer"]
    for i, (name, answer) in enumerate(asked.items()):
        line = [row for row in mine if (row["row"], row["answer"]) == (name, answer)]
        at = [ranges.index(row["positions"]) + 0.02 * (i - len(asked) / 2) for row in line]
        model = line[0]["kind"] == "model"
        style = (":" if name.endswith(LONGER) else "-") if model else "--"
        ax.errorbar(
            at,
            [float(row["mean"]) for row in line],
            [float(row["half_width"]) if int(row["documents"]) > 3 else 0.0 for row in line],
            linestyle=style,
            linewidth=1.8 if model else 1.0,
            elinewidth=0.6,
            marker="o" if model else MARKERS[i % len(MARKERS)],
            markersize=4,
            color=colours[name],
            label=name,
        )
    ax.set_xticks(range(len(ranges)), ranges)
    ax.set_xlabel("row of the document")


def places(rows: Sequence[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """Return the columns of every way of asking, over all positions: (row, answer) -> column -> result."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for row in rows:
        if row["positions"] == "all":
            found.setdefault((row["row"], row["answer"]), {})[row["column"]] = row
    return found


def draw_gains(
    ax: Axes,
    plain: dict[tuple[str, str], dict[str, Result]],
    found: dict[tuple[str, str], dict[str, Result]],
    colours: dict[str, str],
) -> None:
    """Draw what models say without their first guess, hollow, and a line from there to what they say with it."""
    for (plain_name, answer), columns in plain.items():
        name = plain_name.removesuffix(PLAIN)
        if answer not in SHOWN or (name, answer) not in found:
            continue
        ends = [columns, found[name, answer]]
        recall, accuracy = ([float(end[column]["mean"]) for end in ends] for column in ("R@10", "CA"))
        ax.plot(recall, accuracy, color=colours[name], linewidth=0.8, zorder=0)
        ax.plot(recall[0], accuracy[0], "o", color=colours[name], markerfacecolor="white", markersize=5)


def draw_plane(ax: Axes, rows: Sequence[Result], colours: dict[str, str]) -> None:
    """Draw every way of asking as a point, CA over R@10; diamonds were trained longer, baselines have names."""
    for (name, answer), columns in places(rows).items():
        recall, accuracy = columns["R@10"], columns["CA"]
        where, main = (float(recall["mean"]), float(accuracy["mean"])), answer in SHOWN
        bars = (float(accuracy["half_width"]), float(recall["half_width"])) if main else (0.0, 0.0)
        model = accuracy["kind"] == "model"
        marker = ("D" if name.endswith(LONGER) else "o") if model else "s"
        ax.errorbar(*where, *bars, elinewidth=0.5, marker=marker, markersize=6 if main else 3, color=colours[name])
        if not model:
            ax.annotate(name, where, xytext=(4, 3), textcoords="offset points", fontsize="xx-small", color="0.3")
    ax.set_xlabel("R@10")
    ax.set_ylabel("contrastive accuracy")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py RESULTS.csv OUT.png")
    main(*sys.argv[1:])
