"""Linear layers whose weights oneDNN has laid out once, for decoding on the CPU."""

import torch
from torch import Tensor, nn

from encoders.packed.prepack import Linear, can_prepack, prepack

_ROWS = 32  # sentences that are decoded together


class PackedLinear(nn.Linear):
    """A linear layer that is frozen and computes in bfloat16.

    For a product of few rows oneDNN spends as long on the layout of the weights as on the product. Here the layout is
    made at the first call and kept, beside the weights: a half to a third of the time at 1 to 32 rows. Where a gradient
    is asked for, or not on the CPU, it is nn.Linear.
    """

    packed: Linear | None = None
    packed_version: int = -1

    def forward(self, input: Tensor) -> Tensor:
        """Return input (..., in) times the weights, (..., out)."""
        if not input.is_cpu or (torch.is_grad_enabled() and input.requires_grad):
            return super().forward(input)
        if self.packed is None or self.packed_version != self.weight._version:
            self.packed = prepack(self.weight.detach(), self.bias, rows=_ROWS)
            self.packed_version = self.weight._version
        flat = input.reshape(-1, input.shape[-1]).to(self.weight.dtype)
        return self.packed(flat).view(*input.shape[:-1], self.out_features)


def pack_linear(model: nn.Module) -> int:
    """Turn the frozen bfloat16 nn.Linear of a model on the CPU into PackedLinear, in place; return how many."""
    if not can_prepack():
        return 0
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and _fits(layer.weight)]
    for layer in layers:
        layer.__class__ = PackedLinear  # the same weights under the same names
    return len(layers)


def _fits(weight: Tensor) -> bool:
    return weight.is_cpu and weight.dtype == torch.bfloat16 and not weight.requires_grad
