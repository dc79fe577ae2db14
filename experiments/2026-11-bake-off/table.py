"""Make results.csv and Markdown tables of what measure.py measured: python table.py MEASURED OUT.csv [SPEED.json].

What is not measured yet is left out and named.
"""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import yaml
from ground import RANGES
from torch import Tensor

from data.durable import hidden, publish
from lcm.metrics import Interval, mean_interval
from lcm.table import Row, to_markdown

BY_POSITION = ("CA", "R@10", "energy score")
NO_RIVAL = ("the true concept",)
NOT_RUN = "not run"
LINEAR = "ridge regression with errors"  # what draws are to be compared with
PLAIN = "_plain"  # ends the name of a row that differs from another in that it has no first guess
LONGER = "_12min"  # ends the name of a row that was trained four times as long
COSTS = {"steps": "steps", "concepts": "concepts seen", "seconds": "wall clock, s, shared machine"}
HEAD = ["row", "kind", "answer", "column", "positions", "mean", "half_width", "sd_seeds", "seeds", "count", "documents"]


@dataclass
class Entry:
    """One row of the table: a model asked in one way, or a baseline.

    Attributes:
        name: of the row.
        answer: how it was asked.
        runs: what was measured of each seed.
        model: whether it is a model.
    """

    name: str
    answer: str
    model: bool
    runs: list[dict[str, Any]] = field(default_factory=list)

    def values(self, column: str) -> Tensor:
        """Return a column of every seed (seeds, P), NaN where a position has no measure."""
        rows = [[math.nan if v is None else v for v in run["columns"][column]] for run in self.runs]
        return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True)
class Cell:
    """A mean over seeds and positions, with its 95 % interval over documents and its deviation over seeds."""

    interval: Interval
    deviation: float
    num_seeds: int

    def __str__(self) -> str:
        sign = f"{self.interval}"
        return sign if math.isnan(self.deviation) else f"{sign} [{self.deviation:.3f}]"


Found = Mapping[tuple[str, str], Cell]  # (column, positions) -> cell; positions are "all" or a range of rows


def read(folder: Path) -> tuple[dict[str, Any], list[Entry]]:
    """Return the positions and the rows that are there."""
    if not (folder / "positions.json").is_file():
        sys.exit(f"{folder} has no positions.json; let measure.py measure something into it")
    positions = json.loads((folder / "positions.json").read_text(encoding="utf-8"))
    entries: dict[tuple[str, str], Entry] = {}

    def add(name: str, found: Mapping[str, Any], model: bool) -> None:
        for answer, run in found["answers"].items():
            if answer.startswith("mean of") and not model:
                continue
            entry = entries.setdefault((name, answer), Entry(name, answer, model))
            entry.runs.append({**run, **{key: found.get(key) for key in ("seed", "context", "costs")}})

    if (folder / "baselines.json").is_file():
        for name, found in json.loads((folder / "baselines.json").read_text(encoding="utf-8")).items():
            add(name, found, False)
    for path in sorted(folder.glob("*-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        add(found["row"], found, True)
    return positions, list(entries.values())


def by_document(values: Tensor, document: Tensor, chosen: Tensor) -> list[Tensor]:
    """Return the chosen values (P,) of each document."""
    return [values[chosen & (document == number)] for number in document.unique()]


def cell(values: Tensor, document: Tensor, chosen: Tensor) -> Cell | None:
    """Return the cell of values (seeds, P) at the chosen positions (P,); None where there is none."""
    if values[:, chosen].isnan().all():
        return None
    means = values[:, chosen].nanmean(1).tolist()
    interval = mean_interval(by_document(values.mean(0), document, chosen))
    return Cell(interval, stdev(means) if len(means) > 1 else math.nan, len(means))


def text_cells(entry: Entry, document: Tensor) -> dict[str, Cell]:
    """Return l2-r and MI of an entry whose predictions were decoded; a token counts once in MI."""
    runs = [run["text"] for run in entry.runs if "text" in run]
    if not runs:
        return {}
    whole = torch.ones(len(document), dtype=torch.bool)
    information, means = [], []
    for run in runs:
        if not any(run["tokens"]):  # a decoder that says nothing
            continue
        nats, tokens = torch.tensor(run["nats"], dtype=torch.float64), torch.tensor(run["tokens"])
        each = torch.where(tokens > 0, nats / tokens, 0.0)
        information.append([each[document == d].repeat_interleave(tokens[document == d]) for d in document.unique()])
        means.append(float(nats.sum() / tokens.sum()))
    distance = torch.tensor([run["l2-r"] for run in runs], dtype=torch.float64)
    written = {"l2-r": cell(distance, document, whole)}
    if information:
        together = [torch.cat(parts) for parts in zip(*information, strict=True)]
        deviation = stdev(means) if len(means) > 1 else math.nan
        written["MI"] = Cell(mean_interval(together), deviation, len(means))
    return {column: one for column, one in written.items() if one is not None}


def cells(entry: Entry, positions: Mapping[str, Any]) -> Found:
    """Return the cells of an entry."""
    document, row = torch.tensor(positions["document"]), torch.tensor(positions["row"])
    drawn, found = torch.tensor(positions["drawn"]), {}
    for column in entry.runs[0]["columns"]:
        values = entry.values(column)
        chosen = {"all": drawn}
        if column in BY_POSITION:
            chosen |= {f"{first}-{last}": (row >= first) & (row <= last) for first, last in RANGES}
        for name, some in chosen.items():
            if (one := cell(values, document, some)) is not None:
                found[column, name] = one
    if positions["true text"]:
        text = text_cells(entry, torch.tensor(positions["true text"]["document"]))
        found |= {(column, "all"): one for column, one in text.items()}
    return found


def gaps(entry: Entry, rivals: Sequence[Entry], positions: Mapping[str, Any]) -> Row:
    """Return how far an entry is ahead of the best rival: points of CA, paired, and the factor of R@10."""
    document, drawn = torch.tensor(positions["document"]), torch.tensor(positions["drawn"])

    def average(one: Entry, column: str) -> float:
        return float(one.values(column)[:, drawn].nanmean())

    best, recalled = (max(rivals, key=lambda one: average(one, column)) for column in ("CA", "R@10"))
    ahead = entry.values("CA").mean(0) - best.values("CA").mean(0)
    return {
        "row": entry.name,
        "answer": entry.answer,
        "CA, points": mean_interval(by_document(100 * ahead, document, drawn)),
        "ahead of": best.name,
        "R@10, factor": average(entry, "R@10") / max(average(recalled, "R@10"), 1e-9),
        "of that of": recalled.name,
    }


def common_seeds(*entries: Entry) -> list[int]:
    """Return the seeds that all models among these have been measured with."""
    return sorted(set.intersection(*({run["seed"] for run in entry.runs} for entry in entries if entry.model)))


def change_row(before: Entry, after: Entry, positions: Mapping[str, Any]) -> Row:
    """Return what a change brings, paired over positions and seeds: points of CA and R@10, the energy score.

    A baseline has no seed, so every seed is compared with it.
    """
    seeds = common_seeds(before, after)
    document, drawn = torch.tensor(positions["document"]), torch.tensor(positions["drawn"])
    columns = {"CA, points": ("CA", 100), "R@10, points": ("R@10", 100), "energy score": ("energy score", 1)}
    row: dict[str, str] = {"row": after.name, "answer": after.answer}
    for head, (column, factor) in columns.items():
        less, more = (
            replace(e, runs=[r for r in e.runs if not e.model or r["seed"] in seeds]) for e in (before, after)
        )
        change = factor * (more.values(column) - less.values(column))
        row[head] = str(cell(change, document, drawn))
    return row | {"seeds": ", ".join(map(str, seeds))}


def main_row(entry: Entry, found: Found, most_seeds: int) -> Row:
    """Return a line of the main table; where a model has fewer seeds than another, `seeds` says so."""
    columns = ("CA", "R@1", "R@10", "energy score", "l2", "l2-r", "PAR", "MI")
    row: dict[str, str] = {"row": entry.name, "answer": entry.answer, "seeds": told_seeds(entry, most_seeds)}
    row |= {column: str(found.get((column, "all"), NOT_RUN)) for column in columns}
    gaps = [run["context"] for run in entry.runs if run["context"]]
    worth = [gap["difference"] / gap["true context"] for gap in gaps if "difference" in gap]
    none = "too few documents" if gaps else "no loss"
    return row | {"context": f"{100 * mean(worth):.1f} %" if worth else none}


def told_seeds(entry: Entry, most_seeds: int) -> str:
    """Return how many seeds an entry was measured with."""
    if not entry.model:
        return "none"
    return f"{len(entry.runs)} of {most_seeds}" if len(entry.runs) < most_seeds else str(len(entry.runs))


def cost_row(entry: Entry, speed: Mapping[str, Any], most_seeds: int) -> Row:
    """Return what a model cost, a mean over its seeds."""
    costs = [run["costs"] for run in entry.runs]
    row: dict[str, str | int | float] = {"row": entry.name, "seeds": told_seeds(entry, most_seeds)}
    row["parameters"] = costs[0]["parameters"]
    for key, head in COSTS.items():
        known = [cost[key] for cost in costs if not isinstance(cost[key], str)]
        row[head] = round(mean(known)) if known else "not known"
    return row | {"sampled concepts/s": speed.get(entry.name, NOT_RUN)}


def notes(entries: Sequence[Entry]) -> str:
    """Return what a reader of the main table has to know: seeds of the columns of text, and rows that are missing."""
    decoded = sorted({run["seed"] for entry in entries for run in entry.runs if entry.model and "text" in run})
    settings = yaml.safe_load(Path(__file__).with_name("rows.yaml").read_text(encoding="utf-8"))
    there = {entry.name for entry in entries if entry.model}
    missing = [name for name in settings if name not in there]
    if len(there) == len(entries):
        missing.insert(0, "the baselines")
    lines = [f"l2-r and MI of models are of seed {', '.join(map(str, decoded))} alone."] if decoded else []
    return "\n".join([*lines, *([f"Not measured: {', '.join(missing)}."] if missing else [])]) + "\n"


def write_results(path: Path, entries: Sequence[Entry], table: Sequence[Found]) -> None:
    """Write every cell, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with hidden(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        for entry, found in zip(entries, table, strict=True):
            for (column, where), one in found.items():
                interval = one.interval
                numbers = [f"{v:.5g}" for v in (interval.mean, interval.half_width, one.deviation)]
                counts = [one.num_seeds, interval.num_positions, interval.num_documents]
                kind = "model" if entry.model else "baseline"
                writer.writerow([entry.name, kind, entry.answer, column, where, *numbers, *counts])
    publish(path)


def main(folder: str, out: str, speed: str = "") -> None:
    positions, entries = read(Path(folder))
    if not entries:
        sys.exit(f"nothing in {folder} is measured yet; run measure.py")
    table = [cells(entry, positions) for entry in entries]
    write_results(Path(out), entries, table)
    most = max(len(entry.runs) for entry in entries)
    print(to_markdown([main_row(entry, found, most) for entry, found in zip(entries, table, strict=True)]))
    print(notes(entries))
    names = [f"{first}-{last}" for first, last in RANGES]
    for column in BY_POSITION:
        print(f"{column} by row of the document:\n")
        rows = [
            {"row": entry.name, "answer": entry.answer}
            | {where: str(found.get((column, where), "no rows")) for where in names}
            for entry, found in zip(entries, table, strict=True)
        ]
        print(to_markdown(rows))
    rivals = [entry for entry in entries if not entry.model and entry.name not in NO_RIVAL]
    models = [entry for entry in entries if entry.model]
    if models and rivals:
        print("Ahead of the best baseline:\n")
        print(to_markdown([gaps(entry, rivals, positions) for entry in models]))
    there = {(entry.name, entry.answer): entry for entry in models}
    plain = [(there.get((e.name + PLAIN, e.answer)), e) for e in models]
    longer = [(e, there.get((e.name + LONGER, e.answer))) for e in models]
    linear = [(b, e) for b in entries if b.name == LINEAR for e in models if e.answer == b.answer]
    for title, pairs in (
        ("What a first guess changes, its row less the one without", plain),
        ("What four times the steps change", longer),
        (f"Draws less those of {LINEAR}", linear),
    ):
        rows = [
            change_row(before, after, positions)
            for before, after in pairs
            if before and after and common_seeds(before, after)
        ]
        if rows:
            print(f"{title}:\n")
            print(to_markdown(rows))
    if models:
        print("What the trainings cost:\n")
        speeds = json.loads(Path(speed).read_text(encoding="utf-8")) if speed else {}
        print(to_markdown([cost_row(one, speeds, most) for one in {e.name: e for e in models}.values()]))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: table.py MEASURED RESULTS.csv [SPEED.json]")
    main(*sys.argv[1:])
