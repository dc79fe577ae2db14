"""The plain operations against their formulas, sentence by sentence in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.packed.ops import Activation, AttentionShape, Batch, TorchOps
from encoders.packed.pack import Pack

CPU = torch.device("cpu")
RAGGED = [[1], [1, 2, 2, 5, 9], [300], [3] * 50]
SHAPES = [
    AttentionShape(4, 4, 8, 8**-0.5),
    AttentionShape(4, 2, 8, 0.5),
    AttentionShape(4, 1, 8, 0.3, causal=True),
    AttentionShape(2, 2, 16, 0.2, window=2),
    AttentionShape(2, 1, 16, 0.2, causal=True, window=3),
]


def batch_of(lengths: list[int]) -> Batch:
    lengths = sorted(lengths)
    return Batch.of(Pack(np.arange(len(lengths)), np.zeros(sum(lengths), np.int32), np.array(lengths)), CPU)


def attend_one(qkv: Tensor, shape: AttentionShape, bias: Tensor | None) -> Tensor:
    """Attention of one sentence by its definition, (l, heads * d)."""
    length = len(qkv)
    heads = qkv.double().view(length, -1, shape.head_dim).transpose(0, 1)
    query, key, value = heads.split([shape.heads, shape.kv_heads, shape.kv_heads])
    repeats = shape.heads // shape.kv_heads
    scores = query @ key.repeat_interleave(repeats, 0).transpose(1, 2) * shape.scale
    for i in range(length):
        for j in range(length):
            if bias is not None:
                scores[:, i, j] += bias[:, j - i + bias.shape[1] // 2]
            if (shape.causal and j > i) or (shape.window is not None and abs(i - j) > shape.window):
                scores[:, i, j] = float("-inf")
    return (scores.softmax(2) @ value.repeat_interleave(repeats, 0)).transpose(0, 1).reshape(length, -1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lengths", [[1], [1, 2, 2, 5, 9], [17]])
@pytest.mark.parametrize("with_bias", [False, True])
def test_attention_is_of_each_sentence_for_itself(
    shape: AttentionShape, lengths: list[int], with_bias: bool, generator: torch.Generator
) -> None:
    batch = batch_of(lengths)
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    qkv = torch.randn(sum(lengths), width, generator=generator)
    bias = torch.randn(shape.heads, 2 * 20 - 1, generator=generator) if with_bias else None
    found = TorchOps(CPU, torch.float32).attend(qkv, batch, shape, bias)
    expected = torch.cat([attend_one(part, shape, bias) for part in qkv.split(sorted(lengths))])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", RAGGED)
@pytest.mark.parametrize("normalize", [False, True])
def test_means_are_of_each_sentence(lengths: list[int], normalize: bool, generator: torch.Generator) -> None:
    x = torch.randn(sum(lengths), 5, generator=generator).bfloat16()
    expected = torch.stack([part.double().mean(0) for part in x.split(sorted(lengths))])
    found = TorchOps(CPU, torch.bfloat16).pool_mean(x, batch_of(lengths), normalize)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), F.normalize(expected, dim=1) if normalize else expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_with_their_activation(
    activation: Activation | None, with_bias: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x, weight = torch.randn(37, 24, generator=generator), torch.randn(40, 24, generator=generator) / 5
    bias = torch.randn(40, generator=generator) if with_bias else None
    expected = F.linear(x, weight, bias)
    if activation == "silu":
        expected = expected * torch.sigmoid(expected)
    elif activation == "relu":
        expected = expected.clamp(min=0)
    elif activation == "gelu":
        expected = expected * 0.5 * (1 + torch.erf(expected / 2**0.5))
    elif activation == "gelu_tanh":
        expected = 0.5 * expected * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (expected + 0.044715 * expected**3)))
    found = TorchOps(CPU, dtype).linear(weight, bias, activation)(x.to(dtype))
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_add_norm_is_layer_normalisation_of_the_sum(generator: torch.Generator) -> None:
    x, residual = torch.randn(2, 7, 12, generator=generator)
    weight, bias = torch.randn(2, 12, generator=generator)
    found = TorchOps(CPU, torch.float32).add_norm(weight, bias, 1e-3)(x, residual)
    total = x + residual
    expected = (total - total.mean(1, True)) / (total.var(1, correction=0, keepdim=True) + 1e-3).sqrt() * weight + bias
    torch.testing.assert_close(found, expected)
