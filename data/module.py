"""Concept stores as Lightning data: rows of windows, split by document."""

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from data.batch import ConceptBatch
from data.loader import EpochBatches, ResumableLoader, bucketed, shuffled
from data.mixture import Mixture, apportion, check_weights, open_stores, refuse_empty
from data.store import ConceptStore
from data.windows import WindowRows, cut_windows, row_lengths


class ConceptDataModule(LightningDataModule):
    """Windows of one concept store, or of several, for training, validation and test, split by document.

    Args:
        store: folder that "lcm encode" wrote, or a list of such folders.
        length: longest window and longest row of a batch, in rows of the store (sentences and headings).
        stride: rows from one training window's start to the next one's; held-out windows do not overlap.
        batch_size: rows a batch and process.
        packing: whether short training windows share a row; neither attention nor loss crosses from one to another.
        end_of_text: whether a document's last row is followed by the concept of "End of text.", so that a model learns
            where texts end; it is a sentence like any other, also in the held-out losses.
        weights: share of the training rows that each store gives; none for its share of all rows. A store that is too
            small for its share comes several times an epoch, one that is too large is continued in the next.
        seed: of the training order.
        num_workers: processes that read ahead; the store is memory-mapped, so 0 is enough on one machine.
    """

    collate: Callable[[Any], ConceptBatch] = staticmethod(ConceptBatch.pack)  # items of the data sets -> batch

    def __init__(
        self,
        store: str | list[str],
        *,
        length: int = 128,
        stride: int = 64,
        batch_size: int = 16,
        packing: bool = True,
        end_of_text: bool = True,
        weights: list[float] | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if length < 2 or not 0 < stride <= length or batch_size < 1:
            raise ValueError(
                f"need length >= 2, 0 < stride <= length and batch_size >= 1; found {length}, {stride}, {batch_size}"
            )
        self.stores = open_stores(store)
        check_weights(weights, len(self.stores))
        self.length, self.stride, self.batch_size, self.packing = length, stride, batch_size, packing
        self.weights, self.seed, self.num_workers = weights, seed, num_workers
        self.end_of_text = end_of_text
        if endless := [str(store.path) for store in self.stores if end_of_text and store.end_of_text is None]:
            warnings.warn(
                f"no concept of the end of text in {', '.join(endless)}, so where its texts end is not learnt; run the "
                "command that wrote it again, which adds one and encodes nothing else",
                stacklevel=2,
            )

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder that made the stores."""
        return self.stores[0].encoder

    def end_concept(self) -> Tensor | None:
        """Returns the raw concept (D,) that ends documents, float32, for the model to know; None if none does."""
        ends = [end for store in self.stores if (end := self._end_of(store)) is not None]
        return torch.from_numpy(ends[0]) if ends else None

    def sample_concepts(self, num: int = 100_000) -> Tensor:
        """Returns up to `num` raw training concepts (N, D), whole documents in a seeded order, to fit the normaliser.

        Each store gives its share by weight; one that is too small for it comes again.
        """
        documents = self.documents("train")
        sizes = [int(store.lengths[some].sum()) for store, some in zip(self.stores, documents, strict=True)]
        mixture = Mixture(sizes, self.weights)
        shares = apportion(min(num, len(mixture)), mixture.shares).tolist()
        parts = zip(self.stores, documents, shares, strict=True)
        return torch.cat([draw_concepts(store, some, share, self.seed) for store, some, share in parts if share])

    def documents(self, split: str) -> list[np.ndarray]:
        """Returns the documents of a split of each store that have something to predict.

        None in any store, or in one that has a weight in training, is an error that says what to do.
        """
        documents = []
        for store in self.stores:
            numbers = store.split(split)
            documents.append(numbers[store.lengths[numbers] >= 2])
        weights = self.weights if split == "train" else None
        what = f"{split} document of two sentences or more"
        refuse_empty(self.stores, [len(some) for some in documents], weights, what)
        return documents

    def rows(self, split: str, *, ends: bool = True) -> list[WindowRows]:
        """Returns the rows of a split, a data set for each store; held-out windows have a row each.

        Args:
            split: "train", "validation" or "test".
            ends: whether the end of text comes behind documents, if it is to come at all.
        """
        datasets = []
        for store, documents in zip(self.stores, self.documents(split), strict=True):
            stride = self.stride if split == "train" else self.length
            end = self._end_of(store) if ends else None
            lengths = store.lengths[documents] + (end is not None)
            windows = cut_windows(documents, lengths, self.length, stride)
            if split == "train" and self.packing:
                datasets.append(WindowRows.packed(store, windows, self.length, self.seed, end=end))
            else:
                datasets.append(WindowRows(store, windows, end=end))
        return datasets

    def fill(self, split: str = "train") -> float:
        """Returns the share of real sentences among the positions of the batches, padding included, of an epoch."""
        datasets = self.rows(split)
        batches = self._batches_of(split, datasets)(0)
        lengths = np.where(batches >= 0, row_lengths(datasets)[batches], 0)
        positions = (batches >= 0).sum(axis=1) * lengths.max(axis=1)
        return float(lengths.sum() / positions.sum())

    def train_dataloader(self) -> ResumableLoader:
        """Returns shuffled batches of about equally long rows; a checkpoint goes on in the middle of an epoch."""
        datasets = self.rows("train")
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EpochBatches(self._batches_of("train", datasets), rank=rank, world_size=world_size)
        return ResumableLoader(ConcatDataset(datasets), batches, collate_fn=self.collate, num_workers=self.num_workers)

    def held_out(self, split: str) -> DataLoader[ConceptBatch]:
        """Returns batches of about equally long windows of a split, in a mixed order that is always the same."""
        datasets = self.rows(split)
        batches = EpochBatches(self._batches_of(split, datasets))
        return DataLoader(
            ConcatDataset(datasets), batch_sampler=batches, collate_fn=self.collate, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader[ConceptBatch]:
        """Returns windows of validation documents."""
        return self.held_out("validation")

    def test_dataloader(self) -> DataLoader[ConceptBatch]:
        """Returns windows of test documents."""
        return self.held_out("test")

    def predict_dataloader(self) -> DataLoader[ConceptBatch]:
        """Returns windows of test documents, in the order of the stores; behind an end of text nothing is predicted."""
        dataset: Dataset[Any] = ConcatDataset(self.rows("test", ends=False))
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            collate_fn=self.collate,
            num_workers=self.num_workers,
        )

    def transfer_batch_to_device(self, batch: ConceptBatch, device: torch.device, dataloader_idx: int) -> ConceptBatch:
        """Moves a batch; Lightning calls it."""
        return batch.to(device)

    def _end_of(self, store: ConceptStore) -> np.ndarray | None:
        return store.end_of_text if self.end_of_text else None

    def _batches_of(self, split: str, datasets: list[WindowRows]) -> Callable[[int], np.ndarray]:
        """Returns a function from an epoch to its batches; held-out rows have one order for all epochs."""
        lengths = row_lengths(datasets)
        if split == "train":
            mixture = Mixture([len(dataset) for dataset in datasets], self.weights, self.seed)
            return lambda epoch: bucketed(mixture.items(epoch), lengths, self.batch_size, self.seed, epoch)
        batches = bucketed(shuffled(len(lengths), self.seed, 0), lengths, self.batch_size, self.seed, 0)
        return lambda _: batches


def draw_concepts(store: ConceptStore, documents: np.ndarray, num: int, seed: int) -> Tensor:
    """Returns `num` raw concepts (N, D), float32, of documents in a seeded order, over and over if they are too few."""
    drawn = np.empty((num, store.dim), dtype=np.float32)
    filled = 0
    for again in count():
        for document in documents[shuffled(len(documents), seed, again)]:
            concepts = store[int(document)][: num - filled]
            drawn[filled : filled + len(concepts)] = concepts
            filled += len(concepts)
            if filled == num:
                return torch.from_numpy(drawn)
    raise AssertionError("documents without rows")
