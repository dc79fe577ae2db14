import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block, Document
from data.split import SPLITS, assign_splits, split_of

KEYS = st.integers(0, 10**6).map(lambda number: hashlib.sha256(str(number).encode()).hexdigest())


@given(st.lists(KEYS, max_size=30), st.randoms())
def test_no_split_is_empty_and_order_does_not_matter(keys: list[str], random) -> None:
    splits, moved = assign_splits(keys)
    by_key = dict(zip(keys, splits, strict=True))
    if len(by_key) >= 3:
        assert set(by_key.values()) == set(SPLITS)
        assert len(moved) <= 2
    else:
        assert set(splits) <= {"train"}
    shuffled = random.sample(keys, len(keys))
    assert dict(zip(shuffled, assign_splits(shuffled)[0], strict=True)) == by_key


def test_splits_are_eighty_ten_ten_and_of_the_document_alone() -> None:
    documents = [Document(str(n), (Block("Yes."),), "test") for n in range(2000)]
    splits, moved = assign_splits([document.key for document in documents])
    assert not moved
    assert splits == [split_of(document) for document in documents]
    assert splits.count("validation") == pytest.approx(200, abs=45)
    assert splits.count("test") == pytest.approx(200, abs=45)


def test_the_nearest_document_moves() -> None:
    at = [f"{int(position * 16**8):08x}{'0' * 56}" for position in (0.1, 0.79, 0.5, 0.95)]
    splits, moved = assign_splits(at)
    assert splits == ["train", "validation", "train", "test"]
    assert moved == {at[1]: "validation"}
