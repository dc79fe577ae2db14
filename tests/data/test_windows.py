from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from data.windows import WindowRows, cut_windows
from encoders.hashing import HashingEncoder


def naive_windows(lengths: dict[int, int], length: int, stride: int) -> list[list[int]]:
    windows = []
    for document, num in lengths.items():
        last = max(num - length, 0)
        starts = [*range(0, num, length)] if stride == length else [*range(0, last, stride), last]
        windows += [[document, start, min(start + length, num)] for start in starts]
    return windows


@given(
    lengths=st.dictionaries(st.integers(0, 1000), st.integers(1, 300), max_size=8),
    length=st.integers(2, 64),
    stride=st.integers(1, 64),
)
def test_windows_are_those_of_a_loop(lengths: dict[int, int], length: int, stride: int) -> None:
    documents, nums = (np.array(list(some), dtype=np.int64) for some in (lengths.keys(), lengths.values()))
    windows = cut_windows(documents, nums, length, min(stride, length))
    assert windows.tolist() == naive_windows(lengths, length, min(stride, length))
    assert windows.dtype == np.int64


@given(num=st.integers(1, 300), length=st.integers(2, 64), stride=st.integers(1, 64))
def test_windows_cover_every_row_and_held_out_ones_cover_it_once(num: int, length: int, stride: int) -> None:
    documents, nums = np.array([7]), np.array([num])
    windows = cut_windows(documents, nums, length, min(stride, length)).tolist()
    assert all(document == 7 and 0 <= a < b <= num and b - a <= length for document, a, b in windows)
    assert {row for _, a, b in windows for row in range(a, b)} == set(range(num))
    held_out = [row for _, a, b in cut_windows(documents, nums, length, length).tolist() for row in range(a, b)]
    assert held_out == list(range(num))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    def tale(i: int) -> Document:
        heading = Block(f"Tale {i}", level=2, role="heading")
        text = Block(" ".join(f"The fox saw {i} or {j} crows." for j in range(2 + 3 * i)))
        return Document(f"Tale {i}", (heading, text), source="test")

    path = tmp_path_factory.mktemp("stores") / "s"
    return encode_corpus([tale(i) for i in range(9)], HashingEncoder(8), path, progress=False)


@pytest.mark.parametrize("packed", [False, True])
def test_rows_hold_each_window_once_as_views_of_the_store(store: ConceptStore, packed: bool) -> None:
    windows = cut_windows(np.arange(9), store.lengths, 12, 5)
    rows = WindowRows.packed(store, windows, 12, 0) if packed else WindowRows(store, windows)
    assert sorted(rows.windows.tolist()) == sorted(windows.tolist())
    seen = 0
    for i in range(len(rows)):
        row = rows[i]
        assert sum(len(concepts) for concepts, _ in row) == rows.lengths[i] <= 12
        for concepts, levels in row:
            document, start, stop = rows.windows[seen]
            assert concepts.dtype == np.float16 and not concepts.flags.writeable
            assert np.array_equal(concepts, store[document][start:stop])
            assert np.array_equal(levels, store.levels(document)[start:stop])
            seen += 1
    assert seen == len(windows)
    assert (len(rows) < len(windows)) == packed


@pytest.mark.parametrize("packed", [False, True])
def test_the_end_stands_behind_the_last_row_of_every_document(store: ConceptStore, packed: bool) -> None:
    end = np.arange(8, dtype=np.float32) / 3
    windows = cut_windows(np.arange(9), store.lengths + 1, 12, 12)  # what is left of a document may be its end alone
    rows = WindowRows.packed(store, windows, 12, 0, end=end) if packed else WindowRows(store, windows, end=end)
    pieces = [piece for row in rows for piece in row]
    assert all(concepts.dtype == np.float16 and level.dtype == np.int8 for concepts, level in pieces)
    in_order = sorted(zip(rows.windows.tolist(), pieces, strict=True), key=itemgetter(0))
    assert any(start == store.lengths[document] for (document, start, _), _ in in_order)
    for number in range(9):
        own = [piece for (document, _, _), piece in in_order if document == number]
        expected = np.concatenate((store[number], end[None].astype(np.float16)))
        np.testing.assert_array_equal(np.concatenate([concepts for concepts, _ in own]), expected)
        assert np.concatenate([level for _, level in own]).tolist() == [*store.levels(number).tolist(), 0]


def test_a_million_documents_take_tens_of_bytes_each(store: ConceptStore) -> None:
    num = 1_000_000
    windows = cut_windows(np.arange(num), np.full(num, 20), 2048, 1024)
    for rows in (WindowRows(store, windows), WindowRows.packed(store, windows, 2048, 0)):
        assert (rows.windows.nbytes + rows.starts.nbytes + rows.lengths.nbytes) / num < 41
