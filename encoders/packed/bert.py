"""Encoders that normalise behind each block: BERT, RoBERTa, XLM-R, MPNet, DistilBERT."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from encoders.packed.ops import Activation, AttentionShape, Batch, Ops


@dataclass(frozen=True)
class LinearWeights:
    """Weight (out, in) and bias (out,) of a linear layer."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class NormWeights:
    """Weight and bias of a layer normalisation, (H,) each."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class BertLayer:
    """Weights of a layer: attention and its norm, the feed-forward network and its norm.

    Attributes:
        qkv: queries, keys and values as one linear layer, (3H, H).
        out: behind attention, (H, H).
        attention_norm: of attention plus its input.
        up: (F, H).
        down: (H, F).
        output_norm: of the feed-forward network plus its input.
    """

    qkv: LinearWeights
    out: LinearWeights
    attention_norm: NormWeights
    up: LinearWeights
    down: LinearWeights
    output_norm: NormWeights


@dataclass(frozen=True)
class BertWeights:
    """All weights of an encoder, float32.

    Attributes:
        word: token embeddings (V, H).
        position: embeddings of place 0, 1, ... in a sentence, the token type's added, (P, H).
        embedding_norm: of their sum.
        layers: from the first to the last.
        num_heads: of the attention.
        eps: of the norms.
        activation: of the feed-forward networks.
        bias: of the attention by relative place, (heads, 2P - 1); None but for MPNet.
    """

    word: Tensor
    position: Tensor
    embedding_norm: NormWeights
    layers: tuple[BertLayer, ...]
    num_heads: int
    eps: float
    activation: Activation
    bias: Tensor | None = None


class PackedBert:
    """The hidden states of a pack's tokens, (L, H), by an encoder that normalises behind each block.

    Args:
        weights: of the encoder.
        ops: how its operations are done.
    """

    def __init__(self, weights: BertWeights, ops: Ops) -> None:
        dim = weights.word.shape[1]
        head_dim = dim // weights.num_heads
        self._shape = AttentionShape(weights.num_heads, weights.num_heads, head_dim, head_dim**-0.5)
        self._bias = None if weights.bias is None else ops.tensor(weights.bias)
        self._ops = ops

        def add_norm(norm: NormWeights) -> Callable[[Tensor, Tensor], Tensor]:
            return ops.add_norm(norm.weight, norm.bias, weights.eps)

        norm = weights.embedding_norm
        self._embed = ops.embed(weights.word, weights.position, norm.weight, norm.bias, weights.eps)
        self._layers = [
            (
                ops.linear(layer.qkv.weight, layer.qkv.bias),
                ops.linear(layer.out.weight, layer.out.bias),
                add_norm(layer.attention_norm),
                ops.linear(layer.up.weight, layer.up.bias, weights.activation),
                ops.linear(layer.down.weight, layer.down.bias),
                add_norm(layer.output_norm),
            )
            for layer in weights.layers
        ]

    def __call__(self, batch: Batch) -> Tensor:
        """Returns the last hidden states (L, H)."""
        x = self._embed(batch)
        for qkv, out, attention_norm, up, down, output_norm in self._layers:
            x = attention_norm(out(self._ops.attend(qkv(x), batch, self._shape, self._bias)), x)
            x = output_norm(down(up(x)), x)
        return x
