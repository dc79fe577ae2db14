from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose

from lcm.basis import Basis, fit_basis
from lcm.labels import shorten
from lcm.smoothing import smooth_path
from lcm.trajectory import plot_similarity, plot_trajectory, trajectory_figure

S, M, D = 30, 4, 7
LABELS = ["A widow spoils her daughter, and makes her stepdaughter do all the work", "The well", "Snow", "Home"]
SPANS = [(0, 10), (10, 10), (10, 22), (22, 30)]


def walk(length: int = S, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, D)).cumsum(0).astype(np.float32)


@pytest.fixture(scope="module")
def basis() -> Basis:
    return fit_basis(walk(300, seed=1))


def path_of(ax: Axes) -> LineCollection:
    return next(part for part in ax.collections if isinstance(part, LineCollection))


def texts(ax: Axes) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def test_the_raw_path_has_a_segment_between_each_two_sentences(basis: Basis) -> None:
    ax = plot_trajectory(walk(), basis=basis, smooth=0)
    segments = np.array(path_of(ax).get_segments())
    assert segments.shape == (S - 1, 2, 2)
    expected = basis.project(walk())
    assert_allclose(segments[:, 0], expected[:-1], rtol=1e-6)
    assert_allclose(segments[:, 1], expected[1:], rtol=1e-6)
    colour = path_of(ax).get_array()
    assert colour is not None and colour[0] == 0 and colour[-1] == S - 1 and (np.diff(colour) > 0).all()


def test_a_smoothed_path_is_a_continuous_curve_from_start_to_end(basis: Basis) -> None:
    ax = plot_trajectory(walk(), basis=basis)
    segments = np.array(path_of(ax).get_segments())
    assert len(segments) >= 400
    assert_allclose(segments[1:, 0], segments[:-1, 1])
    smoothed = smooth_path(basis.project(walk()))
    assert_allclose(segments[0, 0], smoothed[0], rtol=1e-5)
    assert_allclose(segments[-1, 1], smoothed[-1], rtol=1e-5)


def test_the_plot_says_what_it_shows(basis: Basis) -> None:
    ax = plot_trajectory(walk(), basis=basis, anchors=walk(M, seed=2), anchor_labels=LABELS, title="Mother Holle")
    assert ax.get_title(loc="left") == "Mother Holle"
    assert ax.get_xlabel() == f"component 1 ({100 * basis.explained[0]:.1f} % of the variance)"
    assert ax.get_ylabel() == f"component 2 ({100 * basis.explained[1]:.1f} % of the variance)"
    shown = texts(ax)
    assert shown[:M] == ["1", "2", "3", "4"] and shown[-2:] == ["start", "end"]
    assert shown[M].startswith("A widow spoils her daughter") and shown[M].endswith("…")
    assert shown[M + 1 : -2] == LABELS[1:]
    assert any(axes.get_ylabel() == "sentence" for axes in ax.child_axes)  # the colour bar


def test_many_anchors_carry_their_numbers_only(basis: Basis) -> None:
    anchors = walk(15, seed=2)
    ax = plot_trajectory(walk(), basis=basis, anchors=anchors, anchor_labels=["point"] * 15)
    assert texts(ax) == [*map(str, range(1, 16)), "start", "end"]


def test_labels_do_not_cover_each_other(basis: Basis) -> None:
    anchors = np.repeat(walk(1, seed=2), M, axis=0)  # all in one place
    ax = plot_trajectory(walk(), basis=basis, anchors=anchors, anchor_labels=LABELS)
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts[M : 2 * M]]  # without their leaders
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            assert not box.overlaps(other)


def test_the_frame_holds_the_path_and_the_anchors_at_equal_scale(basis: Basis) -> None:
    anchors = walk(M, seed=2) + 20
    ax = plot_trajectory(walk(), basis=basis, anchors=anchors, background=walk(50, seed=3) * 9)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for x, y in [*basis.project(anchors), *smooth_path(basis.project(walk()))]:
        assert left < x < right and bottom < y < top
    assert ax.get_aspect() == 1


def test_it_draws_into_the_axes_it_is_given(basis: Basis) -> None:
    figure = Figure()
    above, below = figure.subplots(2)
    assert plot_trajectory(walk(), basis=basis, ax=above) is above
    assert plot_similarity(walk(), walk(M), ax=below) is below
    assert len(figure.axes) == 2 and above.figure is figure


def test_pyplot_stays_untouched(basis: Basis) -> None:
    import matplotlib.pyplot as plt

    before, settings = plt.get_fignums(), dict(mpl.rcParams)
    trajectory_figure(walk(), basis=basis, anchors=walk(M))
    assert plt.get_fignums() == before and dict(mpl.rcParams) == settings


def test_similarity_is_the_centred_cosine_with_its_spans_framed() -> None:
    concepts, anchors, mean = walk(), walk(M, seed=2), walk(1, seed=3)[0]
    ax = plot_similarity(concepts, anchors, anchor_labels=LABELS, spans=SPANS, mean=mean, smooth=0)
    a, b = concepts - mean, anchors - mean
    expected = (b @ a.T) / np.linalg.norm(b, axis=1)[:, None] / np.linalg.norm(a, axis=1)
    assert_allclose(ax.images[0].get_array(), expected, rtol=1e-4, atol=1e-6)
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert rows[1:] == ["2  The well", "3  Snow", "4  Home"] and rows[0].startswith("1  A widow")
    frames = [(patch.get_x() + 0.5, patch.get_width()) for patch in ax.patches]
    assert frames == [(0, 10), (10, 12), (22, 8)]  # the empty span has no frame


@pytest.mark.parametrize("length", [2, 3, 1200])
def test_every_length_makes_a_png(basis: Basis, length: int) -> None:
    figure = trajectory_figure(
        walk(length), basis=basis, anchors=walk(M), anchor_labels=LABELS, background=walk(100), title="T" * 200
    )
    file = BytesIO()
    figure.savefig(file, format="png", dpi=50)
    assert file.getvalue().startswith(b"\x89PNG")


def test_the_figure_without_anchors_is_the_path_alone(basis: Basis) -> None:
    assert len(trajectory_figure(walk(), basis=basis).axes) == 1
    assert len(trajectory_figure(walk(), basis=basis, anchors=walk(M)).axes) == 2


def test_a_document_that_stands_still(basis: Basis) -> None:
    ax = plot_trajectory(np.ones((5, D)), basis=basis)
    assert ax.get_xlim()[0] < ax.get_xlim()[1]


def test_what_does_not_fit_is_one_sentence(basis: Basis) -> None:
    with pytest.raises(ValueError, match="at least two sentences, found 1"):
        plot_trajectory(walk(1), basis=basis)
    with pytest.raises(ValueError, match="3 labels for 4 anchors"):
        plot_trajectory(walk(), basis=basis, anchors=walk(M), anchor_labels=LABELS[:3])
    with pytest.raises(ValueError, match="1 spans for 4 points"):
        plot_similarity(walk(), walk(M), spans=[(0, 1)])


def test_shorten_cuts_at_a_word() -> None:
    assert shorten("She  leaves\nhome") == "She leaves home"
    assert shorten("She leaves home, and goes", 18) == "She leaves home…"
    assert shorten("x" * 30, 10) == "x" * 9 + "…"
