"""LoRA layers that spend no time on what a decoder does not use."""

import torch
from peft.tuners.lora import Linear
from torch import Tensor


class AddedLora(Linear):
    """A linear layer with LoRA matrices, added in the product itself.

    peft scales and adds their part in two more passes over the output, and two in the backward pass. Where a layer is
    merged, or has dropout or several adapters, it is peft's.
    """

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return input (..., in) times weight and LoRA matrices, (..., out)."""
        if self.disable_adapters or self.merged or args or kwargs or not self._plain():
            return super().forward(x, *args, **kwargs)
        name = self.active_adapters[0]
        result = self.get_base_layer()(x)
        low = self.lora_A[name](x)
        dtype, weight = result.dtype, self.lora_B[name].get_parameter("weight")
        flat = torch.addmm(result.flatten(0, -2), low.flatten(0, -2), weight.t(), alpha=self.scaling[name])
        return flat.view(result.shape).to(dtype)

    def _plain(self) -> bool:
        names = self.active_adapters
        if len(names) != 1 or names[0] not in self.lora_A or names[0] in self.lora_variant:
            return False
        dropout, wide = self.lora_dropout[names[0]], self.lora_B[names[0]]
        return isinstance(dropout, torch.nn.Identity) and wide.bias is None


def add_in_product(model: torch.nn.Module) -> None:
    """Turn peft's plain LoRA layers of a model into AddedLora, in place."""
    for layer in model.modules():
        if type(layer) is Linear:
            layer.__class__ = AddedLora  # the same weights under the same names
