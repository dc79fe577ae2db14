"""The sentences of a store with their concepts, the text before them and the concepts around them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.store import ConceptStore
from decoders.predicted import PredictedConcepts

_SOME = 4096  # documents whose rows are counted together
# What a byte-level BPE of English makes one token of, about: up to eight Latin letters, one letter of another script, a
# digit, or what stands between words. SmolLM2's tokens on sotu: 0.93 of this count in the mean, 0.71 to 1.16 for 99 %.
_TOKEN = r"\p{Latin}{1,8}|\pL|\d|[^\pL\d\s]+"


@dataclass(frozen=True)
class SentenceBatch:
    """N sentences with their concepts.

    Attributes:
        concepts: raw concepts (N, D), float32.
        sentences: the N sentences.
        context: the text before each, "" at the start of a document.
        neighbours: raw concepts (N, M, D) of the sentences before and behind, in the order of the text; zeros where
            there is none. None where not asked for.
        near: (N, M) bool, True = there is such a sentence in the document. None where not asked for.
        level: (N,) float32, share of the variance of a concept that is noise: 0 for a true one. None where all are.
    """

    concepts: Tensor
    sentences: list[str]
    context: list[str]
    neighbours: Tensor | None = None
    near: Tensor | None = None
    level: Tensor | None = None

    def __len__(self) -> int:
        return len(self.sentences)

    def to(self, device: torch.device | str) -> "SentenceBatch":
        """Return the batch with its tensors on another device."""
        neighbours, near, level = (
            None if value is None else value.to(device, non_blocking=True)
            for value in (self.neighbours, self.near, self.level)
        )
        return replace(
            self,
            concepts=self.concepts.to(device, non_blocking=True),
            neighbours=neighbours,
            near=near,
            level=level,
        )


@dataclass(frozen=True)
class Item:
    """One sentence: its raw concept (D,), its text, the text before; M concepts (M, D) around, which are there (M,)."""

    concept: Tensor
    sentence: str
    context: str
    neighbours: Tensor | None = None
    near: Tensor | None = None
    level: float | None = None


class SentenceDataset(Dataset[Item]):
    """The sentences (level 0) of documents of a store.

    Text is read when it is asked for.

    Args:
        store: the store.
        documents: which documents.
        context_sentences: how many sentences of the document before make up the context, at most.
        before: how many concepts of sentences before in the document come along.
        after: how many concepts of sentences behind in the document come along.
        level: what is said of the noise in the concepts; None says nothing.

    Attributes:
        rows: document and row of each sentence, int32 (N, 2).
    """

    def __init__(
        self,
        store: ConceptStore,
        documents: Sequence[int] | np.ndarray,
        context_sentences: int = 2,
        *,
        before: int = 0,
        after: int = 0,
        level: float | None = None,
    ) -> None:
        self.store, self.context_sentences, self.level = store, context_sentences, level
        self.steps = np.concatenate((np.arange(-before, 0), np.arange(1, after + 1)))  # (M,)
        self.documents = np.asarray(documents, dtype=np.int64)
        self.rows = _collect(
            lambda document: _sentence_rows(store, document), self.documents, np.empty((0, 2), np.int32)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        neighbours, near = self.around([index])
        return Item(
            self.concepts([index])[0],
            self.sentence(index),
            self.context(index),
            None if neighbours is None else neighbours[0],
            None if near is None else near[0],
            self.level,
        )

    def sentence(self, index: int) -> str:
        """Return a sentence."""
        return self.store.text(*self.rows[index].tolist())

    def context(self, index: int) -> str:
        """Return the text before a sentence, "" at the start of a document."""
        before = self.rows[max(index - self.context_sentences, 0) : index].tolist()
        return " ".join(self.store.text(*row) for row in before if row[0] == self.rows[index, 0])

    @property
    def lengths(self) -> np.ndarray:
        """Number of characters of each sentence, int32 (N,)."""
        return self._count("utf8_length")

    def token_counts(self) -> np.ndarray:
        """Return about how many tokens a language model makes of each sentence, int32 (N,), from its letters alone."""
        return self._count("count_substring_regex", pattern=_TOKEN)

    def context_counts(self, counts: np.ndarray) -> np.ndarray:
        """Return the sums (N,) of what is counted of each sentence (N,) over the sentences of its context."""
        sums = np.zeros_like(counts)
        for back in range(1, min(self.context_sentences, len(counts) - 1) + 1):
            sums[back:] += np.where(self.rows[back:, 0] == self.rows[:-back, 0], counts[:-back], 0)
        return sums

    def concepts(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return the raw concepts (N, D) of some sentences."""
        concepts = np.empty((len(indices), self.store.dim), dtype=np.float32)
        for concept, (document, row) in zip(concepts, self.rows[indices].tolist(), strict=True):
            concept[:] = self.store.window(document, row, row + 1)[0]
        return torch.from_numpy(concepts)

    def around(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor | None, Tensor | None]:
        """Return the raw concepts (N, M, D) around some sentences, zeros at a document's ends, and where they are.

        None and None where no neighbours are asked for.
        """
        if not len(self.steps):
            return None, None
        index = np.asarray(indices)[:, None]
        place = (index + self.steps).clip(0, len(self) - 1)  # (N, M)
        near = (place == index + self.steps) & (self.rows[place, 0] == self.rows[index, 0])
        neighbours = torch.zeros(*near.shape, self.store.dim)
        neighbours[torch.from_numpy(near)] = self.concepts(place[near])
        return neighbours, torch.from_numpy(near)

    def batch(self, indices: Sequence[int] | np.ndarray) -> SentenceBatch:
        """Return some sentences as a batch."""
        return collate([self[i] for i in indices])

    def _count(self, function: str, **options: str) -> np.ndarray:
        """Return what a function of Arrow counts in each sentence, int32 (N,)."""
        settings = pc.MatchSubstringOptions(**options) if options else None

        def read(document: int) -> np.ndarray:
            found = pc.call_function(function, [self.store.rows(document).column("text")], settings)
            return found.to_numpy()[self.store.levels(document) == 0]

        return _collect(read, self.documents, np.empty(0, np.int32))


class PredictedSentences(Dataset[Item]):
    """The sentences of a data set with what a model predicted in place of their concepts, where it did.

    Neighbours stay true.

    Args:
        dataset: the sentences.
        predicted: the predictions.
        level: share of the variance of a prediction that is noise.

    Attributes:
        known: bool (N,), True = there is a prediction.
    """

    def __init__(self, dataset: SentenceDataset, predicted: PredictedConcepts, level: float) -> None:
        self.dataset, self.predicted, self.level = dataset, predicted, level
        self.known = predicted.known(*dataset.rows.T)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        item = self.dataset[index]
        if not self.known[index]:
            return item
        return replace(item, concept=self.concepts([index])[0], level=self.level)

    def concepts(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return the raw predictions (N, D) of some sentences that have one."""
        return torch.from_numpy(self.predicted.concepts(*self.dataset.rows[indices].T))


def read_sentences(store: ConceptStore, document: int) -> tuple[np.ndarray, list[str]]:
    """Return the raw concepts (N, D), float32, and the text of all sentences (level 0) of a document."""
    rows, texts = np.flatnonzero(store.levels(document) == 0), store.sentences(document)
    return store[document][rows].astype(np.float32), [texts[row] for row in rows]


def collate(items: list[Item]) -> SentenceBatch:
    """Stack sentences to a batch."""
    neighbours = [item.neighbours for item in items if item.neighbours is not None]
    near = [item.near for item in items if item.near is not None]
    level = [item.level for item in items if item.level is not None]
    return SentenceBatch(
        torch.stack([item.concept for item in items]),
        [item.sentence for item in items],
        [item.context for item in items],
        torch.stack(neighbours) if neighbours else None,
        torch.stack(near) if near else None,
        torch.tensor(level) if level else None,
    )


def _sentence_rows(store: ConceptStore, document: int) -> np.ndarray:
    """Return the document and row of each of its sentences, int32 (N, 2)."""
    row = np.flatnonzero(store.levels(document) == 0)
    return np.stack((np.full_like(row, document), row), axis=1).astype(np.int32)


def _collect(read: Callable[[int], np.ndarray], documents: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Concatenate what is read of each document, some at a time: millions of small arrays would take gigabytes."""
    some = (documents[i : i + _SOME].tolist() for i in range(0, len(documents), _SOME))
    return np.concatenate([empty, *(np.concatenate([read(document) for document in part]) for part in some)])
