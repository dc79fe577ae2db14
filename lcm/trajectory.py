"""Pictures of a document's way through concept space: arrays in, Axes out.

A plane of principal components shows only a few percent of what sentence embeddings hold, and the axes say how much. So
there are two pictures: the path in the plane, and the cosine of each sentence with each point of the outline, which
uses all of D.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lcm.basis import Basis, FloatArray, fit_basis
from lcm.labels import place_labels, shorten
from lcm.smoothing import curve, smooth_path

__all__ = ["Basis", "fit_basis", "plot_similarity", "plot_trajectory", "trajectory_figure"]

ANCHOR = "#d1495b"
ASPECT, MARGIN = 1.2, 1.4  # width of the frame over its height; its size over that of the path and anchors
MAX_LABELS = 10  # more anchors than that carry their numbers only


def plot_trajectory(
    concepts: npt.ArrayLike,
    *,
    basis: Basis,
    anchors: npt.ArrayLike | None = None,
    anchor_labels: Sequence[str] | None = None,
    background: npt.ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    smooth: float | None = None,
    components: tuple[int, int] = (0, 1),
) -> Axes:
    """Draw the path of a document through the plane of a basis, its colour running with the position.

    Dots are the sentences; the line is their path, smoothed, since sentence by sentence it is a tangle. Start and end
    are marked, the points of the outline stand as numbered anchors, up to ten of them labelled, and the corpus lies
    behind as a faint cloud. One unit is as long on both axes; dots far off the path may lie beyond the frame.

    Args:
        concepts: (S, D) raw concepts in the order of the document, S >= 2.
        basis: the plane, fitted on the corpus, so that documents can be compared.
        anchors: (M, D) concepts of the outline's points.
        anchor_labels: M texts; long ones are shortened.
        background: (N, D) concepts of the corpus; a few thousand are enough.
        ax: where to draw; a new figure if not given (`ax.figure.savefig` writes it).
        title: heading of the plot.
        smooth: standard deviation of the Gaussian over positions, in sentences; 0 draws the raw path; a thirtieth of
            the document if not given.
        components: which two axes of the basis to draw.

    Raises:
        ValueError: fewer than two concepts, concepts of another width, or labels that do not match the anchors.
    """
    points = basis.project(concepts)[:, components]
    if len(points) < 2:
        raise ValueError(f"a trajectory needs at least two sentences, found {len(points)}; write more of them")
    marks = np.zeros((0, 2), np.float32) if anchors is None else basis.project(anchors)[:, components]
    _check_labels(anchor_labels, len(marks))
    ax = ax or Figure(figsize=(7.2, 5.6), layout="constrained").subplots()
    if background is not None:
        cloud = basis.project(background)[:, components]
        x, y = cloud.T
        ax.scatter(x, y, s=4, color="0.55", alpha=0.18, linewidths=0, zorder=1, rasterized=True, label="corpus")
    path = curve(smooth_path(points, smooth), smooth)
    _draw_path(ax, points, path)
    _set_limits(ax, np.concatenate([path, marks]))
    _decorate(ax, basis, components, title)
    _draw_anchors(ax, marks)
    texts = [""] * len(marks) if anchor_labels is None or len(marks) > MAX_LABELS else list(anchor_labels)
    place_labels(ax, np.concatenate([marks, path[[0, -1]]]), [*texts, "start", "end"], avoid=path)
    return ax


def plot_similarity(
    concepts: npt.ArrayLike,
    anchors: npt.ArrayLike,
    *,
    anchor_labels: Sequence[str] | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    mean: npt.ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    smooth: float | None = None,
) -> Axes:
    """Draw the cosine of each sentence with each point of the outline, over the position: a row for each point.

    A text that follows its outline is bright along the framed spans; where the brightest row leaves them, it strayed.

    Args:
        concepts: (S, D) raw concepts in the order of the document.
        anchors: (M, D) concepts of the outline's points, in order.
        anchor_labels: M texts; long ones are shortened.
        mean: (D,) mean of the corpus, taken off before the cosine: what all sentences share would hide the differences.
        spans: for each point its own sentences [start, stop), framed; an empty span (3, 3) is left out.
        ax: where to draw; a new figure if not given.
        title: heading of the plot.
        smooth: as in `plot_trajectory`.
    """
    centre = np.float32(0) if mean is None else np.asarray(mean, dtype=np.float32)
    sentences, points = (_unit(np.asarray(rows, dtype=np.float32) - centre) for rows in (concepts, anchors))
    similarity = smooth_path(sentences @ points.T, smooth).T  # (M, S)
    num_points, num_sentences = similarity.shape
    _check_labels(anchor_labels, num_points)
    if spans is not None and len(spans) != num_points:
        raise ValueError(f"{len(spans)} spans for {num_points} points of the outline; give one for each")
    ax = ax or Figure(figsize=(7.2, _similarity_height(num_points)), layout="constrained").subplots()
    extent = (-0.5, num_sentences - 0.5, num_points - 0.5, -0.5)
    image = ax.imshow(similarity, aspect="auto", cmap="Blues", interpolation="nearest", extent=extent)
    image.set_clim(*np.quantile(similarity, (0.02, 0.99)))
    for row, (start, stop) in enumerate(spans or []):
        if stop > start:
            ax.add_patch(_frame(row, start, stop))
    _label_rows(ax, anchor_labels, num_points)
    ax.set_xlabel("sentence", fontsize=9)
    ax.spines[:].set_visible(False)
    _colour_bar(ax, image, "cosine with the point")
    if title:
        ax.set_title(title, loc="left")
    return ax


def trajectory_figure(
    concepts: npt.ArrayLike,
    *,
    basis: Basis,
    anchors: npt.ArrayLike | None = None,
    anchor_labels: Sequence[str] | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    background: npt.ArrayLike | None = None,
    title: str | None = None,
    smooth: float | None = None,
) -> Figure:
    """A figure of both pictures, the path above and the similarities below; only the path if there are no anchors.

    The arguments are those of `plot_trajectory` and `plot_similarity`. Save it with `figure.savefig(path)`.
    """
    if anchors is None:
        return _root(plot_trajectory(concepts, basis=basis, background=background, title=title, smooth=smooth))
    heights = (5.0, _similarity_height(len(np.asarray(anchors))))
    figure = Figure(figsize=(7.6, sum(heights)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=heights)
    plot_similarity(
        concepts, anchors, anchor_labels=anchor_labels, spans=spans, mean=basis.mean, ax=below, smooth=smooth
    )
    plot_trajectory(
        concepts,
        basis=basis,
        anchors=anchors,
        anchor_labels=anchor_labels,
        background=background,
        ax=above,
        title=title,
        smooth=smooth,
    )
    return figure


def _draw_path(ax: Axes, points: FloatArray, path: FloatArray) -> None:
    """Sentences as dots, the path as a line of many segments, both coloured by position; start and end."""
    norm, colours = Normalize(0, len(points) - 1), _colours()
    x, y = points.T
    size = float(np.clip(2500 / len(points), 5, 16))
    ax.scatter(x, y, c=np.arange(len(x)), cmap=colours, norm=norm, s=size, alpha=0.5, linewidths=0, zorder=2)
    ax.plot(*path.T, color="white", linewidth=4.2, solid_capstyle="round", solid_joinstyle="round", zorder=3)
    line = LineCollection(list(np.stack([path[:-1], path[1:]], axis=1)), cmap=colours, norm=norm, zorder=4)
    line.set(array=np.linspace(0, len(points) - 1, len(path) - 1), linewidth=2.2, capstyle="round")
    ax.add_collection(line)
    for point, colour, marker, name in ((path[0], colours(0.0), "o", "start"), (path[-1], colours(1.0), "s", "end")):
        x, y = point[:1], point[1:]
        ax.scatter(x, y, s=75, color=[colour], edgecolors="white", linewidths=1.5, marker=marker, zorder=6, label=name)
    _colour_bar(ax, line, "sentence")


def _draw_anchors(ax: Axes, marks: FloatArray) -> None:
    """Outline points as numbered discs; a few are joined by a thin line in order, the way that was planned."""
    if not len(marks):
        return
    x, y = marks.T
    if len(marks) <= MAX_LABELS:
        ax.plot(x, y, color=ANCHOR, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.6, zorder=5)
    for number, (x, y) in enumerate(marks, start=1):
        above = 7 + number / 1000  # a disc covers the one before with its number
        ax.scatter(x, y, s=120, color=ANCHOR, edgecolors="white", linewidths=1.2, zorder=above)
        ax.text(
            x, y, str(number), color="white", size=7, weight="bold", ha="center", va="center_baseline", zorder=above
        )


def _set_limits(ax: Axes, points: FloatArray) -> None:
    """Frame the path and its anchors, with room for labels; the cloud and single sentences may lie beyond."""
    low, high = points.min(0), points.max(0)
    middle, shape = (low + high) / 2, np.array([ASPECT, 1.0])
    half = shape * max(float(((high - low) / shape).max()) * MARGIN, 1e-6) / 2
    ax.set_xlim(float(middle[0] - half[0]), float(middle[0] + half[0]))
    ax.set_ylim(float(middle[1] - half[1]), float(middle[1] + half[1]))
    ax.set_aspect("equal", adjustable="box")


def _decorate(ax: Axes, basis: Basis, components: tuple[int, int], title: str | None) -> None:
    for axis, component in zip((ax.xaxis, ax.yaxis), components, strict=True):
        axis.set_label_text(
            f"component {component + 1} ({100 * basis.explained[component]:.1f} % of the variance)", fontsize=9
        )
    ax.tick_params(length=0, labelsize=7, labelcolor="0.45")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("0.75")
    if title:
        ax.set_title(shorten(title, 70), loc="left")


def _similarity_height(num_points: int) -> float:
    return 0.9 + min(0.26 * num_points, 5.0)  # inches


def _label_rows(ax: Axes, labels: Sequence[str] | None, num_points: int) -> None:
    texts = [""] * num_points if labels is None else [f"  {shorten(label, 36)}" for label in labels]
    ax.set_yticks(range(num_points), [f"{number}{text}" for number, text in enumerate(texts, start=1)], fontsize=8)
    ax.tick_params(length=0, labelsize=8)


def _frame(row: int, start: int, stop: int) -> Rectangle:
    """A frame around the sentences [start, stop) of a row."""
    frame = Rectangle((start - 0.5, row - 0.46), stop - start, 0.92, fill=False, edgecolor=ANCHOR, linewidth=1.6)
    frame.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white", alpha=0.8)])
    return frame


def _colour_bar(ax: Axes, drawn: ScalarMappable, label: str) -> None:
    bar = _root(ax).colorbar(drawn, cax=ax.inset_axes((1.02, 0, 0.03, 1)))  # as high as the axes, whatever their aspect
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(length=2, labelsize=7)
    bar.outline.set_visible(False)


def _root(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _colours() -> Colormap:
    """Viridis without its palest end, which vanishes on white; readable to the colour-blind, and in grey."""
    from matplotlib import colormaps

    return LinearSegmentedColormap.from_list("position", colormaps["viridis"](np.linspace(0.0, 0.93, 256)))


def _unit(rows: FloatArray) -> FloatArray:
    """Rows scaled to length 1; a zero row stays zero."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12), dtype=np.float32)


def _check_labels(labels: Sequence[str] | None, num_points: int) -> None:
    if labels is not None and len(labels) != num_points:
        raise ValueError(f"{len(labels)} labels for {num_points} anchors; give one for each")
