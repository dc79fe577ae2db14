"""A concept store as Lightning data: windows of documents, split by document."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.batch import ConceptBatch
from data.loader import EpochBatches, ResumableLoader, shuffled
from data.store import ConceptStore

Window = tuple[int, int, int]  # document, start, stop


def cut_windows(lengths: dict[int, int], length: int, stride: int) -> list[Window]:
    """Cut documents (id -> number of rows) into windows of up to `length` rows that start every `stride` rows.

    Every row is in at least one window. The last window of a document ends with it; where windows do not overlap
    (stride = length) it is what is left, so that no row counts twice.
    """
    windows = []
    for document, num in lengths.items():
        last = max(num - length, 0)
        starts = [*range(0, num, length)] if stride == length else [*range(0, last, stride), last]
        windows += [(document, start, min(start + length, num)) for start in starts]
    return windows


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """Windows of a store as (concepts (S, D) float32, levels (S,) int64)."""

    def __init__(self, store: ConceptStore, windows: Sequence[Window]) -> None:
        self.store, self.windows = store, windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        document, start, stop = self.windows[index]
        concepts = torch.from_numpy(self.store.window(document, start, stop).astype("float32"))
        return concepts, torch.from_numpy(self.store.levels(document)[start:stop].astype("int64"))


def collate(items: list[tuple[Tensor, Tensor]]) -> ConceptBatch:
    """Pad windows into a batch."""
    return ConceptBatch.pad([concepts for concepts, _ in items], [levels for _, levels in items])


class ConceptDataModule(LightningDataModule):
    """Windows of a concept store for training, validation and test, split by document.

    Args:
        store: folder that "lcm encode" wrote.
        length: longest window, in rows (sentences and headings).
        stride: rows from one training window's start to the next one's; held-out windows do not overlap.
        batch_size: windows a batch and process.
        seed: of the training order.
        num_workers: processes that read ahead; the store is memory-mapped, so 0 is enough on one machine.
    """

    def __init__(
        self,
        store: str,
        *,
        length: int = 128,
        stride: int = 64,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if length < 2 or not 0 < stride <= length or batch_size < 1:
            raise ValueError(
                f"need length >= 2, 0 < stride <= length and batch_size >= 1; found {length}, {stride}, {batch_size}"
            )
        self.store = ConceptStore.open(store)
        self.length, self.stride, self.batch_size = length, stride, batch_size
        self.seed, self.num_workers = seed, num_workers

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder that made the store."""
        return self.store.encoder

    def sample_concepts(self, num: int = 100_000) -> Tensor:
        """Return up to `num` raw training concepts (N, D), whole documents in a seeded order, to fit the normaliser."""
        documents = self.documents("train")
        chosen: list[Tensor] = []
        count = 0
        for i in shuffled(len(documents), self.seed, 0):
            if count >= num:
                break
            chosen.append(torch.from_numpy(self.store[documents[i]].astype("float32")))
            count += len(chosen[-1])
        return torch.cat(chosen)[:num]

    def documents(self, split: str) -> list[int]:
        """Return the documents of a split that have something to predict; none is an error that says what to do."""
        documents = [i for i in self.store.split(split) if self.store.documents[i].num_sentences >= 2]
        if not documents:
            raise ValueError(
                f"the store {self.store.path} has no {split} document of two sentences or more; encode more documents"
            )
        return documents

    def dataset(self, split: str) -> WindowDataset:
        """Return the windows of a split."""
        lengths = {i: self.store.documents[i].num_sentences for i in self.documents(split)}
        stride = self.stride if split == "train" else self.length
        return WindowDataset(self.store, cut_windows(lengths, self.length, stride))

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled windows; a checkpoint goes on in the middle of an epoch."""
        dataset = self.dataset("train")

        def batches_of(epoch: int) -> list[list[int]]:
            order = shuffled(len(dataset), self.seed, epoch)
            return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EpochBatches(batches_of, rank=rank, world_size=world_size)
        return ResumableLoader(dataset, batches, collate_fn=collate, num_workers=self.num_workers)

    def held_out(self, split: str) -> DataLoader[ConceptBatch]:
        """Return the windows of a split in order."""
        dataset: Dataset[Any] = self.dataset(split)
        return DataLoader(dataset, batch_size=self.batch_size, collate_fn=collate, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return windows of validation documents, in order."""
        return self.held_out("validation")

    def test_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return windows of test documents, in order."""
        return self.held_out("test")

    def predict_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return windows of test documents, in order."""
        return self.held_out("test")

    def transfer_batch_to_device(self, batch: ConceptBatch, device: torch.device, dataloader_idx: int) -> ConceptBatch:
        """Move a batch; Lightning calls it."""
        return batch.to(device)
