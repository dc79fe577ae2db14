"""A batch of concept windows."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Piece = tuple[np.ndarray, np.ndarray]  # concepts (n, D), float16, and levels (n,), int8: views of a store


@dataclass(frozen=True)
class ConceptBatch:
    """Windows of documents, padded on the right.

    Attributes:
        concepts: raw concepts (B, S, D), float32; zeros where padded.
        mask: (B, S) bool, True = a real sentence.
        level: (B, S) int64, 0 = sentence, 1 scene, 2 chapter, 3 part, 4 book.
        document: (B, S) int64 number of the piece within its row, -1 where padded; None if no row holds two pieces.
    """

    concepts: Tensor
    mask: Tensor
    level: Tensor
    document: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.concepts.shape[:2]
        assert self.mask.shape == self.level.shape == shape, (self.mask.shape, self.level.shape, shape)
        assert self.document is None or self.document.shape == shape, (self.document, shape)

    def __len__(self) -> int:
        return len(self.concepts)

    @property
    def target(self) -> Tensor:
        """(B, S) bool, True = a real sentence that is to be predicted, so no heading and no padding."""
        return self.mask & (self.level == 0)

    def to(self, device: torch.device | str) -> "ConceptBatch":
        """Returns the batch on another device."""
        document = None if self.document is None else self.document.to(device, non_blocking=True)
        concepts, mask, level = (v.to(device, non_blocking=True) for v in (self.concepts, self.mask, self.level))
        return ConceptBatch(concepts, mask, level, document)

    @classmethod
    def pad(cls, concepts: list[Tensor], levels: list[Tensor]) -> "ConceptBatch":
        """Stack windows (S_i, D) with levels (S_i,) into rows of the longest window's length."""
        num = max(len(c) for c in concepts)
        lengths = torch.tensor([len(c) for c in concepts])
        stack = torch.nn.utils.rnn.pad_sequence
        return cls(
            concepts=stack([c.float() for c in concepts], batch_first=True),
            mask=torch.arange(num) < lengths[:, None],
            level=stack([v.long() for v in levels], batch_first=True),
        )

    @classmethod
    def pack(cls, rows: Sequence[Sequence[Piece]]) -> "ConceptBatch":
        """Copies rows of pieces behind one another, each number once, into a batch as long as its longest row."""
        lengths = [[len(concepts) for concepts, _ in row] for row in rows]
        shape = len(rows), max(map(sum, lengths))
        # From 4 MB on numpy asks for huge pages, torch does not: a fresh batch of 50 MB is filled three times as fast.
        concepts = torch.from_numpy(np.empty((*shape, rows[0][0][0].shape[1]), dtype=np.float32))
        level, document = np.zeros(shape, dtype=np.int64), np.full(shape, -1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
            for i, row in enumerate(rows):
                stop = sum(lengths[i])
                if len(row) == 1:
                    (half, level[i, :stop]), document[i, :stop] = row[0], 0
                else:
                    half = np.concatenate([piece for piece, _ in row])
                    level[i, :stop] = np.concatenate([levels for _, levels in row])
                    document[i, :stop] = np.repeat(np.arange(len(row)), lengths[i])
                concepts[i, :stop] = torch.from_numpy(half)  # numpy converts float16 five times slower
                concepts[i, stop:] = 0
        packed = torch.from_numpy(document) if max(map(len, rows)) > 1 else None
        return cls(concepts, torch.from_numpy(document >= 0), torch.from_numpy(level), packed)
