"""Raw concepts to normalised x and back."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

IQR_TO_SD = 0.7413  # standard deviation of a Gaussian over its interquartile range


class FittedNormalizer(nn.Module, ABC):
    """An invertible map, fitted to data, of raw concepts (..., D) to x (..., D): a centre, and what a subclass does.

    Args:
        dim: width D of a concept.
    """

    centre: Tensor
    fitted: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, concepts: Tensor) -> None:
        """Set all buffers from raw concepts (N, D), N >= 2, not all the same."""
        if len(concepts) < 2:
            raise ValueError(f"a normaliser needs at least 2 concepts, found {len(concepts)}; encode a larger corpus")
        if (concepts == concepts[0]).all():
            raise ValueError("the concepts do not vary: every sentence has the same vector; check the corpus")
        self.measure(concepts)
        self.fitted.fill_(True)

    def forward(self, concepts: Tensor) -> Tensor:
        """Raw concepts (..., D) -> x (..., D), float32, also under autocast."""
        if not self.fitted:
            raise ValueError('the normaliser has not been fitted; run "lcm fit", or call normalizer.fit(concepts)')
        return self.scaled(concepts.float() - self.centre)

    def inverse(self, x: Tensor) -> Tensor:
        """X (..., D) -> raw concepts (..., D), float32, also under autocast."""
        return self.unscaled(x.float()) + self.centre

    @abstractmethod
    def measure(self, concepts: Tensor) -> None:
        """Set the centre and the buffers of the subclass from raw concepts (N, D) that vary."""

    @abstractmethod
    def scaled(self, centred: Tensor) -> Tensor:
        """Centred concepts (..., D) -> x (..., D), both float32."""

    @abstractmethod
    def unscaled(self, x: Tensor) -> Tensor:
        """Undo scaled()."""


class Normalizer(FittedNormalizer):
    """Centre and scale concepts per dimension: raw (..., D) <-> x (..., D).

    Centre is the median, scale is the interquartile range times 0.7413, which equals the standard deviation for
    Gaussian data and ignores heavy tails (arXiv:2307.05445, as used by Meta's LCM). The scale has a floor, a share of
    the median scale over all living dimensions, because a nearly dead dimension would otherwise be blown up into noise.

    Args:
        dim: width D of a concept.
        floor: smallest scale, as a share of the median scale.
    """

    scale: Tensor

    def __init__(self, dim: int, floor: float = 0.1) -> None:
        super().__init__(dim)
        self.floor = floor
        self.register_buffer("scale", torch.ones(dim))

    def measure(self, concepts: Tensor) -> None:
        """Set centre and scale."""
        columns = concepts.float().T.contiguous()  # (D, N): torch.quantile stops at 16M elements, kthvalue does not
        ranks = (1 + round(q * (len(concepts) - 1)) for q in (0.25, 0.5, 0.75))
        low, middle, high = (columns.kthvalue(rank, dim=1).values for rank in ranks)
        scale = IQR_TO_SD * (high - low)
        if not scale.any():  # sparse concepts: more than half of the values of each dimension are the same
            scale = columns.std(dim=1)
        self.centre.copy_(middle)
        self.scale.copy_(scale.clamp_min(self.floor * scale[scale > 0].median()))

    def scaled(self, centred: Tensor) -> Tensor:
        """Divide by the scale."""
        return centred / self.scale

    def unscaled(self, x: Tensor) -> Tensor:
        """Multiply by the scale."""
        return x * self.scale
