"""Several stores as one: which items of each make up an epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.loader import shuffled
from data.store import ConceptStore


def open_stores(paths: str | Sequence[str]) -> list[ConceptStore]:
    """Opens one store or several of one encoder.

    Raises:
        ValueError: no path is given, or two stores belong to different encoders.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    if not paths or not all(paths):
        raise ValueError("name the store that lcm encode wrote: --data.store STORE")
    first, *others = stores = [ConceptStore.open(path) for path in paths]
    for store in others:
        if (store.encoder, store.dim) != (first.encoder, first.dim):
            raise ValueError(
                f"{first.path} holds concepts of encoder {first.encoder[:20]} and width {first.dim}, {store.path} of "
                f"{store.encoder[:20]} and width {store.dim}; encode the stores that are to be mixed with one encoder"
            )
    return stores


def check_weights(weights: Sequence[float] | None, num_stores: int) -> None:
    """Raises ValueError if there is not one share for each store, or no share at all."""
    if weights is None:
        return
    if len(weights) != num_stores:
        raise ValueError(f"need a weight for each store, found {len(weights)} weights and {num_stores} stores")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
        raise ValueError(f"weights must be finite, at least 0, and not all 0; found {list(weights)}")


def refuse_empty(
    stores: Sequence[ConceptStore], sizes: Sequence[int], weights: Sequence[float] | None, what: str
) -> None:
    """Raises ValueError if no store has what is asked of it, or one has a weight and nothing to give."""
    asked = weights or [1.0] * len(stores)
    bare = [store.path for store, size, weight in zip(stores, sizes, asked, strict=True) if weight and not size]
    if bare and (weights or len(bare) == len(stores)):
        raise ValueError(f"there is no {what} in {' or '.join(map(str, bare))}; encode more documents")


def apportion(num_items: int, weights: Sequence[float]) -> np.ndarray:
    """Returns how many of the first `num_items` items come from each source, int64 (K,).

    The method of Sainte-Laguë: the next item goes to the source with the largest weight / (items so far + 1/2). Shares
    are right to about an item, and a longer sequence never takes from a source what a shorter one gave it.
    """
    share = np.array(weights, dtype=np.float64) / math.fsum(weights)
    # What every source surely has by then; for the rest, about one item a source, the rule is followed.
    counts = np.maximum(np.floor((num_items - len(share)) * share + 0.5), 0).astype(np.int64)
    for _ in range(num_items - int(counts.sum())):
        counts[np.argmax(share / (counts + 0.5))] += 1
    return counts


@dataclass(frozen=True)
class Mixture:
    """Which items of several sources make up each epoch, in a mixed order: a function of seed and epoch alone.

    Each source is a never-ending stream of permutations of its own that goes on where the last epoch left it: small
    sources come several times an epoch, large ones are continued in the next, none leaves anything out in the long run.
    All epochs have as many items as the sources that take part.

    Attributes:
        sizes: number of items of each source.
        weights: share of the items of an epoch that each source gives; None for its share of all items.
        seed: of all orders.
    """

    sizes: Sequence[int]
    weights: Sequence[float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_weights(self.weights, len(self.sizes))
        assert all(size or not share for size, share in zip(self.sizes, self.shares, strict=True)), "an empty source"

    @property
    def shares(self) -> Sequence[float]:
        """The weights, or what stands for them."""
        return self.sizes if self.weights is None else self.weights

    def __len__(self) -> int:
        return sum(size for size, share in zip(self.sizes, self.shares, strict=True) if share)

    def items(self, epoch: int) -> np.ndarray:
        """Returns the items of an epoch, int64 (len,), numbered through all sources one after the other."""
        if len(self.sizes) == 1:
            return shuffled(self.sizes[0], self.seed, epoch)
        start, stop = (apportion(number * len(self), self.shares) for number in (epoch, epoch + 1))
        first = np.cumsum(self.sizes) - self.sizes
        parts = [first[k] + self._stream(k, int(start[k]), int(stop[k])) for k in np.flatnonzero(stop > start).tolist()]
        return np.concatenate(parts)[shuffled(len(self), self.seed, epoch)]

    def _stream(self, source: int, start: int, stop: int) -> np.ndarray:
        """Returns items `start` to `stop` of a source's permutations one behind the other."""
        size, seed = self.sizes[source], self.seed + (source + 1) * 1_000_003
        passes = range(start // size, -(-stop // size))
        order = np.concatenate([shuffled(size, seed, number) for number in passes])
        return order[start - passes.start * size : stop - passes.start * size]
