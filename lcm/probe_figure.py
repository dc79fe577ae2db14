"""The figure of "lcm probe": plain values in, Figure out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

# Okabe and Ito's colours, which the colour-blind tell apart; markers and legend repeat what they say.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = "osD^vPX"
LENGTH_LEVEL = 0.3  # of noise, in the panel by length
STYLE: dict[Any, Any] = {"font.size": 9.5, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}
Encoder = Mapping[str, Any]  # what lcm.probing.probe_encoder returns


def draw_probe(found: Sequence[Encoder]) -> Figure:
    """Return the figure: six panels, or three where no decoder was trained."""
    with rc_context(STYLE):
        panels: list[Callable[[Axes, Sequence[Encoder]], None]] = [draw_words, draw_spectrum, draw_next]
        if all("decoder" in one for one in found):
            panels[1:1] = [draw_bleu, draw_cosine]
            panels.insert(3, draw_lengths)
        rows = len(panels) // 3
        figure = Figure(figsize=(10.0, 3.2 * rows + 0.5), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        for panel, ax in zip(panels, figure.subplots(rows, 3, squeeze=False).flat, strict=True):
            panel(ax, found)
        handles = [
            Line2D([], [], color=colour(i), marker=MARKERS[i % len(MARKERS)], label=one["encoder"])
            for i, one in enumerate(found)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    return figure


def colour(i: int) -> str:
    """Return the colour of the i-th encoder."""
    return COLOURS[i % len(COLOURS)]


def draw_words(ax: Axes, found: Sequence[Encoder]) -> None:
    """Draw the average precision of guessed words against noise; dotted: by frequency alone."""
    for i, one in enumerate(found):
        levels = one["words"]["levels"]
        _line(ax, i, [row["level"] for row in levels], [row["average_precision"] for row in levels], len(found))
    ax.axhline(found[0]["words"]["by_frequency"][0], color="0.5", linestyle=":", linewidth=1.2)
    ax.annotate("by frequency alone", (1.0, found[0]["words"]["by_frequency"][0]), **_BESIDE)
    ax.set_ylim(bottom=0)
    _name(ax, "Words read off by a linear map", "average precision", _NOISE)


def draw_bleu(ax: Axes, found: Sequence[Encoder]) -> None:
    """Draw the BLEU of decoded sentences against noise."""
    for i, one in enumerate(found):
        levels = one["decoder"]["levels"]
        _line(ax, i, [row["level"] for row in levels], [row["bleu"] for row in levels], len(found))
    ax.set_ylim(bottom=0)
    _name(ax, "Decoded sentence", "BLEU", _NOISE)


def draw_cosine(ax: Axes, found: Sequence[Encoder]) -> None:
    """Draw the cosine of decoded sentences against noise, from that of two random sentences (0) to 1."""
    for i, one in enumerate(found):
        levels, chance = one["decoder"]["levels"], one["decoder"]["chance_cosine"]
        values = [[(value - chance) / (1 - chance) for value in row["cosine"]] for row in levels]
        _line(ax, i, [row["level"] for row in levels], values, len(found))
    ax.set_ylim(0, 1)
    _name(ax, "Decoded sentence, encoded again", "cosine above chance (0 to 1)", _NOISE)


def draw_lengths(ax: Axes, found: Sequence[Encoder]) -> None:
    """Draw the BLEU of decoded sentences by length, without noise and with."""
    names = list(dict.fromkeys(part["words"] for one in found for part in one["decoder"]["lengths"]))
    for i, one in enumerate(found):
        for level, style in ((0.0, "-"), (LENGTH_LEVEL, "--")):
            parts = one["decoder"]["lengths"]
            scores = [next(row for row in part["scores"] if row["level"] == level) for part in parts]
            at = [names.index(part["words"]) for part in parts]
            _line(ax, i, at, [row["bleu"] for row in scores], len(found), style=style, span=2.5 * (len(names) - 1))
    ax.set_xticks(range(len(names)), names)
    ax.set_ylim(bottom=0)
    styles = [
        Line2D([], [], color="0.3", linestyle="-", label="no noise"),
        Line2D([], [], color="0.3", linestyle="--", label=f"noise {LENGTH_LEVEL:g}"),
    ]
    ax.legend(handles=styles, frameon=False, fontsize=8.5, handlelength=2.6)
    _name(ax, "Decoded sentence by length", "BLEU", "words of the sentence")


def draw_spectrum(ax: Axes, found: Sequence[Encoder]) -> None:
    """Draw the share of the variance of each principal component; a tick on the axis marks the effective rank."""
    lowest = 1.0
    for i, one in enumerate(found):
        share = np.array(one["spectrum"]["share"])
        rank = one["spectrum"]["effective_rank"]
        kept = share[: one["spectrum"]["dims_99"]]
        lowest = min(lowest, float(kept[-1]))
        ax.plot(np.arange(1, len(kept) + 1), kept, color=colour(i), linewidth=1.6)
        height = float(np.interp(rank, np.arange(1, len(share) + 1), share))
        ax.plot(
            [rank], [height], color=colour(i), marker=MARKERS[i % len(MARKERS)], markersize=7, markeredgecolor="white"
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(bottom=lowest * 0.7)
    ax.annotate(
        "marker: effective rank\nline: to 99 % of the variance", (0.04, 0.05), xycoords="axes fraction", **_SMALL
    )
    _name(ax, "Spectrum of the concepts", "share of the variance", "principal component")


def draw_next(ax: Axes, found: Sequence[Encoder]) -> None:
    """Draw the contrastive accuracy of three predictors of the next concept."""
    names = ("ridge regression", "recent mean", "copy the last")
    for i, one in enumerate(found):
        rows = one["next"]["rows"]
        values = [(n, rows[name]["contrastive accuracy"]) for n, name in enumerate(names) if name in rows]
        at = [n + _shift(i, len(found), 0.5) for n, _ in values]
        ax.errorbar(at, *_bars([value for _, value in values]), linestyle="none", **_marks(i, 6.5))
    ax.axhline(0.5, color="0.5", linestyle=":", linewidth=1.2)
    ax.annotate("chance", (1.0, 0.5), **_BESIDE)
    ax.set_xticks(range(len(names)), ["ridge on the\nlast concepts", "recent\nmean", "copy\nthe last"])
    ax.set_xlim(-0.5, len(names) - 0.5)
    _name(ax, "Next concept, test documents", "contrastive accuracy", "")


def _line(
    ax: Axes,
    i: int,
    at: Sequence[float],
    values: Sequence[Sequence[float | None]],
    num: int,
    *,
    style: str = "-",
    span: float = 0.5,
) -> None:
    """Draw the line of the i-th of `num` encoders with 95 % intervals, a little aside so that bars do not hide bars."""
    moved = [x + _shift(i, num, 0.03 * span) for x in at]
    ax.errorbar(moved, *_bars(values), linestyle=style, linewidth=1.6, **_marks(i, 4.5))


def _shift(i: int, num: int, width: float) -> float:
    return width * (i - (num - 1) / 2) / max(num - 1, 1)


def _marks(i: int, size: float) -> dict[str, Any]:
    marker = MARKERS[i % len(MARKERS)]
    return {"color": colour(i), "marker": marker, "markersize": size, "elinewidth": 0.9, "capsize": 0}


def _bars(values: Sequence[Sequence[float | None]]) -> tuple[list[float], np.ndarray]:
    """Return values and the lengths (2, N) of their bars below and above; no bounds, no bar."""
    middle = [float(value[0] or 0.0) for value in values]
    ends = [[m if bound is None else bound for bound in value[1:]] for m, value in zip(middle, values, strict=True)]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    return middle, np.maximum(np.stack([np.array(middle) - low, high - np.array(middle)]), 0.0)


def _name(ax: Axes, title: str, value: str, over: str) -> None:
    ax.set_title(title, loc="left")
    ax.set_ylabel(value)
    ax.set_xlabel(over)
    ax.grid(axis="y", color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)


_NOISE = "noise, share of the variance"
_SMALL: dict[str, Any] = {"fontsize": 8, "color": "0.35"}
_BESIDE: dict[str, Any] = {
    **_SMALL,
    "xycoords": ("axes fraction", "data"),
    "xytext": (0, 3),
    "textcoords": "offset points",
    "ha": "right",
}
