from collections.abc import Sequence
from typing import Protocol

import numpy as np


class SentenceEncoder(Protocol):
    """Turns sentences into concepts, one vector of width `dim` each."""

    @property
    def dim(self) -> int:
        """Width D of a concept."""
        ...

    @property
    def name(self) -> str:
        """What `load_encoder` takes to make this encoder again."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the concept space: equal on every machine for equal weights, tokenizer, pooling and normalisation.

        The path and the compute dtype do not count. Stores, decoders and checkpoints carry it.
        """
        ...

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns the concepts of the sentences in their order, float32 (N, D); no sentences give (0, D)."""
        ...


def load_encoder(name: str = "minilm") -> SentenceEncoder:
    """Returns the encoder of that name.

    Args:
        name: "minilm" (all-MiniLM-L6-v2 out of an installed package, D = 384, offline), "hashing" or "hashing:16" (no
            model, for tests and smoke runs; the number is D), or any sentence-transformers name or local folder.

    Raises:
        ValueError: "hashing:" is followed by something that is not a width.
        FileNotFoundError: no such model, here or on the hub.
    """
    kind, _, dim = name.partition(":")
    if kind == "hashing":
        from encoders.hashing import HashingEncoder

        if dim and not dim.isdecimal():
            raise ValueError(f'encoder "{name}": {dim!r} is not a width; write for example "hashing:64"')
        return HashingEncoder(int(dim)) if dim else HashingEncoder()
    from encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder(name)
