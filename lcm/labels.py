"""Labels beside points of a plot, each where it covers least: no dependency, no iteration, the same every time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.text import Annotation

MAX_CHARS = 60
LINE_CHARS = 24
DISTANCES = (10.0, 22.0, 38.0, 58.0)  # points (1/72 inch) from the marker to the nearest side of the label
WEIGHT_CROWD = 30.0  # of the share of `avoid` under a label, against 10 for the covered share of the label itself
DIRECTIONS = tuple(np.deg2rad(degrees) for degrees in range(0, 360, 30))


def shorten(text: str, max_chars: int = MAX_CHARS) -> str:
    """Text on one line, cut at a word with an ellipsis if it is longer than `max_chars`."""
    text = " ".join(text.split())
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(",;:.- ") + "…"


def place_labels(
    ax: Axes, points: npt.NDArray[np.float32], labels: Sequence[str], *, avoid: npt.NDArray[np.float32], size: float = 8
) -> list[Annotation]:
    """Write a label beside each point (M, 2), where it covers least of the others, the points and `avoid` (N, 2).

    An empty label is not written, but its point is kept free. Takes the limits of the axes as they are, so draw all
    else first.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays the axes out, so that pixels are known
    scale = figure.dpi / 72
    frame = np.asarray(ax.get_window_extent().extents)
    pixels, crowd = (ax.transData.transform(part) for part in (points, avoid))
    taken = [np.concatenate([point - 6 * scale, point + 6 * scale]) for point in pixels]
    notes = []
    for point, position, label in zip(points, pixels, labels, strict=True):
        if not label.strip():
            continue
        text = textwrap.fill(shorten(label), LINE_CHARS)
        lines = text.split("\n")
        extent = np.array([0.56 * size * max(map(len, lines)) + 3, 1.25 * size * len(lines) + 2]) * scale
        offset = _best_offset(position, extent, scale, frame, np.array(taken), crowd)
        taken.append(_box(position, offset, extent))
        note = ax.annotate(
            text,
            tuple(point),
            xytext=tuple(offset / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            linespacing=1.05,
            zorder=6.5,  # a leader passes under the discs of other points
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.35", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )
        notes.append(note)
    return notes


def _best_offset(
    position: np.ndarray, extent: np.ndarray, scale: float, frame: np.ndarray, taken: np.ndarray, crowd: np.ndarray
) -> np.ndarray:
    """Centre of the label relative to its point, in pixels: the nearest of the candidates that covers least."""
    best, least = np.zeros(2), np.inf
    for distance in DISTANCES:
        for angle in DIRECTIONS:
            toward = np.array([np.cos(angle), np.sin(angle)])
            offset = toward * (distance * scale + np.abs(toward) * extent / 2)
            box = _box(position, offset, extent)
            covered = float(np.sum(_overlap(box, taken))) / float(np.prod(extent))
            inside = np.all((crowd > box[:2]) & (crowd < box[2:]), axis=1).mean() if len(crowd) else 0.0
            outside = 1 - float(_overlap(box, frame[None])[0]) / float(np.prod(extent))
            cost = 10 * covered + 10 * outside + WEIGHT_CROWD * float(inside) + distance / 100
            if cost < least - 1e-9:
                best, least = offset, cost
    return best


def _box(position: np.ndarray, offset: np.ndarray, extent: np.ndarray) -> np.ndarray:
    centre = position + offset
    return np.concatenate([centre - extent / 2, centre + extent / 2])


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that `box` (4,) = (left, bottom, right, top) shares with each of `others` (K, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.asarray(np.prod(np.clip(sides, 0, None), axis=1))
