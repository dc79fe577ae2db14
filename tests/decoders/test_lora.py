import pytest
import torch
from peft.tuners.lora import Linear

from decoders.lora import AddedLora
from decoders.tuning import tuned_llm


@pytest.mark.parametrize("scaling", [1.0, 0.5])
def test_a_layer_is_pefts(llm: str, generator: torch.Generator, scaling: float) -> None:
    layers = [layer for layer in tuned_llm(llm, "lora", 3).model.modules() if isinstance(layer, Linear)]
    assert layers and all(type(layer) is AddedLora for layer in layers)
    layer = layers[0]
    layer.scaling["default"] = scaling
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    for weight in weights:
        torch.nn.init.normal_(weight, generator=generator)
    x = torch.randn(2, 5, layer.in_features, generator=generator).requires_grad_()
    found = []
    for forward in (AddedLora.forward, Linear.forward):
        y = forward(layer, x)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *weights])])
    torch.testing.assert_close(*found)
    assert not torch.equal(found[0][0], layer.base_layer(x))
