"""A batch of concept windows."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ConceptBatch:
    """Windows of documents, padded on the right.

    Attributes:
        concepts: raw concepts (B, S, D), float32; zeros where padded.
        mask: (B, S) bool, True = a real sentence.
        level: (B, S) int64, 0 = sentence, 1 scene, 2 chapter, 3 part, 4 book.
        document: (B, S) int64 ids where several documents are packed into a row, else None.
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
        """Return the batch on another device."""
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
