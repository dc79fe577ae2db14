"""Linear layers in bfloat16 on a CPU whose weights oneDNN lays out once, not at every product."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
Linear = Callable[[Tensor], Tensor]

_POINTWISE: dict[Activation | None, tuple[str, str]] = {  # how oneDNN calls them: post-op and its algorithm
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
}


def can_prepack() -> bool:
    """Returns whether this PyTorch has the private operations that inductor uses for bfloat16 on a CPU."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


def prepack(weight: Tensor, bias: Tensor | None, activation: Activation | None = None, *, rows: int = 4096) -> Linear:
    """Returns a function (L, in) -> (L, out) in bfloat16, with the activation done on the product before it is written.

    Args:
        weight: (out, in), bfloat16; it is copied, so that a later change of it is not seen.
        bias: (out,) or none.
        activation: behind the product.
        rows: of a typical product, which the layout is chosen for; any number of rows is computed with it.
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    name, algorithm = _POINTWISE[activation]
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, name, [], algorithm)
