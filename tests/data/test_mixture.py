from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block, Document
from data.encode import encode_corpus
from data.loader import shuffled
from data.mixture import Mixture, apportion, check_weights, open_stores, refuse_empty
from encoders.hashing import HashingEncoder

WEIGHTS = st.lists(st.floats(0, 10) | st.integers(0, 1000), min_size=1, max_size=6).filter(lambda w: sum(w) > 1e-6)


@given(weights=WEIGHTS, num=st.integers(0, 3000), more=st.integers(0, 50))
def test_a_share_grows_with_the_sequence_and_is_right_to_about_an_item(
    weights: list[float], num: int, more: int
) -> None:
    counts, later = apportion(num, weights), apportion(num + more, weights)
    assert counts.sum() == num and later.sum() == num + more
    assert (later >= counts).all()
    quota = num * np.array(weights) / sum(weights)
    assert (np.abs(counts - quota) < len(weights) / 2 + 1).all()
    assert all(count == 0 for count, weight in zip(counts, weights, strict=True) if weight == 0)


def test_large_numbers_are_apportioned_at_once_and_exactly() -> None:
    sizes = [7, 10**9, 3 * 10**9 + 1, 123_456]
    for epoch in (1, 2, 1000):
        assert apportion(epoch * sum(sizes), sizes).tolist() == [epoch * size for size in sizes]


def test_without_weights_every_epoch_holds_every_item_once() -> None:
    mixture = Mixture([5, 30, 1], seed=3)
    for epoch in range(4):
        assert sorted(mixture.items(epoch).tolist()) == list(range(36))
    assert mixture.items(0).tolist() != mixture.items(1).tolist()


def test_one_source_is_shuffled_and_no_more() -> None:
    assert np.array_equal(Mixture([20], seed=2).items(5), shuffled(20, 2, 5))


def test_shares_follow_the_weights_and_nothing_is_left_out_in_the_long_run() -> None:
    sizes, weights = [10, 200, 50], [1.0, 1.0, 0.5]
    mixture = Mixture(sizes, weights)
    epochs = [mixture.items(epoch) for epoch in range(6)]
    assert {len(items) for items in epochs} == {len(mixture)} == {260}
    for items in epochs:
        source = np.searchsorted(np.cumsum(sizes), items, side="right")
        assert np.bincount(source).tolist() == [104, 104, 52]
    seen = Counter(np.concatenate(epochs).tolist())
    for first, last in ((0, 10), (10, 210), (210, 260)):  # each stream is whole permutations, one behind the other
        times = [seen[item] for item in range(first, last)]
        assert max(times) - min(times) <= 1
    assert min(seen[item] for item in range(260)) >= 3


def test_a_large_source_goes_on_where_the_last_epoch_left_it() -> None:
    mixture = Mixture([2, 100], [4.0, 1.0])  # 20 or 21 of the hundred in each epoch of 102
    large = [items[items >= 2].tolist() for items in (mixture.items(epoch) for epoch in range(4))]
    assert len({item for items in large for item in items}) == sum(map(len, large))


def test_a_weight_of_zero_leaves_a_source_out() -> None:
    mixture = Mixture([5, 0, 8], [0.0, 0.0, 2.0])
    assert len(mixture) == 8
    assert sorted(mixture.items(1).tolist()) == list(range(5, 13))


def test_items_are_a_function_of_seed_and_epoch() -> None:
    make = [Mixture([5, 9], [2.0, 1.0], seed=seed) for seed in (0, 0, 1)]
    make[0].items(3)  # what was asked before does not matter
    first, again, other = (mixture.items(7).tolist() for mixture in make)
    assert first == again != other


@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, float("nan")], [1.0, -0.1], [0.0, 0.0], [float("inf"), 1.0], [1.0, 1.0, 1.0]]
)
def test_bad_weights_are_errors(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        check_weights(weights, 2)


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def run(name: str, dim: int = 8) -> Path:
        documents = [Document(f"T{i}", (Block(f"One thing {i}. Two things."),), source="test") for i in range(4)]
        return encode_corpus(documents, HashingEncoder(dim), tmp_path / name, progress=False).path

    return run


def test_stores_of_one_encoder_are_opened(make: Make) -> None:
    one, two = str(make("one")), str(make("two"))
    assert [str(store.path) for store in open_stores(one)] == [one]
    assert [str(store.path) for store in open_stores([one, two])] == [one, two]


def test_stores_of_different_encoders_are_an_error_that_names_both(make: Make) -> None:
    one, other = make("one"), make("other", 16)
    with pytest.raises(ValueError, match=f"{one} holds concepts of encoder .* {other} of .* one encoder"):
        open_stores([str(one), str(other)])


@pytest.mark.parametrize("paths", ["", [], [""]])
def test_no_store_is_an_error_that_says_how_to_name_one(paths: str | list[str]) -> None:
    with pytest.raises(ValueError, match="name the store"):
        open_stores(paths)


def test_a_store_without_what_its_weight_asks_for_is_named(make: Make) -> None:
    stores = open_stores([str(make("one")), str(make("two"))])
    refuse_empty(stores, [3, 0], None, "train sentence")
    refuse_empty(stores, [3, 0], [1.0, 0.0], "train sentence")
    with pytest.raises(ValueError, match=r"no train sentence in [^ ]*two; encode more"):
        refuse_empty(stores, [3, 0], [1.0, 0.5], "train sentence")
    with pytest.raises(ValueError, match=r"no test sentence in [^ ]*one or [^ ]*two; encode more"):
        refuse_empty(stores, [0, 0], None, "test sentence")
