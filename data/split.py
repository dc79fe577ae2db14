from collections.abc import Sequence

import numpy as np

from data.document import Document

SPLITS = ("train", "validation", "test")
_UPPER = {"train": 0.8, "validation": 0.9, "test": 1.0}
_LOWER = {"train": 0.0, "validation": 0.8, "test": 0.9}
MIN_DOCUMENTS = 3


def split_of(document: Document) -> str:
    """Returns "train", "validation" or "test", 80/10/10, by the document's key alone and not by its neighbours."""
    return _split_at(position_of(document.key))


def assign_splits(keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns each document's split, and the keys that had to move, with the split they moved to.

    A small corpus may leave a split empty. The document nearest to it then moves in, out of a split that keeps another
    one; equal documents move together. Below three different documents there is nothing to hold out: all are "train".

    Args:
        keys: of the documents, hex sha256.
    """
    splits = {key: _split_at(position_of(key)) for key in keys}
    if len(splits) < MIN_DOCUMENTS:
        return ["train"] * len(keys), {key: "train" for key, split in splits.items() if split != "train"}
    moved: dict[str, str] = {}
    for empty in SPLITS:
        sizes = {split: list(splits.values()).count(split) for split in SPLITS}
        if not sizes[empty]:
            spare = [key for key, split in splits.items() if sizes[split] > 1]
            nearest = min(spare, key=lambda key: (_distance(position_of(key), empty), key))
            splits[nearest] = moved[nearest] = empty
    return [splits[key] for key in keys], moved


def position_of(key: str) -> float:
    """Returns where in [0, 1) a document's key, hex sha256, puts it."""
    return int(key[:13], 16) / 16**13  # 52 bits, exact in a float


def split_positions(positions: np.ndarray) -> np.ndarray:
    """Returns for each position (N,) the index of its split in SPLITS, int8 (N,)."""
    return np.searchsorted([_UPPER[split] for split in SPLITS[:-1]], positions, side="right").astype(np.int8)


def _split_at(position: float) -> str:
    return next(split for split in SPLITS if position < _UPPER[split])


def _distance(position: float, split: str) -> float:
    """Returns how far a position lies from the interval of a split."""
    return max(_LOWER[split] - position, position - _UPPER[split], 0.0)
