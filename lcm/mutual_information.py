"""What the text before a sentence says about it, as a small language model reads both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Told:
    """What contexts tell of N sentences: `nats` (N,) float64, over `num_tokens` (N,); negative where they mislead."""

    nats: Tensor
    num_tokens: Tensor

    @property
    def mean(self) -> float:
        """Nats a token, over all tokens."""
        return float(self.nats.sum() / self.num_tokens.sum())


class MutualInformation:
    """Mutual information of sentences with the text before them: NLL(sentence) - NLL(sentence | text before).

    As in arXiv:2412.08821, which prints the other sign: larger is better, the context makes the sentence likelier. The
    sentences before stand one on a line, and a new line before the sentence, with and without them. The contexts are
    read once, however many texts are then put behind them.

    Args:
        model: causal language model, in eval mode.
        tokenizer: its tokenizer.
        contexts: sentences before each of N sentences, of which at least one.
        num_before: how many of them are read, the last ones.
        max_tokens: longest text that is measured, in tokens; the rest of a longer one is left out.
        batch_size: contexts read together; they stay in memory as keys and values.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        contexts: Sequence[Sequence[str]],
        *,
        num_before: int = 10,
        max_tokens: int = 80,
        batch_size: int = 16,
    ) -> None:
        if not contexts or not all(contexts):
            raise ValueError("each sentence needs one before it to be compared with; leave out the first of a document")
        self.model: Any = model
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.new_line: list[int] = self.tokens(["\n"])[0]
        texts = ["\n".join(line(sentence) for sentence in before[-num_before:]) for before in contexts]
        rows = [tokens + self.new_line for tokens in self.tokens(texts)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # rows of a batch need little padding
        self.batches = [order[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        self.read = [self.start([rows[i] for i in batch]) for batch in self.batches]
        self.alone = self.start([self.new_line])

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def start(self, rows: Sequence[list[int]]) -> tuple[Any, Tensor, Tensor]:
        """Read rows of tokens: their keys and values, the mask (B, L) and the logits (B, V) of what comes next."""
        ids, mask = padded(rows, left=True)
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        out = self.model(ids, attention_mask=mask.long(), position_ids=positions, use_cache=True, logits_to_keep=1)
        return out.past_key_values, mask, out.logits[:, -1].float()

    def told(self, sentences: Sequence[str]) -> Told:
        """Return what the contexts tell of one text each, in their order; an empty text is told nothing of."""
        assert len(sentences) == sum(map(len, self.batches)), (len(sentences), self.batches)
        rows = [ids[: self.max_tokens] for ids in self.tokens([line(sentence) for sentence in sentences])]
        nats = torch.zeros(len(rows), dtype=torch.float64)
        for batch, start in zip(self.batches, self.read, strict=True):
            some = [rows[i] for i in batch]
            nats[batch] = self.nll(some, repeated(self.alone, len(some))) - self.nll(some, start)
        return Told(nats, torch.tensor([len(row) for row in rows]))

    @torch.no_grad()
    def nll(self, rows: Sequence[list[int]], start: tuple[Any, Tensor, Tensor]) -> Tensor:
        """Return the negative log likelihood (B,) of rows of tokens behind what was read, which stays as it was."""
        cache, before, first = start
        ids, mask = padded(rows, left=False)
        if not ids.numel():
            return torch.zeros(len(rows), dtype=torch.float64)
        positions = before.sum(1, keepdim=True) + torch.arange(ids.shape[1])
        seen = torch.cat((before, mask), 1).long()
        out = self.model(ids, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True)
        cache.crop(-ids.shape[1])
        logits = torch.cat((first[:, None], out.logits[:, :-1].float()), 1)  # (B, L, V): each before its token
        nll = torch.nn.functional.cross_entropy(logits.mT, ids, reduction="none")
        return (nll * mask).double().sum(1)


def line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def padded(rows: Sequence[list[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    """Return token ids (B, L) with zeros as padding, and where there is none (B, L)."""
    length = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), length, dtype=torch.int64), torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        where = slice(length - len(row), length) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = torch.tensor(row, dtype=torch.int64), True
    return ids, mask


def repeated(start: tuple[Any, Tensor, Tensor], num: int) -> tuple[Any, Tensor, Tensor]:
    """Return what was read of one row as that of `num` rows."""
    from copy import deepcopy

    cache, mask, logits = start
    cache = deepcopy(cache)
    cache.batch_repeat_interleave(num)
    return cache, mask.expand(num, -1), logits.expand(num, -1)
