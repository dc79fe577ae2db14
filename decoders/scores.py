"""Scores of written sentences against true ones, with 95 % intervals by resampling sentences."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 1000


def interval(value: float, resampled: Sequence[float] | np.ndarray) -> list[float]:
    """Return [value, low, high] with the middle 95 % of its resampled values."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return [float(value), float(low), float(high)]


def bootstrap(sums: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> list[float]:
    """Return [value, low, high] of sum(sums) / sum(counts) over N items."""
    rows = random.integers(len(sums), size=(RESAMPLES, len(sums)))
    return interval(sums.sum() / counts.sum(), sums[rows].sum(1) / counts[rows].sum(1))


def bleu(texts: Sequence[str], references: Sequence[str], random: np.random.Generator) -> list[float]:
    """Return [BLEU, low, high] of a corpus (sacrebleu's defaults)."""
    grams = count_grams(texts, references)
    rows = (random.integers(len(grams), size=len(grams)) for _ in range(RESAMPLES))
    return interval(corpus_bleu(grams), [corpus_bleu(grams[row]) for row in rows])


def count_grams(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return what BLEU counts: right and all n-grams of 1 to 4 words, words of text and of reference (N, 10)."""
    from sacrebleu import sentence_bleu

    scores = [sentence_bleu(text, [reference]) for text, reference in zip(texts, references, strict=True)]
    return np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores])


def corpus_bleu(grams: np.ndarray) -> float:
    """Return BLEU (sacrebleu's defaults), in 0 to 100, of the counts (N, 10) of N sentences."""
    from sacrebleu.metrics.bleu import BLEU

    *counts, sys_len, ref_len = grams.sum(0).tolist()
    return BLEU.compute_bleu(counts[:4], counts[4:], sys_len, ref_len, smooth_method="exp").score
