from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from encoders.packed.native import NativeEncoder
from encoders.packed.ops import Batch, Ops
from encoders.packed.pack import Pack, pack_tokens
from encoders.packed.pooling import Pooling
from encoders.packed.tokens import Tokens


class PackedEngine:
    """Sentences to concepts: tokens of the next sentences are made in a thread while the model has these.

    Args:
        tokenize: sentences to tokens.
        embed: tokens of N sentences to concepts, float32 (N, D).
        window: sentences that are tokenised, sorted and packed together.

    Attributes:
        num_cut: how many sentences had more tokens than the model takes, and were cut.
    """

    def __init__(
        self, tokenize: Callable[[Sequence[str]], Tokens], embed: Callable[[Tokens], np.ndarray], *, window: int
    ) -> None:
        self._tokenize, self._embed = tokenize, embed
        self.window = window
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
        windows = [sentences[start : start + self.window] for start in range(0, len(sentences), self.window)]
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
        embed: packs to the concepts (n, D) of each, in order.
        dim: width D of a concept.
        budget: tokens a pack.
    """

    def __init__(self, embed: Callable[[Iterable[Pack]], Iterator[np.ndarray]], *, dim: int, budget: int) -> None:
        self._embed, self._dim = embed, dim
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
                for found in self._embed(tuple(todo)):
                    concepts[todo.popleft().rows] = found
            except torch.OutOfMemoryError:
                if all(len(pack.rows) == 1 for pack in todo):
                    raise
                self.budget = max(1, min(self.budget, max(len(pack.ids) for pack in todo)) // 2)
                todo = deque(chain.from_iterable(pack.split(self.budget) for pack in todo))
        return concepts


class OneByOne:
    """Packs to their concepts, one after the other, on any device.

    Args:
        encoder: a pack to the hidden states of its tokens, (L, H).
        pooling: hidden states to concepts.
        ops: how both are done.
    """

    def __init__(self, encoder: Callable[[Batch], Tensor], pooling: Pooling, ops: Ops) -> None:
        self._encoder, self._pooling, self._ops = encoder, pooling, ops

    def __call__(self, packs: Iterable[Pack]) -> Iterator[np.ndarray]:
        """Yields the concepts (n, D) of each pack."""
        for pack in packs:
            with torch.inference_mode():
                batch = Batch.of(pack, self._ops.device)
                concepts = self._pooling(self._encoder(batch), batch, self._ops)
            yield concepts.cpu().numpy()


class NativeForward:
    """Tokens to concepts by the compiled kernel, which packs by itself.

    Args:
        encoder: tokens to pooled vectors.
        pooling: what comes behind these.
    """

    def __init__(self, encoder: NativeEncoder, pooling: Pooling) -> None:
        self._encoder, self._pooling = encoder, pooling

    @torch.inference_mode()
    def __call__(self, tokens: Tokens) -> np.ndarray:
        """Returns the concepts, float32 (N, D), in the order of the sentences."""
        pooled = self._encoder.encode(tokens.ids, tokens.lengths)
        return self._pooling.finish(torch.from_numpy(pooled)).numpy()
