"""Encoders that normalise before each block and rotate queries and keys: ModernBERT; Qwen3, Qwen2, Llama, Mistral."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.packed.ops import AttentionShape, Batch, Ops, read_linear

Norm = Callable[[Tensor], Tensor]
_STEADY_ROTATION = ("default", "linear", "llama3", "yarn")  # the others change with the length of the text


@dataclass(frozen=True)
class PreNormLayer:
    """A layer, with its weights as they are in the model.

    Attributes:
        attention_norm: before attention; an Identity where there is none.
        qkv: queries, keys and values as one weight, and the bias or None.
        query_norm: of each head's queries; None where there is none.
        key_norm: of each head's keys; None where there is none.
        out: weight and bias or None behind attention.
        mlp_norm: before the feed-forward network.
        up: its first weight (2F, H), the rows that the activation gets before those that it multiplies; bias or None.
        down: its second weight (H, F), and bias or None.
        activation: of the gate.
        shape: of the attention.
        frequencies: by which queries and keys are rotated, (head_dim / 2,).
        rotation_scale: of the rotated queries and keys.
    """

    attention_norm: nn.Module
    qkv: tuple[Tensor, Tensor | None]
    query_norm: nn.Module | None
    key_norm: nn.Module | None
    out: tuple[Tensor, Tensor | None]
    mlp_norm: nn.Module
    up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]
    activation: Norm
    shape: AttentionShape
    frequencies: Tensor
    rotation_scale: float


@dataclass(frozen=True)
class PreNormWeights:
    """All weights of an encoder: token embeddings (V, H), their norm, the layers, and the norm at the end."""

    word: Tensor
    embedding_norm: nn.Module
    layers: tuple[PreNormLayer, ...]
    final_norm: nn.Module


class PackedPreNorm:
    """The hidden states of a pack's tokens, (L, H), by an encoder that normalises before each block.

    Args:
        weights: of the encoder.
        ops: how its matrix products and its attention are done.
    """

    def __init__(self, weights: PreNormWeights, ops: Ops) -> None:
        self._word = ops.tensor(weights.word)
        self._embedding_norm = _norm(weights.embedding_norm, ops)
        self._final_norm = _norm(weights.final_norm, ops)
        self._layers = [_Layer(layer, ops) for layer in weights.layers]

    def __call__(self, batch: Batch) -> Tensor:
        """Returns the last hidden states (L, H)."""
        x = self._embedding_norm(self._word[batch.ids])
        turns: dict[int, tuple[Tensor, Tensor]] = {}  # layers share few rotations
        for layer in self._layers:
            key = layer.rotation_key
            if key not in turns:
                turns[key] = layer.turn(batch.positions)
            x = layer(x, batch, *turns[key])
        return self._final_norm(x)


class _Layer:
    def __init__(self, weights: PreNormLayer, ops: Ops) -> None:
        self.rotation_key = id(weights.frequencies)
        self._shape, self._attend = weights.shape, ops.attend
        self._frequencies = weights.frequencies.to(ops.device, torch.float32)
        self._rotation_scale = weights.rotation_scale
        self._attention_norm, self._mlp_norm = _norm(weights.attention_norm, ops), _norm(weights.mlp_norm, ops)
        self._query_norm, self._key_norm = _norm(weights.query_norm, ops), _norm(weights.key_norm, ops)
        self._qkv, self._out = ops.linear(*weights.qkv), ops.linear(*weights.out)
        self._up, self._down = ops.linear(*weights.up), ops.linear(*weights.down)
        self._activation = weights.activation

    def __call__(self, x: Tensor, batch: Batch, cosine: Tensor, sine: Tensor) -> Tensor:
        qkv = self._qkv(self._attention_norm(x)).unflatten(1, (-1, self._shape.head_dim))  # (L, heads + 2 kv, d)
        sizes = (self._shape.heads, self._shape.kv_heads, self._shape.kv_heads)
        query, key, value = qkv.split(sizes, dim=1)
        query = _rotate(self._query_norm(query), cosine, sine)
        key = _rotate(self._key_norm(key), cosine, sine)
        turned = torch.cat([query, key, value], dim=1).flatten(1)
        x = x + self._out(self._attend(turned, batch, self._shape))
        gate, value = self._up(self._mlp_norm(x)).chunk(2, dim=1)
        return x + self._down(self._activation(gate) * value)

    def turn(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cosines and sines for these positions, float32 (L, 1, d / 2)."""
        angle = (positions[:, None].float() * self._frequencies)[:, None]
        return angle.cos() * self._rotation_scale, angle.sin() * self._rotation_scale


def read_modern_bert(model: Any) -> PreNormWeights:
    """Returns the weights of a ModernBertModel: local attention in most layers, each kind with its own rotation."""
    config, rotary = model.config, model.rotary_emb
    heads = config.num_attention_heads
    kinds = {kind: _read_rotation(rotary, f"{kind}_", rotary.rope_type.get(kind)) for kind in set(config.layer_types)}

    def read(layer: Any) -> PreNormLayer:
        is_local = layer.attention_type == "sliding_attention"
        head_dim = layer.attn.head_dim
        shape = AttentionShape(
            heads, heads, head_dim, head_dim**-0.5, window=config.sliding_window if is_local else None
        )
        return PreNormLayer(
            layer.attn_norm,
            read_linear(layer.attn.Wqkv),
            None,
            None,
            read_linear(layer.attn.Wo),
            layer.mlp_norm,
            read_linear(layer.mlp.Wi),
            read_linear(layer.mlp.Wo),
            layer.mlp.act,
            shape,
            *kinds[layer.attention_type],
        )

    embeddings = model.embeddings
    return PreNormWeights(
        embeddings.tok_embeddings.weight, embeddings.norm, tuple(map(read, model.layers)), model.final_norm
    )


def read_qwen(model: Any) -> PreNormWeights:
    """Returns the weights of a Qwen3Model, or of a Qwen2Model, LlamaModel or MistralModel, which norm no heads.

    Attention is causal, as these models are trained.
    """
    config = model.config
    rotation = _read_rotation(model.rotary_emb, "", model.rotary_emb.rope_type)

    def read(layer: Any) -> PreNormLayer:
        attention, mlp = layer.self_attn, layer.mlp
        window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
        return PreNormLayer(
            layer.input_layernorm,
            _concat(attention.q_proj, attention.k_proj, attention.v_proj),
            getattr(attention, "q_norm", None),
            getattr(attention, "k_norm", None),
            read_linear(attention.o_proj),
            layer.post_attention_layernorm,
            _concat(mlp.gate_proj, mlp.up_proj),
            read_linear(mlp.down_proj),
            mlp.act_fn,
            AttentionShape(
                config.num_attention_heads,
                config.num_key_value_heads,
                attention.head_dim,
                attention.scaling,
                causal=True,
                window=None if window is None else window - 1,
            ),
            *rotation,
        )

    return PreNormWeights(model.embed_tokens.weight, nn.Identity(), tuple(map(read, model.layers)), model.norm)


def _read_rotation(rotary: Any, prefix: str, kind: object) -> tuple[Tensor, float]:
    if kind not in _STEADY_ROTATION:
        raise NotImplementedError(f"its rotation of queries and keys is {kind!r}")
    return getattr(rotary, f"{prefix}inv_freq"), getattr(rotary, f"{prefix}attention_scaling")


def _concat(*linears: nn.Module) -> tuple[Tensor, Tensor | None]:
    weights, biases = zip(*map(read_linear, linears), strict=True)
    return torch.cat(weights), None if biases[0] is None else torch.cat(biases)


def _norm(module: Any, ops: Ops) -> Norm:
    """Returns a norm over the last dimension in the dtype of the operations: LayerNorm, or else what is an RMS norm."""
    if module is None or isinstance(module, nn.Identity):
        return lambda x: x
    weight: Tensor = ops.tensor(module.weight)
    if isinstance(module, nn.LayerNorm):
        bias = None if module.bias is None else ops.tensor(module.bias)
        return lambda x: F.layer_norm(x, weight.shape, weight, bias, module.eps)
    return lambda x: F.rms_norm(x, weight.shape, weight, module.variance_epsilon)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates each pair of dimensions that lie half a head apart; (L, heads, d). RoFormer, arXiv:2104.09864."""
    first, second = x.float().chunk(2, dim=2)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=2).to(x.dtype)
