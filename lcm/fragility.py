"""How fast a decoded sentence is lost when noise is put on its concept.

Meta's Large Concept Model (arXiv:2412.08821, section 2.5.2) calls fragility the mean of -score(w, decode(noised w))
over the share a of the variance that is noise, with sqrt(1 - a) x + sqrt(a) eps on normalised concepts x. Here the
score is kept for each level, beside its fall from level 0, which is what "fragile" means to a reader; unlike there,
the decoder is told the level, as it is wherever this project decodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator

from decoders.evaluation import shown
from decoders.module import SentenceBatch
from decoders.prefix import PrefixDecoder
from decoders.scores import RESAMPLES, bootstrap, corpus_bleu, count_grams, interval
from encoders.encoder import SentenceEncoder

LEVELS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)  # share of the variance that is noise
BINS = ((5, 9), (10, 14), (15, 24), (25, 40))  # words of a sentence, both ends included


@dataclass(frozen=True)
class ReadBack:
    """What was read back of N sentences at each of L levels of noise.

    Attributes:
        levels: share of the variance that is noise, the first is 0.
        cosine: of the decoded text, encoded again, with the given concept, (L, N).
        grams: for BLEU: right and all n-grams of 1 to 4 words, words of the text and of the sentence, (L, N, 10).
        num_words: words of each sentence, (N,).
        texts: what was decoded, L lists of N.
    """

    levels: Sequence[float]
    cosine: np.ndarray
    grams: np.ndarray
    num_words: np.ndarray
    texts: Sequence[Sequence[str]]

    def scores(self, rows: np.ndarray, seed: int = 0) -> list[dict[str, Any]]:
        """Return scores of some sentences (a mask or indices), a dict a level.

        `bleu`, `cosine` and their falls from level 0, `bleu_fall` and `cosine_fall`, each as [value, low, high] with a
        95 % bootstrap interval over sentences; falls are paired, so that of level 0 is [0, 0, 0].
        """
        cosine, grams = self.cosine[:, rows], self.grams[:, rows]
        num = cosine.shape[1]
        drawn = np.random.default_rng(seed).integers(num, size=(RESAMPLES, num))  # the same for all levels
        bleu = [corpus_bleu(counts) for counts in grams]
        resampled = [np.array([corpus_bleu(counts[draw]) for draw in drawn]) for counts in grams]
        ones = np.ones(num)
        return [
            {
                "level": level,
                "num_sentences": num,
                "bleu": interval(bleu[i], resampled[i]),
                "bleu_fall": interval(bleu[0] - bleu[i], resampled[0] - resampled[i]),
                "cosine": bootstrap(cosine[i], ones, np.random.default_rng(seed)),
                "cosine_fall": bootstrap(cosine[0] - cosine[i], ones, np.random.default_rng(seed)),
            }
            for i, level in enumerate(self.levels)
        ]

    def by_length(self) -> list[dict[str, Any]]:
        """Return the scores of each bin of BINS that has two sentences or more."""
        found = []
        for low, high in BINS:
            rows = (self.num_words >= low) & (self.num_words <= high)
            if rows.sum() > 1:
                found.append({"words": f"{low}-{high}", "scores": self.scores(rows)})
        return found


def read_back(
    decoder: PrefixDecoder,
    encoder: SentenceEncoder,
    pairs: SentenceBatch,
    *,
    levels: Sequence[float] = LEVELS,
    batch_size: int = 32,
    seed: int = 0,
) -> ReadBack:
    """Decode concepts at each level of noise, greedily, with the true sentence before as context, and encode again.

    Every level has the same noise, scaled, so that levels differ by nothing else.

    Raises:
        ValueError: the first level is not 0.
    """
    if not levels or levels[0] != 0:
        raise ValueError(f"the first level must be 0, which the falls are measured from; found {list(levels)}")
    texts: list[list[str]] = []
    cosine, grams = [], []
    for level in shown(levels, "decoding noised concepts"):
        texts.append(_decode(decoder, pairs, level, batch_size, seed))
        again = torch.from_numpy(encoder.encode(texts[-1]))
        cosine.append(torch.cosine_similarity(again, pairs.concepts.float().cpu(), dim=-1).numpy())
        grams.append(count_grams(texts[-1], pairs.sentences))
    num_words = np.array([len(sentence.split()) for sentence in pairs.sentences])
    return ReadBack(levels, np.stack(cosine), np.stack(grams), num_words, texts)


def _decode(decoder: PrefixDecoder, pairs: SentenceBatch, level: float, batch_size: int, seed: int) -> list[str]:
    # A batch is as slow as its longest sentence.
    order = np.argsort([len(sentence) for sentence in pairs.sentences], kind="stable")
    generator = Generator().manual_seed(seed)
    texts = [""] * len(pairs)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size].tolist()
        context = [pairs.context[i] for i in rows]
        written = decoder.decode(pairs.concepts[rows], context, noise_level=level, generator=generator)
        for i, text in zip(rows, written, strict=True):
            texts[i] = text
    return texts
