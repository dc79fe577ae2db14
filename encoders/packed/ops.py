"""The operations that encoders consist of, over tokens without padding: what an encoder says, and how a CPU does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.packed.pack import Pack
from encoders.packed.prepack import Activation, Linear, can_prepack, prepack

AddNorm = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """A pack on the device of its encoder.

    Attributes:
        ids: tokens, int (L,).
        positions: place of each token in its sentence, int (L,).
        starts: where each sentence begins, and at last L, int32 (n + 1,).
        runs: (sentences, tokens of each) of every stretch of equal lengths.
        longest: tokens of the longest sentence.
    """

    ids: Tensor
    positions: Tensor
    starts: Tensor
    runs: Sequence[tuple[int, int]]
    longest: int

    @classmethod
    def of(cls, pack: Pack, device: torch.device) -> "Batch":
        """Returns the pack as tensors on a device."""
        ids, positions, starts = (torch.from_numpy(a).to(device) for a in (pack.ids, pack.positions, pack.starts))
        return cls(ids, positions, starts, pack.runs, pack.longest)


@dataclass(frozen=True)
class AttentionShape:
    """What attention needs to know besides its input.

    Attributes:
        heads: number of query heads.
        kv_heads: number of key and value heads; divides `heads`.
        head_dim: width of a head.
        scale: of the products of queries and keys.
        causal: a token sees no later one.
        window: a token sees this many to each side; None sees all.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    causal: bool = False
    window: int | None = None


class Ops(Protocol):
    """The operations of an encoder, on one device and in one dtype; those that take weights are called once a model."""

    @property
    def device(self) -> torch.device:
        """Where the weights and the batches are."""
        ...

    def tensor(self, weight: Tensor) -> Tensor:
        """Returns a weight on the device and in the dtype of the operations."""
        ...

    def embed(
        self, word: Tensor, position: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> Callable[[Batch], Tensor]:
        """Returns a function of a batch: layer normalisation of its word and position embeddings' sum, (L, H)."""
        ...

    def linear(self, weight: Tensor, bias: Tensor | None, activation: Activation | None = None) -> Linear:
        """Returns a function (L, in) -> (L, out); the weight is (out, in)."""
        ...

    def norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> Linear:
        """Returns layer normalisation (L, H) -> (L, H)."""
        ...

    def add_norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> AddNorm:
        """Returns a function of x and residual, (L, H) each: layer normalisation of their sum."""
        ...

    def attend(self, qkv: Tensor, batch: Batch, shape: AttentionShape, bias: Tensor | None = None) -> Tensor:
        """Returns attention of each sentence for itself, (L, heads * head_dim).

        Args:
            qkv: queries, keys and values side by side, (L, (heads + 2 * kv_heads) * head_dim).
            batch: whose tokens they are.
            shape: of the attention.
            bias: added to the scaled products by place of the key minus place of the query, from 1 - P on,
                (heads, 2P - 1).
        """
        ...

    def pool_mean(self, x: Tensor, batch: Batch, normalize: bool) -> Tensor:
        """Returns the mean over each sentence's tokens, float32 (n, H), by choice scaled to length 1."""
        ...


def read_linear(linear: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Returns weight and bias of a plain linear layer.

    Raises:
        NotImplementedError: it is another layer: an adapter's has a weight too, and what it adapts would be lost.
    """
    if type(linear) is not nn.Linear:
        raise NotImplementedError(f"it has a {type(linear).__name__} where a Linear is expected")
    return linear.weight, linear.bias


class TorchOps:
    """The operations in plain PyTorch, on any device.

    Attention runs densely over each stretch of sentences of equal length: it needs neither a mask nor padding.
    In bfloat16 on a CPU, weights are put once into the order that oneDNN multiplies in, and the activation is done on
    the product before it is written.

    Args:
        device: of the weights and of the batches.
        dtype: of the matrix products; sums of norms and means are float32.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._prepacks = device.type == "cpu" and dtype == torch.bfloat16 and can_prepack()

    def tensor(self, weight: Tensor) -> Tensor:
        """Returns a weight on the device and in the dtype of the operations."""
        return weight.detach().to(self.device, self.dtype).contiguous()

    def embed(
        self, word: Tensor, position: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> Callable[[Batch], Tensor]:
        """Returns a function of a batch: layer normalisation of its word and position embeddings' sum, (L, H)."""
        words, places = self.tensor(word), self.tensor(position)
        add_norm = self.add_norm(weight, bias, eps)
        return lambda batch: add_norm(words[batch.ids], places[batch.positions])

    def linear(self, weight: Tensor, bias: Tensor | None, activation: Activation | None = None) -> Linear:
        """Returns a function (L, in) -> (L, out); the weight is (out, in)."""
        kept, kept_bias = self.tensor(weight), None if bias is None else self.tensor(bias)
        if self._prepacks:
            return prepack(kept, kept_bias, activation)
        if activation is None:
            return lambda x: F.linear(x, kept, kept_bias)
        apply = _ACTIVATIONS[activation]
        return lambda x: apply(F.linear(x, kept, kept_bias))

    def norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> Linear:
        """Returns layer normalisation (L, H) -> (L, H)."""
        kept, kept_bias = self.tensor(weight), None if bias is None else self.tensor(bias)
        return lambda x: F.layer_norm(x, (len(kept),), kept, kept_bias, eps)

    def add_norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> AddNorm:
        """Returns a function of x and residual, (L, H) each: layer normalisation of their sum."""
        norm = self.norm(weight, bias, eps)
        return lambda x, residual: norm(x + residual)

    def attend(self, qkv: Tensor, batch: Batch, shape: AttentionShape, bias: Tensor | None = None) -> Tensor:
        """Returns attention of each sentence for itself, (L, heads * head_dim); see `Ops`."""
        out = qkv.new_empty(len(qkv), shape.heads * shape.head_dim)
        start = 0
        for num_sentences, length in batch.runs:
            rows = slice(start, start + num_sentences * length)
            heads = qkv[rows].view(num_sentences, length, -1, shape.head_dim).transpose(1, 2)  # (n, heads + 2 kv, l, d)
            query, key, value = heads.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
            mask = _mask(length, shape, bias, qkv)
            y = F.scaled_dot_product_attention(
                query,
                key,
                value,
                mask,
                is_causal=shape.causal and mask is None,
                scale=shape.scale,
                enable_gqa=shape.heads != shape.kv_heads,
            )
            out[rows].view(num_sentences, length, shape.heads, shape.head_dim).copy_(y.transpose(1, 2))
            start = rows.stop
        return out

    def pool_mean(self, x: Tensor, batch: Batch, normalize: bool) -> Tensor:
        """Returns the mean over each sentence's tokens, float32 (n, H), by choice scaled to length 1."""
        parts = x.split([num * length for num, length in batch.runs])
        means = [
            part.view(num, length, -1).mean(1, dtype=torch.float32)
            for part, (num, length) in zip(parts, batch.runs, strict=True)
        ]
        mean = torch.cat(means)
        return F.normalize(mean, dim=1) if normalize else mean


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def _mask(length: int, shape: AttentionShape, bias: Tensor | None, like: Tensor) -> Tensor | None:
    """Returns what is added to the products of a sentence, (heads or 1, l, l); None where causality is all."""
    window = length if shape.window is None else shape.window
    if bias is None and window + 1 >= length:
        return None
    place = torch.arange(length, device=like.device)
    distance = place[None, :] - place[:, None]  # key minus query
    zeros = like.new_zeros(1, length, length)
    mask = zeros if bias is None else zeros + bias[:, distance + bias.shape[1] // 2]
    mask = mask.masked_fill(distance.abs() > window, float("-inf"))
    return mask.masked_fill(distance > 0, float("-inf")) if shape.causal else mask
