"""Concept stores as batches of sentences with what is before and around them, to train a decoder."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader

from data.loader import EpochBatches, ResumableLoader, bucketed, budgeted, cut, keyed_generator, shuffled
from data.mixture import Mixture, check_weights, open_stores, refuse_empty
from decoders.predicted import PredictedConcepts, noise_level
from decoders.sentences import Item, PredictedSentences, SentenceBatch, SentenceDataset, collate

__all__ = ["SentenceBatch", "SentenceDataModule", "SentenceDataset", "collate"]

_BATCH_SIZE = 4  # where neither it nor a budget is given
_ROW_TOKENS = 12  # of a row beside its words, about: begin, end and ten soft tokens
_MEASURED = 8192  # predictions whose noise is measured

Batches = np.ndarray | list[np.ndarray]  # item numbers of each batch, -1 where it is short


class SentenceDataModule(LightningDataModule):
    """Sentences of concept stores with their concepts and the text before them, split by document.

    Args:
        store: folder that "lcm encode" wrote, or a list of such folders.
        batch_size: sentences a batch and process; 4 if max_tokens is not given either.
        context_sentences: how many sentences before a sentence are given as its context.
        weights: share of the training sentences that each store gives; none for its share of all sentences.
        seed: of the training order, and of which concepts are predicted ones.
        max_tokens: in place of batch_size, tokens of a batch and process, padding included: short sentences share a
            batch with many. They are counted by letters (eight Latin ones, or one of another script, are a token at
            most), which gives for English prose about a tenth more than there are. Context counts, and so do 12 more a
            sentence for what the decoder puts around it.
        max_context_tokens: tokens of the context that the decoder reads, so that no more are counted; only with
            max_tokens, all of them if not given.
        before: concepts of sentences before a sentence that come with it, for a decoder that reads them.
        after: concepts of sentences behind it that come with it.
        predicted: folder that "lcm foretell" wrote, or a list of one for each store: what a model predicted takes the
            place of some concepts in training. Held-out batches stay true, and so do neighbours.
        predicted_share: share of the training sentences, among those with a prediction, that are given as predicted.
        predicted_held_out: whether held-out batches give predictions too, wherever there are some.
    """

    def __init__(
        self,
        store: str | list[str],
        batch_size: int | None = None,
        context_sentences: int = 2,
        weights: list[float] | None = None,
        seed: int = 0,
        *,
        max_tokens: int | None = None,
        max_context_tokens: int | None = None,
        before: int = 0,
        after: int = 0,
        predicted: str | list[str] | None = None,
        predicted_share: float = 0.5,
        predicted_held_out: bool = False,
    ) -> None:
        super().__init__()
        check_budget(batch_size, max_tokens, max_context_tokens)
        if context_sentences < 0 or before < 0 or after < 0 or not 0 <= predicted_share <= 1:
            raise ValueError(
                "need context_sentences, before and after >= 0 and 0 <= predicted_share <= 1, "
                f"found {context_sentences}, {before}, {after} and {predicted_share}"
            )
        if predicted_held_out and predicted is None:
            raise ValueError("predicted_held_out needs predictions; give predicted, a folder that lcm foretell wrote")
        self.stores = open_stores(store)
        check_weights(weights, len(self.stores))
        self.batch_size = batch_size or _BATCH_SIZE
        self.max_tokens, self.max_context_tokens = max_tokens, max_context_tokens
        self.context_sentences, self.weights, self.seed = context_sentences, weights, seed
        self.before, self.after = before, after
        self.predicted = self._open_predictions(predicted)
        self.predicted_share, self.predicted_held_out = predicted_share, predicted_held_out

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder that made the stores."""
        return self.stores[0].encoder

    @cached_property
    def predicted_level(self) -> float:
        """Share of the variance of predicted concepts that is noise, over training sentences; 0 without predictions.

        One number for all of them, as `noise_level` says: at decoding time nobody knows how far off a prediction is.
        """
        if not self.predicted:
            return 0.0
        datasets = self.datasets("train")
        items = self._mix(datasets).items(0)
        parts = self._predictions(datasets, 0.0)
        items = items[np.concatenate([part.known for part in parts])[items]][:_MEASURED]
        if len(items) < 2:
            folders = " or ".join(str(found.path) for found in self.predicted)
            raise ValueError(
                f"no training sentence has a prediction in {folders}; run lcm foretell with --splits train"
            )
        starts = np.cumsum([0, *map(len, datasets)])
        own = [items[(items >= start) & (items < stop)] - start for start, stop in pairwise(starts)]
        found = torch.cat([part.concepts(some) for part, some in zip(parts, own, strict=True)])
        true = torch.cat([dataset.concepts(some) for dataset, some in zip(datasets, own, strict=True)])
        return noise_level(found, true)

    def datasets(self, split: str) -> list[SentenceDataset]:
        """Return the sentences of a split, a data set for each store; none is an error that says what to do."""
        level = 0.0 if self.predicted and (split == "train" or self.predicted_held_out) else None
        datasets = [
            SentenceDataset(
                store,
                store.split(split),
                self.context_sentences,
                before=self.before,
                after=self.after,
                level=level,
            )
            for store in self.stores
        ]
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
        mixture, cut_up = self._mix(datasets), self._cut(datasets)
        if not self.predicted:
            return self._loader(ConcatDataset[Item](datasets), lambda epoch: cut_up(mixture.items(epoch), epoch))
        parts = self._predictions(datasets, self.predicted_level)
        known = np.concatenate([part.known for part in parts])

        def batches_of(epoch: int) -> Batches:
            items = mixture.items(epoch)
            drawn = torch.rand(len(items), generator=keyed_generator(self.seed, epoch)).numpy() < self.predicted_share
            return cut_up(np.where(drawn & known[items], items + len(known), items), epoch)

        return self._loader(ConcatDataset[Item]([*datasets, *parts]), batches_of)

    def held_out(self, split: str) -> DataLoader[Item]:
        """Return the batches of a split, in one mixed order, so that a few batches speak for all documents."""
        datasets = self.datasets(split)
        dataset = ConcatDataset[Item](
            self._predictions(datasets, self.predicted_level) if self.predicted_held_out else datasets
        )
        order = shuffled(len(dataset), self.seed, 0)
        batches = cut(order, self.batch_size) if self.max_tokens is None else self._cut(datasets)(order, 0)
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
        """Move the tensors of a batch; Lightning calls it."""
        return batch.to(device)

    def _cut(self, datasets: Sequence[SentenceDataset]) -> Callable[[np.ndarray, int], Batches]:
        """Return what cuts an order of items, for an epoch, into batches; items past the last are its predicted twins.

        Every epoch has as many batches as the first that is cut.
        """
        if self.max_tokens is None:
            lengths = np.tile(np.concatenate([dataset.lengths for dataset in datasets]), 2)
            return lambda order, epoch: bucketed(order, lengths, self.batch_size, self.seed, epoch)
        counts = [dataset.token_counts() for dataset in datasets]
        context = [dataset.context_counts(count) for dataset, count in zip(datasets, counts, strict=True)]
        own, before = np.tile(np.concatenate(counts), 2), np.tile(np.concatenate(context), 2)
        if self.max_context_tokens is not None:
            before = before.clip(max=self.max_context_tokens)
        rows = own + before + (_ROW_TOKENS + self.before + self.after)
        budget, num_batches = self.max_tokens, None

        def cut_up(order: np.ndarray, epoch: int) -> Batches:
            nonlocal num_batches
            batches = budgeted(order, rows, own, budget, seed=self.seed, epoch=epoch, num_batches=num_batches)
            num_batches = num_batches or len(batches)
            return batches

        return cut_up

    def _loader(self, dataset: ConcatDataset[Item], batches_of: Callable[[int], Batches]) -> ResumableLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return ResumableLoader(dataset, EpochBatches(batches_of, rank=rank, world_size=world_size), collate_fn=collate)

    def _mix(self, datasets: Sequence[SentenceDataset]) -> Mixture:
        return Mixture([len(dataset) for dataset in datasets], self.weights, self.seed)

    def _predictions(self, datasets: Sequence[SentenceDataset], level: float) -> list[PredictedSentences]:
        parts = zip(datasets, self.predicted, strict=True)
        return [PredictedSentences(dataset, predicted, level) for dataset, predicted in parts]

    def _open_predictions(self, paths: str | Sequence[str] | None) -> list[PredictedConcepts]:
        if paths is None:
            return []
        paths = [paths] if isinstance(paths, str) else list(paths)
        if len(paths) != len(self.stores) or not all(paths):
            raise ValueError(
                f"need a folder of predictions for each store, found {sum(map(bool, paths))} and {len(self.stores)} "
                'stores; make one of each with "lcm foretell"'
            )
        return [PredictedConcepts.open(path, store) for path, store in zip(paths, self.stores, strict=True)]


def check_budget(batch_size: int | None, max_tokens: int | None, max_context_tokens: int | None) -> None:
    """Raise ValueError unless a batch is bounded in one way, and all that is given is used."""
    if batch_size is not None and max_tokens is not None:
        raise ValueError(f"give batch_size or max_tokens, found both ({batch_size} and {max_tokens}); set one to null")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"need batch_size >= 1, found {batch_size}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"need max_tokens >= 1, found {max_tokens}")
    if max_context_tokens is not None and (max_tokens is None or max_context_tokens < 0):
        raise ValueError(
            f"max_context_tokens = {max_context_tokens} bounds what max_tokens counts; give both, or batch_size alone"
        )
