import pytest
import torch
from torch.utils.data import DataLoader

from data.loader import EpochBatches, ResumableLoader, keyed_generator, shuffled


def batches_of(epoch: int) -> list[list[int]]:
    order = shuffled(11, 3, epoch)
    return [order[i : i + 2] for i in range(0, 11, 2)]


def loader(**options: int) -> ResumableLoader:
    return ResumableLoader(list(range(11)), EpochBatches(batches_of, **options), collate_fn=list)  # type: ignore[arg-type]


def test_an_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    assert sorted(shuffled(50, 1, 2)) == list(range(50))
    assert shuffled(50, 1, 2) == shuffled(50, 1, 2)
    assert shuffled(50, 1, 2) != shuffled(50, 1, 3) != shuffled(50, 2, 3)


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
