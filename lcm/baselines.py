"""The baseline that learns: ridge regression on the last concepts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm.evaluation import Predict, sentences_of

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # times the mean eigenvalue of the features


def ridge(documents: Sequence[tuple[Tensor, Tensor]], *, num_concepts: int = 8) -> Predict:
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


def sum_products(documents: Sequence[tuple[Tensor, Tensor]], mean: Tensor, num_concepts: int) -> Products:
    """Return the products over all sentences but the first row of each document, all less the mean (D,)."""
    width, dim = num_concepts * len(mean), len(mean)
    features, targets = torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, dim, dtype=torch.float64)
    for concepts, level in documents:
        sentence = level[1:] == 0
        read = last_concepts(concepts - mean, num_concepts)[sentence].double()
        features.addmm_(read.T, read)
        targets.addmm_(read.T, (concepts[1:] - mean)[sentence].double())
    return Products(features, targets)
