from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Pack:
    """Tokens of whole sentences, one behind the other without padding, the shortest sentence first.

    Attributes:
        rows: which sentence of the call each one is, int64 (n,).
        ids: tokens, int32 (L,).
        lengths: tokens of each sentence, int64 (n,), ascending; their sum is L.
    """

    rows: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each sentence begins, and at last L, int32 (n + 1,): the `cu_seqlens` of flash attention."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)

    @cached_property
    def positions(self) -> np.ndarray:
        """Place of each token in its sentence, from 0, int32 (L,)."""
        first = np.repeat(self.starts[:-1], self.lengths)  # of each token's sentence
        return np.arange(len(self.ids), dtype=np.int32) - first

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(sentences, tokens of each) of every stretch of equal lengths: dense batches, without a mask."""
        values, counts = np.unique(self.lengths, return_counts=True)
        return [(int(count), int(value)) for value, count in zip(values, counts, strict=True)]

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence."""
        return int(self.lengths[-1])

    def split(self, budget: int) -> Iterator["Pack"]:
        """Yields the same sentences in packs of a smaller budget."""
        for part in pack_tokens(self.ids, self.lengths, budget):
            yield Pack(self.rows[part.rows], part.ids, part.lengths)


def pack_tokens(ids: np.ndarray, lengths: np.ndarray, budget: int) -> Iterator[Pack]:
    """Yields packs of about equal size that hold all sentences, sorted by their token count.

    Equal lengths come together, so that attention finds few distinct ones in a pack. No pack has more tokens than the
    budget, but that of a single sentence which is longer.

    Args:
        ids: tokens of all sentences, behind one another, (L,).
        lengths: tokens of each sentence, (N,); one that has none is in no pack.
        budget: tokens a pack.
    """
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    sorted_lengths = lengths[order]
    starts = np.cumsum(lengths) - lengths
    ends = np.cumsum(sorted_lengths)
    first = done = 0
    while first < len(order):
        left = int(ends[-1]) - done
        size = -(-left // -(-left // budget))  # equal packs: what is left, divided by how many it needs
        last = max(first + 1, int(np.searchsorted(ends, done + size, side="right")))
        rows = order[first:last]
        yield Pack(rows, _gather(ids, starts[rows], lengths[rows]), lengths[rows])
        first, done = last, int(ends[last - 1])


def _gather(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the tokens of some sentences behind one another."""
    shift = starts - (np.cumsum(lengths) - lengths)  # from the place in the pack to the place in the call
    return ids[np.arange(int(lengths.sum())) + np.repeat(shift, lengths)].astype(np.int32, copy=False)
