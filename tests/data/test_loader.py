import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from data.loader import EpochBatches, ResumableLoader, bucketed, budgeted, cut, keyed_generator, shuffled


def batches_of(epoch: int) -> np.ndarray:
    return cut(shuffled(11, 3, epoch), 2)


def loader(**options: int) -> ResumableLoader:
    return ResumableLoader(list(range(11)), EpochBatches(batches_of, **options), collate_fn=list)  # type: ignore[arg-type]


def test_an_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    orders = {key: shuffled(50, *key).tolist() for key in ((1, 2), (1, 3), (2, 3))}
    assert sorted(orders[1, 2]) == list(range(50))
    assert orders[1, 2] == shuffled(50, 1, 2).tolist()
    assert len({tuple(order) for order in orders.values()}) == 3


@given(num=st.integers(0, 400), batch_size=st.integers(1, 9), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_batches_are_those_of_a_loop_over_buckets(num: int, batch_size: int, seed: int, epoch: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 20, num, dtype=np.int32)
    order = shuffled(num, seed, epoch)
    expected: list[list[int]] = []
    for start in range(0, num, batch_size * 32):
        bucket = sorted(order[start : start + batch_size * 32].tolist(), key=lambda i: lengths[i])
        expected += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    expected = [expected[i] for i in shuffled(len(expected), seed, epoch)]
    found = bucketed(order, lengths, batch_size, seed, epoch)
    assert [batch[batch >= 0].tolist() for batch in found] == expected


def test_batches_hold_items_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1003)
    batches = bucketed(shuffled(1003, 0, 3), lengths, 8, seed=0, epoch=3)
    assert sorted(batches[batches >= 0].tolist()) == list(range(1003))
    assert len(batches) == len(bucketed(shuffled(1003, 1, 4), lengths, 8, seed=1, epoch=4)) == 126
    padded = sum((batch >= 0).sum() * lengths[batch[batch >= 0]].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()


@given(num=st.integers(0, 300), budget=st.integers(1, 200), seed=st.integers(0, 3), more=st.integers(0, 5))
def test_a_budget_is_kept_and_every_item_comes_once(num: int, budget: int, seed: int, more: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 60, num, dtype=np.int32)
    counts = []
    for epoch in range(3):
        found = budgeted(shuffled(num, seed, epoch), lengths, lengths // 2, budget, seed=seed, epoch=epoch)
        assert sorted(i for batch in found for i in batch.tolist()) == list(range(num))
        assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= budget for batch in found)
        counts.append(len(found))
    assert len(set(counts)) == 1  # whatever the order
    asked = min(counts[0] + more, num)
    found = budgeted(shuffled(num, seed, 0), lengths, lengths, budget, seed=seed, epoch=0, num_batches=asked)
    assert len(found) >= asked and all(map(len, found))
    assert sorted(i for batch in found for i in batch.tolist()) == list(range(num))


def test_budgeted_batches_are_padded_little_and_differ_by_epoch() -> None:
    random = np.random.default_rng(0)
    inner = random.integers(5, 60, 4000)
    lengths = inner + random.integers(0, 30, 4000)
    first, second = (budgeted(shuffled(4000, 0, epoch), lengths, inner, 2000, seed=0, epoch=epoch) for epoch in (0, 1))
    for of, most in ((lengths, 1.06), (inner, 1.25)):
        assert sum(len(batch) * of[batch].max() for batch in first) < most * of.sum()
    assert {frozenset(batch.tolist()) for batch in first} != {frozenset(batch.tolist()) for batch in second}


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_resumed_epoch_yields_what_was_left(stop: int) -> None:
    whole = loader()
    whole.batches.set_epoch(4)
    expected = list(whole)
    killed = loader()
    killed.batches.set_epoch(4)
    seen = [batch for batch, _ in zip(killed, range(stop), strict=False)]
    resumed = loader()
    resumed.load_state_dict({"epoch": 4, "batches": len(seen)})
    resumed.batches.set_epoch(4)
    assert seen + list(resumed) == expected
    resumed.batches.set_epoch(5)
    assert len(list(resumed)) == len(expected)


def test_the_state_counts_batches_that_were_handed_out() -> None:
    it = loader()
    stream = iter(it)
    next(stream), next(stream)
    assert it.state_dict() == {"epoch": 0, "batches": 2}


def test_processes_see_disjoint_batches_of_equal_number() -> None:
    ranks = [list(loader(rank=rank, world_size=4)) for rank in range(4)]
    assert {len(r) for r in ranks} == {1}
    items = [i for r in ranks for batch in r for i in batch]
    assert len(items) == len(set(items))


def test_too_many_processes_are_an_error() -> None:
    with pytest.raises(ValueError, match="fewer batches than processes"):
        EpochBatches(batches_of, world_size=9)


def test_a_keyed_generator_is_a_function_of_seed_and_key() -> None:
    keys = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)]
    drawn = [torch.rand(3, generator=keyed_generator(5, *key)).tolist() for key in keys]
    assert len({tuple(d) for d in drawn}) == 4
    assert torch.rand(3, generator=keyed_generator(5, 0, 0, 1)).tolist() == drawn[0]


def test_it_is_a_dataloader() -> None:
    assert isinstance(loader(), DataLoader)
