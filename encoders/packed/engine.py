from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from encoders.packed.ops import Batch, Ops
from encoders.packed.pack import Pack, pack_tokens
from encoders.packed.pooling import Pooling
from encoders.packed.tokens import Tokens

_WINDOW = 4096  # sentences that are tokenised, sorted and packed together


class PackedEngine:
    """Sentences to concepts: tokens of the next sentences are made in a thread while the model has these.

    Args:
        tokenize: sentences to tokens.
        embed: tokens of N sentences to concepts, float32 (N, D).

    Attributes:
        num_cut: how many sentences had more tokens than the model takes, and were cut.
    """

    def __init__(self, tokenize: Callable[[Sequence[str]], Tokens], embed: Callable[[Tokens], np.ndarray]) -> None:
        self._tokenize = tokenize
        self._embed = embed
        self.num_cut = 0

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns the concepts of at least one sentence, in order, float32 (N, D)."""
        concepts = []
        for tokens in self._tokens_ahead(sentences):
            self.num_cut += tokens.num_cut
            concepts.append(self._embed(tokens))
        return np.concatenate(concepts)

    def _tokens_ahead(self, sentences: Sequence[str]) -> Iterator[Tokens]:
        """Yields the tokens of one window of sentences after the other."""
        windows = [sentences[start : start + _WINDOW] for start in range(0, len(sentences), _WINDOW)]
        if len(windows) == 1:
            yield self._tokenize(windows[0])
            return
        with ThreadPoolExecutor(1, "tokenize") as executor:
            ahead: Future[Tokens] = executor.submit(self._tokenize, windows[0])
            for following in windows[1:]:
                tokens, ahead = ahead.result(), executor.submit(self._tokenize, following)
                yield tokens
            yield ahead.result()


class PackedForward:
    """Tokens to concepts, a pack of sentences at a time; what does not fit into memory is halved, and all after it.

    Args:
        encoder: a pack to the hidden states of its tokens, (L, H).
        pooling: hidden states to concepts.
        ops: how both are done.
        dim: width D of a concept.
        budget: tokens a pack.
    """

    def __init__(
        self, encoder: Callable[[Batch], Tensor], pooling: Pooling, ops: Ops, *, dim: int, budget: int
    ) -> None:
        self._encoder, self._pooling, self._ops, self._dim = encoder, pooling, ops, dim
        self.budget = budget

    def __call__(self, tokens: Tokens) -> np.ndarray:
        """Returns the concepts, float32 (N, D), in the order of the sentences; one without a token gets zeros.

        Raises:
            torch.OutOfMemoryError: a single sentence does not fit.
        """
        concepts = np.zeros((len(tokens.lengths), self._dim), dtype=np.float32)
        todo = deque(pack_tokens(tokens.ids, tokens.lengths, self.budget))
        while todo:
            try:
                concepts[todo[0].rows] = self._embed(todo[0])
                todo.popleft()
            except torch.OutOfMemoryError:
                if len(todo[0].rows) == 1:
                    raise
                self.budget = max(1, len(todo[0].ids) // 2)
                todo = deque(chain.from_iterable(pack.split(self.budget) for pack in todo))
        return concepts

    @torch.inference_mode()
    def _embed(self, pack: Pack) -> np.ndarray:
        batch = Batch.of(pack, self._ops.device)
        return self._pooling(self._encoder(batch), batch, self._ops).cpu().numpy()
