"""How many of its dimensions an encoder uses."""

from __future__ import annotations

import torch
from torch import Tensor


def eigenvalues(concepts: Tensor) -> Tensor:
    """Return the eigenvalues (D,) of the covariance of concepts (N, D), N >= 2, largest first, float64."""
    if len(concepts) < 2:
        raise ValueError(f"a spectrum needs at least 2 concepts, found {len(concepts)}; encode a larger corpus")
    return torch.linalg.eigvalsh(torch.cov(concepts.double().T)).flip(0).clamp_min(0)


def effective_rank(values: Tensor) -> float:
    """Return exp of the entropy of the normalised eigenvalues (D,): D if all are equal, 1 if only one is not zero.

    The measure is Roy and Vetterli's (EUSIPCO 2007), taken here of the covariance rather than of the singular values.
    """
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def dims_for(values: Tensor, share: float) -> int:
    """Return how many principal components hold a share of the variance; values (D,) are largest first."""
    held = values.cumsum(0) / values.sum()
    return min(int((held < share - 1e-9).sum()) + 1, len(values))
