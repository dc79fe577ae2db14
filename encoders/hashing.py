from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np

from encoders.text import clean_sentences

_VERSION = 1  # part of the fingerprint: raise it whenever a feature or a weight changes


class HashingEncoder:
    """Sentences to unit vectors by signed feature hashing of words and character trigrams; no model, no training.

    For tests and smoke runs: fast, tiny, the same on every machine, and sentences that share words are close. From
    Weinberger et al., Feature Hashing for Large Scale Multitask Learning, arXiv:0902.2206.

    Args:
        dim: width D of a concept.
    """

    def __init__(self, dim: int = 64) -> None:
        if dim < 2:
            raise ValueError(f"a hashing encoder needs a width of at least 2, got {dim}")
        self.dim = dim
        self.name = f"hashing:{dim}"
        self.fingerprint = f"hashing-{_VERSION}-{dim}"

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns unit vectors, float32 (N, D)."""
        concepts = np.zeros((len(sentences), self.dim), dtype=np.float32)  # (N, D)
        for row, sentence in zip(concepts, clean_sentences(sentences), strict=True):
            for feature, weight in _features(sentence):
                value = crc32(feature.encode())
                row[(value >> 1) % self.dim] += weight if value & 1 else -weight
            if not row.any():  # every feature met its opposite in one bucket
                row[0] = 1
            row /= np.linalg.norm(row)
        return concepts


def _features(sentence: str) -> Iterator[tuple[str, float]]:
    """Yields (feature, weight): the whole sentence, faintly, so that few collide; its words; their trigrams."""
    yield sentence, 0.5
    for word in sentence.lower().split():
        yield f" {word} ", 1.0
        padded = f"<{word}>"
        for start in range(len(padded) - 2):
            yield padded[start : start + 3], 0.3
