import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.packed.pack import pack_tokens


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 100))
def test_every_token_is_in_one_pack_of_at_most_the_budget(lengths: list[int], budget: int) -> None:
    ids = np.arange(sum(lengths), dtype=np.int32)
    starts = np.cumsum([0, *lengths])
    packs = list(pack_tokens(ids, np.array(lengths, dtype=np.int64), budget))
    rows = np.concatenate([np.zeros(0, np.int64), *(pack.rows for pack in packs)])
    assert sorted(rows) == [row for row, length in enumerate(lengths) if length]
    for pack in packs:
        assert len(pack.ids) <= budget or len(pack.rows) == 1
        assert (np.diff(pack.lengths) >= 0).all() and pack.longest == pack.lengths.max()
        assert pack.starts.dtype == pack.ids.dtype == np.int32
        for row, first, stop in zip(pack.rows, pack.starts, pack.starts[1:], strict=False):
            np.testing.assert_array_equal(pack.ids[first:stop], ids[starts[row] : starts[row + 1]])
            np.testing.assert_array_equal(pack.positions[first:stop], range(lengths[row]))
        repeated = [length for number, length in pack.runs for _ in range(number)]
        np.testing.assert_array_equal(repeated, pack.lengths)


def test_packs_are_of_equal_size() -> None:
    packs = list(pack_tokens(np.zeros(4100, np.int32), np.full(410, 10), 4096))
    assert [len(pack.ids) for pack in packs] == [2050, 2050]


def test_a_pack_splits_into_smaller_ones_of_the_same_rows() -> None:
    lengths = np.array([7, 3, 5, 3, 9])
    (pack,) = pack_tokens(np.arange(27, dtype=np.int32), lengths, 100)
    parts = list(pack.split(10))
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), pack.rows)
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), pack.ids)
    assert max(len(part.ids) for part in parts) <= 10
