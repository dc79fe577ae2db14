"""Which words of a sentence a linear map reads off its concept, at several levels of noise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Generator, Tensor

from data.store import ConceptStore
from decoders.adapter import add_noise, mean_and_scale
from decoders.sentences import read_sentences
from decoders.words import WordGuesser
from lcm.metrics import Interval, mean_interval

NUM_WORDS = 2048  # words that are told apart
MAX_SHARE = 0.1  # a word in more of the sentences than this says little of any of them
Text = tuple[Tensor, list[str]]  # raw concepts (S, D) and sentences of a document


def read_texts(store: ConceptStore, split: str) -> list[Text]:
    """Return concepts and text of the sentences of each document of a split that has any."""
    documents = (read_sentences(store, i) for i in store.split(split).tolist())
    return [(torch.from_numpy(concepts), sentences) for concepts, sentences in documents if sentences]


def words_of(sentence: str) -> list[str]:
    """Return the words of a sentence in lower case, each once, in order; digits and punctuation are none."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", sentence.lower())))


class WordProbe:
    """Ridge regression from concepts to the presence of each of the frequent words of a corpus.

    Words in more than a tenth of the sentences, which frequency alone would guess, and in fewer than three are left
    out. Concepts are scaled to unit variance per dimension, as a decoder's adapter does.

    Args:
        documents: training documents.
    """

    def __init__(self, documents: Sequence[Text]) -> None:
        concepts = torch.cat([concepts for concepts, _ in documents])
        words = [words_of(sentence) for _, sentences in documents for sentence in sentences]
        count = Counter(word for found in words for word in found)
        kept = [word for word, num in count.most_common() if 3 <= num <= MAX_SHARE * len(words)][:NUM_WORDS]
        if not kept:
            raise ValueError(
                f"no word stands in 3 or more and in a tenth or fewer of the {len(words)} training sentences; "
                "give a longer text"
            )
        self.ids = {word: i for i, word in enumerate(kept)}
        self.mean, self.scale = mean_and_scale(concepts)
        self.guesser = WordGuesser(concepts.shape[1], len(kept))
        self.guesser.fit((concepts - self.mean) / self.scale, [self._known(found) for found in words])
        self.place = self.guesser.tokens.argsort()  # of each word among the columns that the guesser has

    def average_precision(self, documents: Iterable[Text], level: float = 0.0, *, seed: int = 0) -> Interval:
        """Return the mean average precision of the words ranked by probability, over sentences with a known word.

        Args:
            documents: held-out documents.
            level: share of the variance of the concepts that is Gaussian noise, in [0, 1); 1 ranks by frequency alone.
            seed: of the noise.
        """
        generator = Generator().manual_seed(seed)
        values = []
        for concepts, sentences in documents:
            x = (concepts - self.mean) / self.scale
            x = add_noise(x, torch.full((len(x),), level), generator) if level < 1 else torch.zeros_like(x)
            present = torch.zeros(len(x), len(self.ids), dtype=torch.bool)
            for row, sentence in enumerate(sentences):
                present[row, self._known(words_of(sentence))] = True
            values.append(average_precision(self.guesser.probability(x)[:, self.place], present))
        return mean_interval(values)

    def _known(self, words: Iterable[str]) -> list[int]:
        return [self.ids[word] for word in words if word in self.ids]


def average_precision(scores: Tensor, present: Tensor) -> Tensor:
    """Return the average precision (N,) of what is present (N, W), bool, ranked by scores (N, W); NaN for nothing."""
    hit = present.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    precision = hit.cumsum(1) / torch.arange(1, hit.shape[1] + 1)
    return (precision * hit).sum(1) / hit.sum(1)
