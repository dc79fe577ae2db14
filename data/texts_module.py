"""Concept stores as Lightning data whose batches know the text of every sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.batch import ConceptBatch, Piece
from data.module import ConceptDataModule
from data.windows import WindowRows

NOWHERE = -1  # in a place: padding, or a row that the store does not hold


@dataclass(frozen=True)
class SentenceText:
    """A sentence and what its document has before it.

    Attributes:
        text: the sentence.
        before: the text before it, "" at the start of a document.
    """

    text: str
    before: str


@dataclass(frozen=True, kw_only=True)
class PlacedBatch(ConceptBatch):
    """Windows of documents that know where each of their rows lies.

    Attributes:
        place: (B, S, 3) int64 number of the store, of the document in it and of the row in that; -1 where there is no
            such row. It stays on the CPU.
    """

    place: Tensor

    def to(self, device: torch.device | str) -> "PlacedBatch":
        """Returns the batch on another device, but for its places, which only the data module reads."""
        return PlacedBatch(**vars(super().to(device)), place=self.place)


Places = list[np.ndarray]  # (n, 3) of each piece of a row


class PlacedRows(Dataset[tuple[list[Piece], Places]]):
    """Rows for a batch, with the place (n, 3) of each concept in them.

    Attributes:
        rows: the rows without places.
        number: of their store.
    """

    def __init__(self, rows: WindowRows, number: int) -> None:
        self.rows, self.number = rows, number

    @property
    def lengths(self) -> np.ndarray:
        """Concepts in each row, int64 (rows,)."""
        return self.rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[list[Piece], Places]:
        windows = self.rows.windows[self.rows.starts[index] : self.rows.starts[index + 1]].tolist()
        return self.rows[index], [self.place(*window) for window in windows]

    def place(self, document: int, start: int, stop: int) -> np.ndarray:
        """Returns the places (stop - start, 3) of a window; an end of text, behind the last row, is nowhere."""
        place = np.array([(self.number, document, row) for row in range(start, stop)])
        place[place[:, 2] >= self.rows.store.lengths[document]] = NOWHERE
        return place


def pack_placed(items: Sequence[tuple[list[Piece], Places]]) -> PlacedBatch:
    """Stacks rows to a batch, as ConceptBatch.pack() does."""
    batch = ConceptBatch.pack([pieces for pieces, _ in items])
    place = np.full((*batch.mask.shape, 3), NOWHERE)
    for i, (_, places) in enumerate(items):
        row = np.concatenate(places)
        place[i, : len(row)] = row
    return PlacedBatch(**vars(batch), place=torch.from_numpy(place))


class TextDataModule(ConceptDataModule):
    """Windows of concept stores, as ConceptDataModule gives them, and the text of their sentences for who asks.

    Text is read for the few sentences of a batch that are asked for, not for all.

    Args:
        store: folder that "lcm encode" wrote, or a list of such folders.
        context_sentences: how many sentences before a sentence are given as the text before it: those that the decoder
            read in its training.
        options: as of ConceptDataModule.
    """

    collate = staticmethod(pack_placed)

    def __init__(self, store: str | list[str], *, context_sentences: int = 1, **options: Any) -> None:
        super().__init__(store, **options)
        if context_sentences < 0:
            raise ValueError(f"context_sentences must be at least 0, found {context_sentences}")
        self.context_sentences = context_sentences

    def rows(self, split: str, *, ends: bool = True) -> list[PlacedRows]:  # type: ignore[override]  # for pack_placed
        """Returns the rows of a split with their places, a data set for each store, as ConceptDataModule does."""
        return [PlacedRows(rows, number) for number, rows in enumerate(super().rows(split, ends=ends))]

    def texts(self, places: Tensor) -> list[SentenceText]:
        """Returns the sentences at places (N, 3)."""
        return [self.text(*place) for place in places.tolist()]

    def text(self, number: int, document: int, row: int) -> SentenceText:
        """Returns the sentence in a row of a document of a store; headings are no part of the text before it."""
        assert number >= 0, "there is no text in a place that is nowhere"
        store = self.stores[number]
        sentences = np.flatnonzero(store.levels(document)[:row] == 0)
        before = sentences[max(len(sentences) - self.context_sentences, 0) :].tolist()
        return SentenceText(store.text(document, row), " ".join(store.text(document, i) for i in before))
