from collections.abc import Callable

import pytest
import torch
from torch import nn

from decoders.attention import attend
from decoders.prefix import PrefixDecoder

N, H, G, L, W = 2, 6, 3, 7, 5


@pytest.mark.parametrize("groups", [1, G, H])
def test_it_is_torchs_attention_with_its_gradient(groups: int, generator: torch.Generator) -> None:
    tensors = [torch.randn(N, heads, L, W, generator=generator).requires_grad_() for heads in (H, groups, groups)]
    found, _ = attend(nn.Identity(), *tensors, None, scaling=0.3)
    expected = nn.functional.scaled_dot_product_attention(*tensors, is_causal=True, enable_gqa=True, scale=0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2))
    weight = torch.randn(found.shape, generator=generator)
    gradients = [torch.autograd.grad((y * weight).sum(), tensors) for y in (found, expected.transpose(1, 2))]
    torch.testing.assert_close(*gradients)


def test_a_model_keeps_its_own_attention_for_all_else(
    make_decoder: Callable[..., PrefixDecoder], concepts: torch.Tensor, sentences: list[str]
) -> None:
    decoder = make_decoder()
    decoder.loss(concepts, sentences)["loss"].backward()
    assert decoder.llm.base.config._attn_implementation == "sdpa"
    with torch.no_grad():
        plain = decoder.loss(concepts, sentences)["loss"]
    torch.testing.assert_close(decoder.loss(concepts, sentences)["loss"], plain)
