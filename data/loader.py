"""Batches in an order that depends on the seed and the epoch alone, and that goes on where a checkpoint was written."""

import heapq
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

_BUCKET = 32  # batches that are sorted by length together
_STEP = 4  # lengths that count as one


def shuffled(num_items: int, seed: int, epoch: int) -> np.ndarray:
    """Returns a permutation of range(num_items), int64, the same for the same seed and epoch on every machine."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_items, generator=generator).numpy()


def cut(order: np.ndarray, size: int) -> np.ndarray:
    """Returns the items of an order as rows (num, size), the last one filled up with -1."""
    rows = np.full((-(-len(order) // size), size), -1)
    rows.reshape(-1)[: len(order)] = order
    return rows


def bucketed(order: np.ndarray, lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Returns batches (num, batch_size) of the items of an order, about equally long within a batch.

    Some batches' worth of items that follow each other are sorted by length and cut; the batches are shuffled.

    Args:
        order: item numbers, shuffled by the caller.
        lengths: of all items, by number.
        batch_size: items a batch; the one that holds the last is filled up with -1.
        seed: of the order of batches.
        epoch: the order of batches is another in each.
    """
    buckets = cut(order, batch_size * _BUCKET)
    keys = np.where(buckets >= 0, lengths[buckets], lengths.max(initial=0) + 1)  # what fills up stays last
    buckets = np.take_along_axis(buckets, np.argsort(keys, axis=1, kind="stable"), axis=1)
    batches = buckets.reshape(-1, batch_size)[: -(-len(order) // batch_size)]
    return batches[shuffled(len(batches), seed, epoch)]


def budgeted(
    order: np.ndarray,
    lengths: np.ndarray,
    inner: np.ndarray,
    budget: int,
    *,
    seed: int,
    epoch: int,
    num_batches: int | None = None,
) -> list[np.ndarray]:
    """Returns batches of the items of an order, each of as many as fill a budget when padded to the longest of them.

    All items are sorted, the longest first, by length and then by the length of a part that is padded by itself now and
    then; both in steps of _STEP, so that which items share a batch is chance. The batches are shuffled. While the items
    of an order stay the same, so does the number of batches. An item longer than the budget is a batch alone.

    Args:
        order: item numbers, shuffled by the caller.
        lengths: of all items, by number.
        inner: lengths of the part, by number.
        budget: items of a batch times the length of its longest.
        seed: of the order of batches.
        epoch: the order of batches is another in each.
        num_batches: as many as there are to be at least; the fullest are halved until there are.
    """
    length, part = (-(-of[order].astype(np.int64) // _STEP) * _STEP for of in (lengths, inner))
    rank = np.lexsort((-part, -length))  # stable: among equals the caller's order holds
    order, length = order[rank], length[rank]
    batches = []
    start = 0
    while start < len(order):
        stop = start + max(budget // max(int(length[start]), 1), 1)
        batches.append(order[start:stop])
        start = stop
    fullest = [(-len(batch), i) for i, batch in enumerate(batches)]
    heapq.heapify(fullest)
    for new in range(len(batches), min(num_batches or 0, len(order))):
        i = heapq.heappop(fullest)[1]
        batches[i], other = np.array_split(batches[i], 2)
        batches.append(other)
        for changed in (i, new):
            heapq.heappush(fullest, (-len(batches[changed]), changed))
    return [batches[i] for i in shuffled(len(batches), seed, epoch).tolist()]


def keyed_generator(seed: int, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a generator that is a function of the seed and the key, such as (kind, step, process).

    Randomness that is a function of the step needs no saved state: a resumed run equals an uninterrupted one.
    """
    for part in key:
        seed = (seed * 1_000_003 + part + 1) % 2**63
    return torch.Generator(device).manual_seed(seed)


class EpochBatches(Sampler[list[int]]):
    """Yields the batches of an epoch, from `start` on.

    Args:
        batches_of: epoch -> its batches for all ranks, (num, batch_size) item numbers, -1 where a batch is short, or a
            list of them; every epoch has as many as the first, and what it has more is left out.
        rank: this process.
        world_size: number of processes; each takes every world_size-th batch, and what does not divide is left out.
    """

    def __init__(
        self, batches_of: Callable[[int], np.ndarray | list[np.ndarray]], *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.batches_of, self.rank, self.world_size = batches_of, rank, world_size
        self.sampler = self  # where Lightning looks for set_epoch()
        self.epoch = self.start = 0
        self.num_batches = len(batches_of(0)) // world_size
        if not self.num_batches:
            raise ValueError(f"there are fewer batches than processes ({world_size}); lower batch_size or encode more")

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each. A resumed position holds for its own epoch only."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.batches_of(self.epoch)[self.rank : self.num_batches * self.world_size : self.world_size]
        for batch in batches[self.start :]:
            yield batch[batch >= 0].tolist()


class ResumableLoader(DataLoader[Any]):
    """A DataLoader over EpochBatches whose position is saved in Lightning's checkpoints.

    Lightning keeps the state of any loader that has state_dict() and load_state_dict().
    """

    def __init__(self, dataset: Dataset[Any], batches: EpochBatches, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self.batches = batches
        self.num_yielded = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator serves as well as torch's iterator
        self.num_yielded = self.batches.start
        for batch in super().__iter__():
            self.num_yielded += 1
            yield batch
        self.batches.start = 0

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and how many of its batches have been handed out."""
        return {"epoch": self.batches.epoch, "batches": self.num_yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that `state` counts."""
        self.batches.epoch, self.batches.start = state["epoch"], state["batches"]
