"""The baselines that are fitted: ridge regression on the last concepts, and a mean of the recent ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from data.store import ConceptStore
from lcm import metrics
from lcm.evaluation import Predict, read_document, sentences_of

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # times the mean eigenvalue of the features
DECAYS, WEIGHTS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9), (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_CONCEPTS, MAX_FEATURES = 8, 4096  # concepts that ridge regression reads, fewer of a wide encoder
MAX_FITTED, MAX_TUNED, MAX_LENGTH = 100_000, 5_000, 500  # sentences to fit, to choose on, and of a document of these
BLOCK = 2048  # rows whose products are summed in float32

Documents = Sequence[tuple[Tensor, Tensor]]  # raw concepts (S, D) and levels (S,)


@dataclass(frozen=True)
class FittedBaselines:
    """Baselines fitted to a store, and in words what they were fitted to.

    Attributes:
        predictors: name -> predictor.
        note: how many documents each saw, and what was chosen.
    """

    predictors: dict[str, Predict]
    note: str


def fit_baselines(
    stores: Sequence[ConceptStore], *, tune_on: str = "validation", seed: int = 0, max_fitted: int = MAX_FITTED
) -> FittedBaselines:
    """Fit the recent mean to held-out documents of stores and ridge regression to training documents.

    Of large stores both see documents drawn at random; where there are too few documents, a baseline is left out.

    Args:
        stores: concepts of all splits, of one encoder.
        tune_on: split of which the recent mean is chosen, not the one that is measured.
        seed: of the draw.
        max_fitted: most sentences for ridge regression, whose time is 2 * 64 D^2 operations each.
    """
    predictors, notes = {}, []
    tuned = [(c[:MAX_LENGTH], level[:MAX_LENGTH]) for c, level in draw(stores, tune_on, MAX_TUNED, seed)]
    if any(len(concepts) > 3 for concepts, _ in tuned):  # fewer have no contrastive accuracy
        decay, weight = choose_recent_mean(tuned)
        predictors["recent mean"] = recent_mean(decay, weight)
        notes.append(
            f"Recent mean: decay {decay:g} and weight {weight:g}, the best on {len(tuned)} {tune_on} documents."
        )
    fitted = draw(stores, "train", max_fitted, seed)
    if len(fitted) > 1:
        num_concepts = max(1, min(NUM_CONCEPTS, MAX_FEATURES // stores[0].dim))
        predictors["ridge regression"] = ridge(fitted, num_concepts=num_concepts)
        num_rows = sum(len(concepts) for concepts, _ in fitted)
        num_documents = sum(len(store.split("train")) for store in stores)
        notes.append(
            f"Ridge regression on the last {num_concepts} concepts: fitted to {len(fitted)} of "
            f"{num_documents} training documents, {num_rows:,} rows."
        )
    return FittedBaselines(predictors, " ".join(notes))


def draw(stores: Sequence[ConceptStore], split: str, num_rows: int, seed: int) -> Documents:
    """Read documents of two rows or more in random order until they have num_rows rows, all if they have not."""
    documents = [(store, int(i)) for store in stores for i in store.split(split) if store.lengths[i] >= 2]
    drawn, left = [], num_rows
    for chosen in torch.randperm(len(documents), generator=Generator().manual_seed(seed)).tolist():
        if left <= 0:
            break
        drawn.append(read_document(*documents[chosen]))
        left -= len(drawn[-1][0])
    return drawn


def recent_mean(decay: float, weight: float) -> Predict:
    """Return the baseline "what is new": a mean of the last concepts less that of the whole document so far.

    A concept k rows back counts decay^k; the running mean is taken off `weight` times, for what all of a document has
    in common tells none of its sentences from another. A decay of 0 without weight copies the last concept.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), found {decay}; the limit of 1 is the running mean")

    def predict(concepts: Tensor, level: Tensor) -> Tensor:
        total, recent = torch.zeros_like(concepts[0]), torch.empty_like(concepts[1:])
        for n, concept in enumerate(concepts[:-1]):
            total = decay * total + concept
            recent[n] = total * ((1 - decay) / (1 - decay ** (n + 1)))
        return recent - weight * metrics.running_mean(concepts)

    return predict


def choose_recent_mean(documents: Documents) -> tuple[float, float]:
    """Return the decay of DECAYS and the weight of WEIGHTS with the best contrastive accuracy on documents."""

    def accuracy(choice: tuple[float, float]) -> float:
        predict = recent_mean(*choice)
        values = [
            metrics.contrastive_accuracy(predict(concepts, level), concepts)[level[1:] == 0]
            for concepts, level in documents
        ]
        return float(torch.cat(values).nanmean())

    return max(product(DECAYS, WEIGHTS), key=accuracy)


def ridge(documents: Documents, *, num_concepts: int = NUM_CONCEPTS) -> Predict:
    """Return the ridge regression of a sentence on the `num_concepts` rows before it.

    The penalty is the one of PENALTIES that does best in squared error on every fifth document, after a fit on the
    others; then all documents are fitted. Takes about 2 N (num_concepts D)^2 operations and the memory of a
    few matrices of that width.

    Args:
        documents: raw concepts (S, D) and levels (S,) of training documents, two or more; headings are read, sentences
            (level 0) are predicted.
        num_concepts: how many rows back a prediction sees; there are zeros, the mean, before the first.
    """
    if len(documents) < 2 or num_concepts < 1:
        raise ValueError(
            f"need 2 documents to choose a penalty and num_concepts >= 1, found {len(documents)} and {num_concepts}"
        )
    mean = sentences_of(documents).mean(0)
    kept_out = sum_products(documents[::5], mean, num_concepts)
    fitted = sum_products([document for i, document in enumerate(documents) if i % 5], mean, num_concepts)
    whole = Products(fitted.features + kept_out.features, fitted.targets + kept_out.targets)
    penalty = min(PENALTIES, key=lambda penalty: kept_out.error(fitted.solve(penalty)))
    weight = whole.solve(penalty).to(mean)

    def predict(concepts: Tensor, level: Tensor) -> Tensor:
        return last_concepts(concepts - mean, num_concepts) @ weight + mean

    return predict


def last_concepts(concepts: Tensor, num: int) -> Tensor:
    """Return the `num` rows before each row but the first, the nearest in front: (S, D) -> (S - 1, num * D)."""
    padded = F.pad(concepts, (0, 0, num, 0))
    return torch.cat([padded[num - back : num - back + len(concepts) - 1] for back in range(num)], dim=-1)


@dataclass(frozen=True)
class Products:
    """All that least squares need of features f (N, F) and targets y (N, D), float64.

    Attributes:
        features: f^T f, (F, F).
        targets: f^T y, (F, D).
    """

    features: Tensor
    targets: Tensor

    def solve(self, penalty: float) -> Tensor:
        """Return the weights (F, D) that minimise |f w - y|^2 + penalty * (mean eigenvalue) * |w|^2."""
        diagonal = self.features.diagonal().mean() * penalty
        factor = torch.linalg.cholesky(self.features + diagonal * torch.eye(len(self.features), dtype=torch.float64))
        return torch.cholesky_solve(self.targets, factor)

    def error(self, weight: Tensor) -> float:
        """Return |f w - y|^2 less the constant |y|^2."""
        return float((weight * (self.features @ weight - 2 * self.targets)).sum())


def sum_products(documents: Documents, mean: Tensor, num_concepts: int) -> Products:
    """Return the products over all sentences but the first row of each document, all less the mean (D,).

    A block of rows is multiplied in float32, which takes half the time, and added up in float64; of f^T f the part
    above the diagonal is enough.
    """
    width, dim = num_concepts * len(mean), len(mean)
    features, targets = torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, dim, dtype=torch.float64)
    for read, true in in_blocks(pairs(documents, mean, num_concepts)):
        for first in range(0, width, dim):
            features[first : first + dim, first:] += read[:, first : first + dim].T @ read[:, first:]
        targets += read.T @ true
    return Products(features.triu() + features.triu(1).T, targets)


def pairs(documents: Documents, mean: Tensor, num_concepts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features (P, F) and targets (P, D) of up to BLOCK sentences of a document at a time."""
    for concepts, level in documents:
        sentence = level[1:] == 0
        read, true = last_concepts(concepts - mean, num_concepts)[sentence], (concepts[1:] - mean)[sentence]
        yield from zip(read.split(BLOCK), true.split(BLOCK), strict=True)


def in_blocks(parts: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Join parts, so that short documents are multiplied together, into blocks of less than 2 * BLOCK rows."""
    held: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        held.append(part)
        if sum(len(read) for read, _ in held) >= BLOCK:
            yield join(held)
            held = []
    if held:
        yield join(held)


def join(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Put the rows of all parts under each other."""
    read, true = zip(*parts, strict=True)
    return torch.cat(read), torch.cat(true)
