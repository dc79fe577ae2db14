"""Raw concepts to normalised x and back."""

import torch
from torch import Tensor, nn

IQR_TO_SD = 0.7413  # standard deviation of a Gaussian over its interquartile range


class Normalizer(nn.Module):
    """Centre and scale concepts per dimension: raw (..., D) <-> x (..., D).

    Centre is the median, scale is the interquartile range times 0.7413, which equals the standard deviation for
    Gaussian data and ignores heavy tails (arXiv:2307.05445, as used by Meta's LCM). The scale has a floor, a share of
    the median scale over all living dimensions, because a nearly dead dimension would otherwise be blown up into noise.

    Args:
        dim: width D of a concept.
        floor: smallest scale, as a share of the median scale.
    """

    centre: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, dim: int, floor: float = 0.1) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, concepts: Tensor) -> None:
        """Set centre and scale from raw concepts (N, D), N >= 2."""
        if len(concepts) < 2:
            raise ValueError(f"a normaliser needs at least 2 concepts, found {len(concepts)}; encode a larger corpus")
        columns = concepts.float().sort(dim=0).values  # torch.quantile stops at 16M elements, sorting does not
        low, middle, high = (columns[round(q * (len(columns) - 1))] for q in (0.25, 0.5, 0.75))
        scale = IQR_TO_SD * (high - low)
        if not scale.any():  # sparse concepts: more than half of the values of each dimension are the same
            scale = columns.std(dim=0)
        if not scale.any():
            raise ValueError("the concepts do not vary: every sentence has the same vector; check the corpus")
        self.centre.copy_(middle)
        self.scale.copy_(scale.clamp_min(self.floor * scale[scale > 0].median()))
        self.fitted.fill_(True)

    def forward(self, concepts: Tensor) -> Tensor:
        """Raw concepts (..., D) -> x (..., D), float32."""
        if not self.fitted:
            raise ValueError('the normaliser has not been fitted; run "lcm fit", or call normalizer.fit(concepts)')
        return (concepts.float() - self.centre) / self.scale

    def inverse(self, x: Tensor) -> Tensor:
        """X (..., D) -> raw concepts (..., D), float32."""
        return x.float() * self.scale + self.centre
