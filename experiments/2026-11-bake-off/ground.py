"""What every row of the table is measured on, and its columns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from texts import Texts
from torch import Generator, Tensor

from data.module import ConceptDataModule
from lcm import metrics
from lcm.draws import Draw
from lcm.evaluation import HeldOut
from lcm.normalizer import Normalizer

BUCKETS = (1, 17, 65, 257, 1025, 2049)  # first row of each range of positions, and the end
RANGES = [(first, end - 1) for first, end in pairwise(BUCKETS)]


@dataclass(frozen=True)
class Ground:
    """What all rows of the table are measured on.

    Attributes:
        held_out: documents and pool.
        at: rows (P_d,) of each document that are predicted.
        drawn: for each, whether it belongs to the sample of all positions; the others only fill ranges with few.
        normalizer: space of the energy score.
        sample: training concepts (N, D).
        texts: where predictions are decoded; None to leave text out.
    """

    held_out: HeldOut
    at: Sequence[Tensor]
    drawn: Sequence[Tensor]
    normalizer: Normalizer
    sample: Tensor
    texts: Texts | None

    @classmethod
    def prepare(
        cls, stores: Sequence[str], split: str, num_positions: int, num_texts: int, decoder: str | None, seed: int
    ) -> "Ground":
        """Draw documents, pool and positions, the same in every process, and fit the common normaliser.

        Positions are drawn from all sentences alike. A range of rows that got less than an eighth of them is filled up
        to that with more of its own, so its curve stands on as many; they do not count beyond it.
        """
        module = ConceptDataModule(list(stores), end_of_text=False)
        held_out = HeldOut.from_stores(module.stores, split, max_rows=BUCKETS[-1], seed=seed)
        alike = held_out.positions(num_positions, seed=seed)
        parts = [alike]
        for first, last in RANGES:
            missing = num_positions // 8 - sum(int(((row >= first) & (row <= last)).sum()) for row in alike)
            if missing > 0:
                parts.append(held_out.positions(missing, first=first, last=last, seed=seed + 1))
        at = [torch.cat(rows).unique() for rows in zip(*parts, strict=True)]
        drawn = [torch.isin(rows, some) for rows, some in zip(at, alike, strict=True)]
        sample = module.sample_concepts(50_000)
        normalizer = Normalizer(sample.shape[1])
        normalizer.fit(sample)
        texts = Texts.prepare(held_out, alike, decoder, num=num_texts, seed=seed) if decoder and num_texts else None
        return cls(held_out, at, drawn, normalizer, sample, texts)

    def positions(self) -> dict[str, Any]:
        """Return what each value of a column is about: document, row, whether in the sample of all positions."""
        titles = [f"{store.path.name}: {store.documents[i].title}" for store, i in self.held_out.sources]
        return {
            "documents": titles,
            "document": torch.repeat_interleave(torch.tensor([len(rows) for rows in self.at])).tolist(),
            "row": torch.cat(list(self.at)).tolist(),
            "drawn": torch.cat(list(self.drawn)).tolist(),
            "pool": len(self.held_out.pool),
        }

    def measure(self, draws: Mapping[str, Draw], *, text: Sequence[str] = ()) -> dict[str, Any]:
        """Return the columns of every answer, one list over all documents, and those of text for answers named so.

        An answer that draws several has another beside it, their mean, which spread does not hurt.
        """
        columns: dict[str, list[dict[str, Tensor]]] = {}
        first: dict[str, list[Tensor]] = {}
        for concepts, level, at in zip(self.held_out.concepts, self.held_out.levels, self.at, strict=True):
            for name, draw in draws.items():
                answers = {name: (samples := draw(concepts, level, at))}
                if len(samples) > 1:
                    answers[f"mean of {len(samples)}"] = samples.mean(0, keepdim=True)
                for answer, given in answers.items():
                    columns.setdefault(answer, []).append(self.columns(given, concepts, at))
                    first.setdefault(answer, []).append(given[0])
        found: dict[str, Any] = {}
        for answer, values in columns.items():
            found[answer] = {"columns": {key: to_list(torch.cat([v[key] for v in values])) for key in values[0]}}
            if self.texts is not None and answer in text:
                found[answer]["text"] = self.texts.measure(first[answer], self.at)
        return found

    def columns(self, samples: Tensor, concepts: Tensor, at: Tensor) -> dict[str, Tensor]:
        """Return the measures (P,) of answers (N, P, D) about a document (S, D): each a mean over the N answers."""
        values: dict[str, list[Tensor]] = {}
        for given in samples:
            ranks = metrics.retrieval_ranks(given, concepts, self.held_out.pool, at)
            for name, value in {
                "CA": metrics.contrastive_accuracy(given, concepts, at),
                "R@1": metrics.recall_at(1, ranks),
                "R@10": metrics.recall_at(10, ranks),
                "l2": metrics.l2(given, concepts, at),
                "cosine": metrics.cosine(given, concepts, at),
                "PAR": metrics.prior_alignment(given, concepts, at),
            }.items():
                values.setdefault(name, []).append(value)
        energy = metrics.energy_score(self.normalizer(samples), self.normalizer(concepts[at]))
        return {name: torch.stack(value).mean(0) for name, value in values.items()} | {"energy score": energy}


def draw_bank(sample: Tensor, num: int, seed: int) -> Tensor:
    """Return `num` of the concepts (N, D), drawn without order: a sample has one corpus behind the other.

    Raises:
        ValueError: there are fewer.
    """
    if num > len(sample):
        raise ValueError(f"a row asks for a bank of {num} concepts, found {len(sample)}; change bank in its row")
    return sample[torch.randperm(len(sample), generator=Generator().manual_seed(seed))[:num]]


def to_list(values: Tensor) -> list[float | None]:
    """Return numbers of six digits, None for NaN."""
    return [None if math.isnan(value) else float(f"{value:.6g}") for value in values.tolist()]
