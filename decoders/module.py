"""A concept store as pairs of concept and sentence, to train a decoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.loader import EpochBatches, ResumableLoader, shuffled
from data.store import ConceptStore

_BUCKET = 32  # batches that are sorted by length together


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

    Args:
        store: the store.
        documents: which documents.
        context_sentences: how many sentences before make up the context.
    """

    def __init__(self, store: ConceptStore, documents: Sequence[int], context_sentences: int = 1) -> None:
        self.store = store
        self.rows: list[tuple[int, int]] = []  # document, row
        self.sentences: list[str] = []
        self.context: list[str] = []
        for i in documents:
            texts = store.sentences(i)
            rows = np.flatnonzero(store.levels(i) == 0).tolist()
            here = [texts[row] for row in rows]
            self.rows += [(i, row) for row in rows]
            self.sentences += here
            self.context += [" ".join(here[max(k - context_sentences, 0) : k]) for k in range(len(here))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        return self.concepts([index])[0], self.sentences[index], self.context[index]

    def concepts(self, indices: Sequence[int]) -> Tensor:
        """Return the raw concepts (N, D) of some sentences."""
        rows = [self.store.window(*self.rows[i], self.rows[i][1] + 1)[0] for i in indices]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def batch(self, indices: Sequence[int]) -> SentenceBatch:
        """Return some sentences as a batch."""
        chosen = [self.sentences[i] for i in indices]
        return SentenceBatch(self.concepts(indices), chosen, [self.context[i] for i in indices])


def collate(items: list[Item]) -> SentenceBatch:
    """Stack sentences to a batch."""
    concepts, sentences, context = zip(*items, strict=True)
    return SentenceBatch(torch.stack(concepts), list(sentences), list(context))


def bucketed(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of an epoch: a seeded order in which the sentences of a batch are about equally long.

    Every epoch has equally many batches.
    """
    order = shuffled(len(lengths), seed, epoch)
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = sorted(order[start : start + batch_size * _BUCKET], key=lambda i: lengths[i])
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in shuffled(len(batches), seed, epoch)]


class SentenceDataModule(LightningDataModule):
    """Sentences of a concept store with their concepts and the text before them, split by document.

    Args:
        store: folder that "lcm encode" wrote.
        batch_size: sentences a batch and process.
        context_sentences: how many sentences before a sentence are given as its context.
        seed: of the training order.
    """

    def __init__(self, store: str, batch_size: int = 4, context_sentences: int = 1, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1 or context_sentences < 0:
            raise ValueError(
                f"need batch_size >= 1 and context_sentences >= 0, found {batch_size}, {context_sentences}"
            )
        self.store = ConceptStore.open(store)
        self.batch_size, self.context_sentences, self.seed = batch_size, context_sentences, seed

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder that made the store."""
        return self.store.encoder

    def dataset(self, split: str) -> SentenceDataset:
        """Return the sentences of a split; none is an error that says what to do."""
        dataset = SentenceDataset(self.store, self.store.split(split), self.context_sentences)
        if not len(dataset):
            raise ValueError(f"the store {self.store.path} has no {split} sentences; encode more documents")
        return dataset

    def sample(self, num: int = 100_000) -> SentenceBatch:
        """Return up to `num` training sentences in a seeded order, to fit what a decoder fits before its first step."""
        dataset = self.dataset("train")
        return dataset.batch(shuffled(len(dataset), self.seed, 0)[:num])

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled batches of about equally long sentences; a checkpoint goes on in the middle of an epoch."""
        dataset = self.dataset("train")
        lengths = [len(sentence) for sentence in dataset.sentences]
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EpochBatches(
            lambda epoch: bucketed(lengths, self.batch_size, self.seed, epoch), rank=rank, world_size=world_size
        )
        return ResumableLoader(dataset, batches, collate_fn=collate)

    def held_out(self, split: str) -> DataLoader[Item]:
        """Return the batches of a split, in one mixed order, so that a few batches speak for all documents."""
        dataset = self.dataset(split)
        order = shuffled(len(dataset), self.seed, 0)
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return DataLoader(dataset, batch_sampler=batches, collate_fn=collate)

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
