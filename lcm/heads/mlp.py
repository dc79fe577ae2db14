"""A residual network over one vector, steered by a condition: what flow and energy heads are made of."""

from collections.abc import Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualLayer(nn.Module):
    """Linear, SiLU, linear, scaled, shifted and gated by a condition; at the start it changes nothing (AdaLN-zero).

    The layer is that of MAR's denoising MLP (arXiv:2406.11838), the zero start that of arXiv:2212.09748.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, elementwise_affine=False)  # the modulator scales already
        self.branch = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulator = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.modulator.weight)
        nn.init.zeros_(self.modulator.bias)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Return h (..., W) after a branch that condition (..., W) steers."""
        scale, shift, gate = self.modulator(condition).float().chunk(3, dim=-1)  # 1 + .003 is 1 in bfloat16
        return h + gate * self.branch((1 + scale) * self.norm(h) + shift)


class ResidualMLP(nn.Module):
    """Residual layers over one vector: (..., I), condition (..., W) -> (..., O), which is zero before training.

    The condition is added to the embedded vector and steers each layer. Leading sizes are broadcast, so a condition
    with a size of 1 is projected once for many vectors. It has no dropout: to an energy head that would be one more
    source of noise, there in training and gone in sampling.

    Args:
        in_dim: width I of the vector.
        width: width W of the layers and of the condition.
        out_dim: width O of the result.
        num_layers: residual layers.
    """

    def __init__(self, in_dim: int, width: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, found {num_layers}")
        self.input = nn.Linear(in_dim, width)
        self.layers = cast("Iterable[ResidualLayer]", nn.ModuleList(ResidualLayer(width) for _ in range(num_layers)))
        self.norm, self.output = nn.RMSNorm(width), nn.Linear(width, out_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, vector: Tensor, condition: Tensor) -> Tensor:
        """Return (..., O), float32, of vector (..., I) under condition (..., W)."""
        h = self.input(vector).float() + condition.float()  # the residual stream stays in float32 under autocast
        steer = F.silu(condition)
        for layer in self.layers:
            h = layer(h, steer)
        return self.output(self.norm(h)).float()
