"""Measures of a concept model and its baselines on held-out documents."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Generator, Tensor

from data.batch import ConceptBatch
from data.store import ConceptStore
from lcm import metrics
from lcm.metrics import Interval
from lcm.model import ConceptModel

Predict = Callable[[Tensor, Tensor], Tensor]  # concepts (S, D), levels (S,) -> predictions (S - 1, D)
SMALLER_IS_BETTER = ("energy score", "l2")
NOT_RANKED = ("PAR",)  # best where it is 1


@dataclass(frozen=True)
class HeldOut:
    """Held-out documents and the pool that a prediction has to find its concept in.

    Attributes:
        concepts: raw concepts (S_d, D) of each document.
        levels: levels (S_d,) of their rows; only sentences (level 0) are scored.
        pool: (M, D) concepts of held-out sentences.
        sources: the store and the number in it of each document.
    """

    concepts: Sequence[Tensor]
    levels: Sequence[Tensor]
    pool: Tensor
    sources: Sequence[tuple[ConceptStore, int]] = ()

    @classmethod
    def from_store(cls, store: ConceptStore, split: str = "test", *, pool: int = 2000, seed: int = 0) -> "HeldOut":
        """Read a split; where it holds fewer sentences than `pool`, the other held-out split fills the pool up."""
        return cls.from_stores([store], split, pool=pool, seed=seed)

    @classmethod
    def from_stores(
        cls,
        stores: Sequence[ConceptStore],
        split: str = "test",
        *,
        pool: int = 2000,
        max_rows: int | None = None,
        seed: int = 0,
    ) -> "HeldOut":
        """Read a split of several stores of one encoder, up to `max_rows` first rows of a document; see from_store."""
        if pool < 1:
            raise ValueError(f"pool must be at least 1, found {pool}")
        sources = [(store, int(i)) for store in stores for i in store.split(split) if store.lengths[i] >= 2]
        if not sources:
            paths = ", ".join(str(store.path) for store in stores)
            raise ValueError(f"the store {paths} has no {split} document to measure on; encode more documents")
        documents = [read_document(store, i) for store, i in sources]
        candidates = sentences_of(documents)
        if len(candidates) < pool:
            other = {"test": "validation", "validation": "test"}.get(split, "test")
            more = [read_document(store, i) for store in stores for i in store.split(other)]
            candidates = torch.cat([candidates, *([sentences_of(more)] if more else [])])
        chosen = torch.randperm(len(candidates), generator=Generator().manual_seed(seed))[:pool]
        concepts, levels = zip(*((c[:max_rows], level[:max_rows]) for c, level in documents), strict=True)
        return cls(concepts, levels, candidates[chosen], sources)

    def positions(self, num: int, *, first: int = 1, last: int | None = None, seed: int = 0) -> list[Tensor]:
        """Draw up to `num` sentences of all documents, at rows `first` to `last`: the rows (P_d,) of each, rising."""
        scored = [torch.nonzero(level == 0)[:, 0] for level in self.levels]
        scored = [
            row[(row >= max(first, 1)) & (row <= (last or len(level)))]
            for row, level in zip(scored, self.levels, strict=True)
        ]
        owner = torch.repeat_interleave(torch.tensor([len(row) for row in scored]))
        chosen = torch.randperm(len(owner), generator=Generator().manual_seed(seed))[:num].sort().values
        return [torch.cat(scored)[chosen[owner[chosen] == document]] for document in range(len(scored))]


def read_document(store: ConceptStore, index: int) -> tuple[Tensor, Tensor]:
    """Return the raw concepts (S, D), float32, and the levels (S,) of a document."""
    return (
        torch.from_numpy(store[index].astype("float32")),
        torch.from_numpy(store.levels(index).astype("int64")),
    )


def sentences_of(documents: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the concepts (N, D) of all rows of level 0."""
    return torch.cat([concepts[level == 0] for concepts, level in documents] or [torch.empty(0, 0)])


def predictor(model: ConceptModel, *, length: int, seed: int = 0, **sampling: Any) -> Predict:
    """Return the model's teacher-forced prediction of every concept of a document but the first.

    A document longer than `length` is read in windows that overlap by half, and only the later half of a window counts,
    so every prediction sees at least length / 2 rows, or all there are.
    """
    generator = Generator().manual_seed(seed)

    def predict(concepts: Tensor, level: Tensor) -> Tensor:
        half = length // 2
        num_windows = 1 + -(-max(len(concepts) - length, 0) // half)
        windows = [slice(i * half, i * half + length) for i in range(num_windows)]
        predicted = []
        for first in range(0, len(windows), 8):
            some = windows[first : first + 8]
            batch = ConceptBatch.pad([concepts[w] for w in some], [level[w] for w in some])
            found = model.predict(batch, generator=generator, **sampling)
            predicted += [
                found[i, (length - half if w.start else 1) : len(concepts[w])].clone() for i, w in enumerate(some)
            ]
        return torch.cat(predicted)

    return predict


def baselines(mean: Tensor) -> dict[str, Predict]:
    """Return the predictors that a model has to beat; `mean` (D,) is that of the training concepts."""
    return {
        "copy the last": lambda concepts, _: metrics.copy_last(concepts),
        "running mean": lambda concepts, _: metrics.running_mean(concepts),
        "corpus mean": lambda concepts, _: metrics.corpus_mean(mean)(concepts),
    }


@dataclass(frozen=True)
class Measured:
    """A predictor's measures over all sentences of the held-out documents.

    Attributes:
        name: of the predictor.
        values: measure -> one tensor (P_d,) a document.
    """

    name: str
    values: Mapping[str, Sequence[Tensor]]

    def row(self) -> dict[str, str | int | Interval]:
        """Return the means, each with a 95 % interval over documents, and the number of positions."""
        known = {key: value for key, value in self.values.items() if any(v.isfinite().any() for v in value)}
        intervals = {key: metrics.mean_interval(value) for key, value in known.items()}
        return {"predictor": self.name, **intervals, "positions": intervals["l2"].num_positions}


def measure(name: str, predict: Predict, held_out: HeldOut) -> Measured:
    """Measure a predictor on every sentence but the first row of each document."""
    values: dict[str, list[Tensor]] = {}
    for concepts, level in zip(held_out.concepts, held_out.levels, strict=True):
        predicted, sentence = predict(concepts, level), level[1:] == 0
        ranks = metrics.retrieval_ranks(predicted, concepts, held_out.pool)
        for measure_name, value in {
            "contrastive accuracy": metrics.contrastive_accuracy(predicted, concepts),
            "R@1": metrics.recall_at(1, ranks),
            "R@10": metrics.recall_at(10, ranks),
            "l2": metrics.l2(predicted, concepts),
            "cosine": metrics.cosine(predicted, concepts),
            "PAR": metrics.prior_alignment(predicted, concepts),
        }.items():
            values.setdefault(measure_name, []).append(value[sentence])
    return Measured(name, values)


def verdict(measured: Sequence[Measured]) -> str:
    """Say who wins each column, and whom the winner cannot be told apart from on these documents.

    Two predictors are told apart if the 95 % interval of their difference, position by position, leaves out zero.
    """
    sentences = []
    for column in measured[0].values:
        if column in NOT_RANKED:
            continue
        sign = 1 if column in SMALLER_IS_BETTER else -1
        ranks = [sign * metrics.mean_interval(m.values[column]).mean for m in measured]
        best = measured[ranks.index(min(ranks))]
        others = [m for _, m in sorted(zip(ranks, measured, strict=True), key=itemgetter(0)) if m is not best]
        close = [other.name for other in others if not told_apart(best, other, column)]
        sentences.append(
            f"{column}: {best.name}" + (f", not told apart from {', '.join(close)}" if close else "") + "."
        )
    return "Best in " + " ".join(sentences)


def difference(one: Measured, other: Measured, column: str) -> Interval:
    """Return the mean paired difference of two predictors with its 95 % interval over documents."""
    return metrics.mean_interval([a - b for a, b in zip(one.values[column], other.values[column], strict=True)])


def told_apart(one: Measured, other: Measured, column: str) -> bool:
    """Return whether the paired difference of two predictors is more than chance over documents."""
    gap = difference(one, other, column)
    return abs(gap.mean) > gap.half_width  # False for a single document, whose interval is NaN


def leads(measured: Sequence[Measured], column: str = "contrastive accuracy") -> str:
    """Say how far the first predictor, the model, is ahead of each other one."""
    model, *others = measured
    gaps = ", ".join(f"{difference(model, other, column)} against {other.name}" for other in others)
    return f"The model's lead on {column}, paired: {gaps}."


@torch.no_grad()
def context_gap(
    model: ConceptModel, held_out: HeldOut, *, length: int = 32, max_windows: int | None = None, seed: int = 0
) -> dict[str, float | int]:
    """Return the loss with the true context and with that of another document, same noise, over windows of `length`.

    A model that ignores its context shows no difference, however good its loss looks. With `max_windows` so many
    windows, drawn with the seed, are taken.
    """
    windows, owners = [], []
    for document, (concepts, level) in enumerate(zip(held_out.concepts, held_out.levels, strict=True)):
        for start in range(0, len(concepts) - length + 1, length):
            windows.append((concepts[start : start + length], level[start : start + length]))
            owners.append(document)
    if len(set(owners)) < 2:
        return {"windows": len(windows)}
    generator, owner = Generator().manual_seed(seed), torch.tensor(owners)
    other = torch.stack([pick_other(owner, i, generator) for i in range(len(owner))])
    concepts, levels = (torch.stack(parts) for parts in zip(*windows, strict=True))
    whole = ConceptBatch(concepts, torch.ones(levels.shape, dtype=torch.bool), levels)
    chosen = torch.arange(len(owner)) if max_windows is None else torch.randperm(len(owner), generator=generator)
    chosen = chosen[:max_windows]
    sums = dict.fromkeys(("true context", "shuffled context"), 0.0)
    for i in chosen.split(64):
        for name, seen in (("true context", i), ("shuffled context", other[i])):
            same_noise = Generator().manual_seed(seed)
            loss = model.loss(rows(whole, i), same_noise, read=rows(whole, seen))["loss"]
            sums[name] += loss.item() * len(i)
    losses = {name: value / len(chosen) for name, value in sums.items()}
    return {**losses, "difference": losses["shuffled context"] - losses["true context"], "windows": len(chosen)}


def rows(batch: ConceptBatch, which: Tensor) -> ConceptBatch:
    """Return some rows (N,) of a batch of unpacked windows."""
    return ConceptBatch(batch.concepts[which], batch.mask[which], batch.level[which])


def pick_other(owner: Tensor, i: int, generator: Generator) -> Tensor:
    """Return a random index whose owner is not that of i."""
    others = (owner != owner[i]).nonzero()[:, 0]
    return others[torch.randint(len(others), (), generator=generator)]
