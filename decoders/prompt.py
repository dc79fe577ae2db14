"""How context, concept and sentence lie in a row of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = Sequence[int] | int  # token ids, or a number of places for soft tokens


@dataclass(frozen=True)
class Hypothesis:
    """What was written before for N concepts, to be corrected.

    Attributes:
        texts: N sentences.
        concepts: raw concepts (N, D) of these sentences, encoded again.
    """

    texts: Sequence[str]
    concepts: Tensor


@dataclass(frozen=True)
class Prompt:
    """Rows of parts, tokens and soft tokens in any order, then a sentence and its end token, padded to one length L.

    Attributes:
        ids: (N, L) int64; meaningless where `soft` or not `mask`.
        mask: (N, L) bool, True = no padding.
        soft: (N, L) bool, True = place of a soft token; they are filled in the order of rows and places.
        target: (N, L) bool, True = a token of the sentence or the end token behind it.
    """

    ids: Tensor
    mask: Tensor
    soft: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "Prompt":
        """Return the rows on another device."""
        return Prompt(*(v.to(device) for v in (self.ids, self.mask, self.soft, self.target)))


def lay_out(rows: Sequence[Sequence[Part]], targets: Sequence[Sequence[int]], *, pad_left: bool = False) -> Prompt:
    """Lay parts out in rows, the target of each behind them.

    Args:
        rows: parts of each row, such as [begin token, ids of the context, number K of soft tokens].
        targets: token ids of each sentence with its end token; empty to generate.
        pad_left: pad on the left, to generate, else on the right, to train.
    """
    lengths = [sum(map(_size, parts)) + len(target) for parts, target in zip(rows, targets, strict=True)]
    ids = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
    mask, soft, target_places = (torch.zeros(ids.shape, dtype=torch.bool) for _ in range(3))
    for i, (parts, target) in enumerate(zip(rows, targets, strict=True)):
        place = ids.shape[1] - lengths[i] if pad_left else 0
        mask[i, place : place + lengths[i]] = True
        for part in parts:
            size = _size(part)
            if isinstance(part, int):
                soft[i, place : place + size] = True
            else:
                ids[i, place : place + size] = torch.tensor(part, dtype=torch.int64)
            place += size
        ids[i, place : place + len(target)] = torch.tensor(target, dtype=torch.int64)
        target_places[i, place : place + len(target)] = True
    return Prompt(ids, mask, soft, target_places)


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, white space folded, as they read in running text: behind a space."""
    folded = [" ".join(text.split()) for text in texts]
    if not folded:
        return []
    return tokenizer([f" {text}" if text else "" for text in folded], add_special_tokens=False)["input_ids"]


def _size(part: Part) -> int:
    return part if isinstance(part, int) else len(part)
