"""Sentences to tokens, without padding: by Hugging Face's tokenizers, or by nanotoken where it gives equal ones."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from encoders.packed.odd_strings import odd_strings

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedTokenizerBase

_AT_A_TIME = 4096  # sentences: Hugging Face's encodings take a hundred times the memory of their ids
_NO_LIMIT = 10**9  # transformers says 1e30 for a tokenizer without one


@dataclass(frozen=True)
class Tokens:
    """Tokens of sentences, one sentence behind the other.

    Attributes:
        ids: int32 (L,).
        lengths: tokens of each sentence, int64 (N,); their sum is L. An empty sentence has none where the tokenizer
            adds no special tokens.
        num_cut: how many of the sentences had more tokens than the limit.
    """

    ids: np.ndarray
    lengths: np.ndarray
    num_cut: int = 0


class Tokenizer:
    """Sentences to the tokens that sentence-transformers gives its model, special ones included.

    The tokenizer it is made from is copied and stays as it is. Calls from many threads are safe.

    Args:
        tokenizer: of a model, as sentence-transformers loaded it: whatever it lower-cases is lower-cased here.
        max_length: most tokens a sentence, special ones included; longer ones are cut. None is no limit.
        prompt: text before each sentence, such as "query: ".

    Raises:
        ValueError: the limit leaves no room beside the special tokens.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", max_length: int | None, *, prompt: str | None = None
    ) -> None:
        limit = None if max_length is None or max_length > _NO_LIMIT else max_length
        num_special = tokenizer.num_special_tokens_to_add()
        if limit is not None and limit <= num_special:
            raise ValueError(f"max_length is {limit}, and {num_special} of these are special tokens; allow more")
        self._prompt = prompt
        self._encode = _choose(tokenizer, limit)

    @property
    def library(self) -> str:
        """What makes the tokens: "nanotoken", "tokenizers", or "transformers" where a tokenizer is plain Python."""
        return self._encode.library

    def __call__(self, sentences: Sequence[str]) -> Tokens:
        """Returns the tokens of the sentences, in order.

        Args:
            sentences: cleaned, as `clean_sentences` does: a tokenizer takes no lone surrogate.
        """
        texts = [self._prompt + sentence for sentence in sentences] if self._prompt else list(sentences)
        parts = [self._encode(texts[start : start + _AT_A_TIME]) for start in range(0, len(texts), _AT_A_TIME)]
        return Tokens(
            np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]),
            sum(part.num_cut for part in parts),
        )


class _Encode(Protocol):
    library: str

    def __call__(self, texts: list[str]) -> Tokens: ...


class _HuggingFace:
    """The Rust backend of a tokenizer, asked for no padding and no offsets."""

    library = "tokenizers"

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> None:
        self._backend = _copy_backend(tokenizer, limit)
        self._limit = limit

    def __call__(self, texts: list[str]) -> Tokens:
        encodings = self._backend.encode_batch_fast(texts)
        lengths = np.fromiter(map(len, encodings), np.int64, len(texts))
        ids = chain.from_iterable(encoding.ids for encoding in encodings)
        full = np.flatnonzero(lengths == self._limit) if self._limit else ()
        num_cut = sum(bool(encodings[row].overflowing) for row in full)
        return Tokens(np.fromiter(ids, np.int32, int(lengths.sum())), lengths, num_cut)


class _Nanotoken:
    """The same tokens out of nanotoken, which knows WordPiece only; `_agrees` says whether they are the same."""

    library = "nanotoken"

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> None:
        import nanotoken

        self._tokenizer = nanotoken.Tokenizer.from_json(tokenizer.backend_tokenizer.to_str())
        self._limit = limit
        self._side: Literal["left", "right"] = "left" if tokenizer.truncation_side == "left" else "right"

    def __call__(self, texts: list[str]) -> Tokens:
        found = self._cut(texts, self._limit)
        if self._limit is None:
            return found
        full = [texts[row] for row in np.flatnonzero(found.lengths == self._limit)]
        longer = self._cut(full, self._limit + 1).lengths  # a sentence may have just as many as the limit
        return Tokens(found.ids, found.lengths, int((longer > self._limit).sum()))

    def _cut(self, texts: list[str], limit: int | None) -> Tokens:
        found = self._tokenizer.encode_batch(texts, max_length=limit, truncation_side=self._side)
        return Tokens(found.ids.astype(np.int32), found.lengths)


class _Transformers:
    """A tokenizer that is written in Python, or does more than its backend: its own call."""

    library = "transformers"

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> None:
        self._tokenizer, self._limit = copy.deepcopy(tokenizer), limit

    def __call__(self, texts: list[str]) -> Tokens:
        rows = self._cut(texts, self._limit)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
        if self._limit is None:
            return Tokens(ids, lengths)
        longer = self._cut([texts[row] for row in np.flatnonzero(lengths == self._limit)], self._limit + 1)
        return Tokens(ids, lengths, sum(len(row) > self._limit for row in longer))

    def _cut(self, texts: list[str], limit: int | None) -> list[list[int]]:
        if not texts:
            return []
        truncation = "do_not_truncate" if limit is None else "longest_first"
        rows: list[list[int]] = self._tokenizer(texts, truncation=truncation, max_length=limit)["input_ids"]
        return rows


def _choose(tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> _Encode:
    """Returns the fastest way to the tokens of a tokenizer."""
    if not _is_plain(tokenizer):
        return _Transformers(tokenizer, limit)
    plain = _HuggingFace(tokenizer, limit)
    fast = _try_nanotoken(tokenizer, limit)
    if fast is None:
        return plain
    odd = _find_difference(fast, plain)
    if odd is None:
        return fast
    warnings.warn(f"nanotoken gives other tokens than tokenizers for {odd!r}; tokenizers is used", stacklevel=3)
    return plain


def _is_plain(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Says whether a call of this tokenizer is a call of its Rust backend and nothing more."""
    from transformers import PreTrainedTokenizerFast as Fast

    kind = type(tokenizer)
    return isinstance(tokenizer, Fast) and (kind.__call__, kind._encode_plus) == (Fast.__call__, Fast._encode_plus)


def _copy_backend(tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> "tokenizers.Tokenizer":
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    if limit is not None:
        backend.enable_truncation(limit, strategy="longest_first", direction=tokenizer.truncation_side)
    backend.encode_special_tokens = tokenizer.split_special_tokens  # a copy forgets it
    return backend


def _try_nanotoken(tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> _Nanotoken | None:
    """Returns nanotoken for a tokenizer, or None where it is not installed or does not know such tokenizers."""
    from tokenizers.models import WordPiece

    is_word_piece = isinstance(tokenizer.backend_tokenizer.model, WordPiece)
    if not is_word_piece or tokenizer.split_special_tokens or find_spec("nanotoken") is None:
        return None
    from nanotoken import UnsupportedTokenizerError

    try:
        return _Nanotoken(tokenizer, limit)
    except UnsupportedTokenizerError:
        return None


def _find_difference(first: _Encode, second: _Encode) -> str | None:
    """Returns an odd string of which two ways make different tokens, or None if there is none."""
    strings = odd_strings()
    ours, theirs = first(strings), second(strings)
    rows = (np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1]) for tokens in (ours, theirs))
    unequal = (string for string, *pair in zip(strings, *rows, strict=True) if not np.array_equal(*pair))
    return next(unequal, None)
