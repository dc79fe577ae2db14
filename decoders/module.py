"""Concept stores as triples of concept, sentence and the text before it, to train a decoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from data.loader import EpochBatches, ResumableLoader, bucketed, cut, shuffled
from data.mixture import Mixture, check_weights, open_stores, refuse_empty
from data.store import ConceptStore

_SOME = 4096  # documents whose rows are counted together


@dataclass(frozen=True)
class SentenceBatch:
    """N sentences with their concepts.

    Attributes:
        concepts: raw concepts (N, D), float32.
        sentences: the N sentences.
        context: the text before each, "" at the start of a document.
    """

    concepts: Tensor
    sentences: list[str]
    context: list[str]

    def __len__(self) -> int:
        return len(self.sentences)


Item = tuple[Tensor, str, str]  # concept (D,), sentence, the text before it


class SentenceDataset(Dataset[Item]):
    """The sentences (level 0) of documents of a store, as (concept (D,), sentence, text before it).

    Text is read when it is asked for.

    Args:
        store: the store.
        documents: which documents.
        context_sentences: how many sentences of the document before make up the context, at most.

    Attributes:
        rows: document and row of each sentence, int32 (N, 2).
    """

    def __init__(self, store: ConceptStore, documents: Sequence[int] | np.ndarray, context_sentences: int = 2) -> None:
        self.store, self.context_sentences = store, context_sentences
        self.documents = np.asarray(documents, dtype=np.int64)
        self.rows = _collect(
            lambda document: _sentence_rows(store, document), self.documents, np.empty((0, 2), np.int32)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        return self.concepts([index])[0], self.sentence(index), self.context(index)

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

        def read(document: int) -> np.ndarray:
            return _text_lengths(self.store, document)[self.store.levels(document) == 0]

        return _collect(read, self.documents, np.empty(0, np.int32))

    def concepts(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return the raw concepts (N, D) of some sentences."""
        concepts = np.empty((len(indices), self.store.dim), dtype=np.float32)
        for concept, (document, row) in zip(concepts, self.rows[indices].tolist(), strict=True):
            concept[:] = self.store.window(document, row, row + 1)[0]
        return torch.from_numpy(concepts)

    def batch(self, indices: Sequence[int] | np.ndarray) -> SentenceBatch:
        """Return some sentences as a batch."""
        sentences, context = [self.sentence(i) for i in indices], [self.context(i) for i in indices]
        return SentenceBatch(self.concepts(indices), sentences, context)


def collate(items: list[Item]) -> SentenceBatch:
    """Stack sentences to a batch."""
    concepts, sentences, context = zip(*items, strict=True)
    return SentenceBatch(torch.stack(concepts), list(sentences), list(context))


def _sentence_rows(store: ConceptStore, document: int) -> np.ndarray:
    """Return the document and row of each of its sentences, int32 (N, 2)."""
    row = np.flatnonzero(store.levels(document) == 0)
    return np.stack((np.full_like(row, document), row), axis=1).astype(np.int32)


def _collect(read: Callable[[int], np.ndarray], documents: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Concatenate what is read of each document, some at a time: millions of small arrays would take gigabytes."""
    some = (documents[i : i + _SOME].tolist() for i in range(0, len(documents), _SOME))
    return np.concatenate([empty, *(np.concatenate([read(document) for document in part]) for part in some)])


def _text_lengths(store: ConceptStore, document: int) -> np.ndarray:
    """Return the number of characters of each row of a document, int32 (S,)."""
    import pyarrow.compute as pc

    return pc.call_function("utf8_length", [store.rows(document).column("text")]).to_numpy()


class SentenceDataModule(LightningDataModule):
    """Sentences of concept stores with their concepts and the text before them, split by document.

    Args:
        store: folder that "lcm encode" wrote, or a list of such folders.
        batch_size: sentences a batch and process.
        context_sentences: how many sentences before a sentence are given as its context.
        weights: share of the training sentences that each store gives; none for its share of all sentences.
        seed: of the training order.
    """

    def __init__(
        self,
        store: str | list[str],
        batch_size: int = 4,
        context_sentences: int = 2,
        weights: list[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or context_sentences < 0:
            raise ValueError(
                f"need batch_size >= 1 and context_sentences >= 0, found {batch_size}, {context_sentences}"
            )
        self.stores = open_stores(store)
        check_weights(weights, len(self.stores))
        self.batch_size, self.context_sentences, self.weights, self.seed = batch_size, context_sentences, weights, seed

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder that made the stores."""
        return self.stores[0].encoder

    def datasets(self, split: str) -> list[SentenceDataset]:
        """Return the sentences of a split, a data set for each store; none is an error that says what to do."""
        datasets = [SentenceDataset(store, store.split(split), self.context_sentences) for store in self.stores]
        weights = self.weights if split == "train" else None
        refuse_empty(self.stores, [len(dataset) for dataset in datasets], weights, f"{split} sentence")
        return datasets

    def sample(self, num: int = 100_000) -> SentenceBatch:
        """Return up to `num` training sentences in a seeded order, to fit what a decoder fits before its first step."""
        datasets = self.datasets("train")
        dataset = ConcatDataset[Item](datasets)
        return collate([dataset[i] for i in self._mix(datasets).items(0)[:num].tolist()])

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled batches of about equally long sentences; a checkpoint goes on in the middle of an epoch."""
        datasets = self.datasets("train")
        lengths, mixture = np.concatenate([dataset.lengths for dataset in datasets]), self._mix(datasets)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EpochBatches(
            lambda epoch: bucketed(mixture.items(epoch), lengths, self.batch_size, self.seed, epoch),
            rank=rank,
            world_size=world_size,
        )
        return ResumableLoader(ConcatDataset(datasets), batches, collate_fn=collate)

    def held_out(self, split: str) -> DataLoader[Item]:
        """Return the batches of a split, in one mixed order, so that a few batches speak for all documents."""
        dataset = ConcatDataset[Item](self.datasets(split))
        batches = cut(shuffled(len(dataset), self.seed, 0), self.batch_size)
        return DataLoader(dataset, batch_sampler=EpochBatches(lambda _: batches), collate_fn=collate)

    def val_dataloader(self) -> DataLoader[Item]:
        """Return sentences of validation documents."""
        return self.held_out("validation")

    def test_dataloader(self) -> DataLoader[Item]:
        """Return sentences of test documents."""
        return self.held_out("test")

    def transfer_batch_to_device(
        self, batch: SentenceBatch, device: torch.device, dataloader_idx: int
    ) -> SentenceBatch:
        """Move the concepts of a batch; Lightning calls it."""
        return replace(batch, concepts=batch.concepts.to(device, non_blocking=True))

    def _mix(self, datasets: Sequence[SentenceDataset]) -> Mixture:
        return Mixture([len(dataset) for dataset in datasets], self.weights, self.seed)
