import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.packing import best_fit, even_fit, pack

PIECES = st.integers(1, 40).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), max_size=80), st.just(capacity))
)


def naive_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Returns the room left in each row after best fit decreasing, one piece after the other, as textbooks have it."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


@given(PIECES)
def test_it_is_best_fit_decreasing(pieces: tuple[list[int], int]) -> None:
    lengths, capacity = pieces
    row = best_fit(np.bincount(lengths) if lengths else np.zeros(1, dtype=np.int64), capacity)
    filled = np.bincount(row, weights=sorted(lengths, reverse=True))
    assert sorted((capacity - filled).tolist()) == naive_best_fit(lengths, capacity)


@given(PIECES, st.integers(0, 3))
def test_every_piece_is_in_one_row_and_no_row_is_too_full(pieces: tuple[list[int], int], seed: int) -> None:
    lengths, capacity = np.array(pieces[0], dtype=np.int64), pieces[1]
    order, starts = pack(lengths, capacity, seed)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    rows = [lengths[order[a:b]].sum() for a, b in pairwise(starts)]
    assert all(0 < row <= capacity for row in rows)
    assert len(rows) == len(naive_best_fit(lengths.tolist(), capacity))


def test_few_rows_are_even() -> None:
    counts = np.bincount([10] * 13)
    rows = [np.bincount(fit(counts, 100)).tolist() for fit in (best_fit, even_fit)]
    assert rows == [[10, 3], [7, 6]]


def test_a_seed_decides_which_pieces_meet_and_nothing_else() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 500)
    (order, starts), again, other = pack(lengths, 64, 0), pack(lengths, 64, 0), pack(lengths, 64, 1)
    assert np.array_equal(order, again[0]) and np.array_equal(starts, again[1])
    assert not np.array_equal(order, other[0])
    assert np.array_equal(lengths[order], lengths[other[0]]) and np.array_equal(starts, other[1])


def test_no_pieces_give_no_rows() -> None:
    order, starts = pack(np.empty(0, dtype=np.int64), 8)
    assert (len(order), starts.tolist()) == (0, [0])


def test_a_piece_longer_than_a_row_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="longer than a row"):
        pack(np.array([3, 9]), 8)


@pytest.mark.parametrize("capacity", [64, 2048, 8192])
def test_many_short_pieces_fill_rows_and_take_little_time(capacity: int) -> None:
    lengths = np.minimum(1 + np.random.default_rng(0).geometric(1 / 25, 300_000), capacity)
    start = time.perf_counter()
    _, starts = pack(lengths, capacity)
    assert time.perf_counter() - start < 5  # 0.1 s; a search through open rows would take hours
    assert lengths.sum() / ((len(starts) - 1) * capacity) > 0.97


def test_all_lengths_of_long_rows_take_little_time() -> None:
    start = time.perf_counter()
    pack(np.arange(1, 8193), 8192)
    assert time.perf_counter() - start < 10
