"""How context, concept and sentence lie in a row of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """Rows of begin token, context, K soft tokens, sentence, end token, padded to one length L.

    Attributes:
        ids: (N, L) int64; meaningless where `soft` or not `mask`.
        mask: (N, L) bool, True = no padding.
        soft: (N, L) bool, True = place of a soft token, K in each row.
        target: (N, L) bool, True = a token of the sentence or the end token behind it.
    """

    ids: Tensor
    mask: Tensor
    soft: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "Prompt":
        """Return the rows on another device."""
        return Prompt(*(v.to(device) for v in (self.ids, self.mask, self.soft, self.target)))


def lay_out(
    contexts: Sequence[Sequence[int]],
    sentences: Sequence[Sequence[int]],
    *,
    num_soft: int,
    begin: Sequence[int],
    pad_left: bool = False,
) -> Prompt:
    """Lay token ids out in rows; the soft tokens stand between context and sentence, so they are read last and nearest.

    Args:
        contexts: token ids of the text before, may be empty.
        sentences: token ids of the sentence with its end token; empty to generate.
        num_soft: number K of soft tokens.
        begin: ids that each row begins with.
        pad_left: pad on the left, to generate, else on the right, to train.
    """
    rows = [[*begin, *before, *[0] * num_soft, *after] for before, after in zip(contexts, sentences, strict=True)]
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask, soft, target = (torch.zeros(len(rows), length, dtype=torch.bool) for _ in range(3))
    for i, (row, after) in enumerate(zip(rows, sentences, strict=True)):
        start = length - len(row) if pad_left else 0
        stop, first = start + len(row), start + len(row) - len(after)
        ids[i, start:stop] = torch.tensor(row)
        mask[i, start:stop] = True
        soft[i, first - num_soft : first] = True
        target[i, first:stop] = True
    return Prompt(ids, mask, soft, target)


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, white space folded, as they read in running text: behind a space."""
    folded = [" ".join(text.split()) for text in texts]
    if not folded:
        return []
    return tokenizer([f" {text}" if text else "" for text in folded], add_special_tokens=False)["input_ids"]
