"""The weights of `encoders.packed.bert` out of Hugging Face models, which all call them something else."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from encoders.packed.bert import BertLayer, BertWeights, LinearWeights, NormWeights
from encoders.packed.ops import Activation, read_linear

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
_MAX_DISTANCE = 128  # of MPNet's relative places: all beyond share a bias


def read_bert(model: Any) -> BertWeights:
    """Returns the weights of a BertModel: positions from 0."""
    return _read_bert_like(model, first_position=0)


def read_roberta(model: Any) -> BertWeights:
    """Returns the weights of a RobertaModel or an XLMRobertaModel: positions begin behind the padding's number."""
    return _read_bert_like(model, first_position=model.config.pad_token_id + 1)


def read_mpnet(model: Any) -> BertWeights:
    """Returns the weights of an MPNetModel: no token types, and a bias of the attention by relative place."""
    config, embeddings = model.config, model.embeddings
    position = embeddings.position_embeddings.weight[2:]  # transformers fixes the padding token at 1
    layers = tuple(
        BertLayer(
            _concat(layer.attention.attn.q, layer.attention.attn.k, layer.attention.attn.v),
            _linear(layer.attention.attn.o),
            _norm(layer.attention.LayerNorm),
            _linear(layer.intermediate.dense),
            _linear(layer.output.dense),
            _norm(layer.output.LayerNorm),
        )
        for layer in model.encoder.layer
    )
    return BertWeights(
        _float(embeddings.word_embeddings.weight),
        _float(position),
        _norm(embeddings.LayerNorm),
        layers,
        config.num_attention_heads,
        config.layer_norm_eps,
        _activation(config.hidden_act),
        _relative_bias(_float(model.encoder.relative_attention_bias.weight), len(position)),
    )


def read_distilbert(model: Any) -> BertWeights:
    """Returns the weights of a DistilBertModel: no token types."""
    config, embeddings = model.config, model.embeddings
    layers = tuple(
        BertLayer(
            _concat(layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin),
            _linear(layer.attention.out_lin),
            _norm(layer.sa_layer_norm),
            _linear(layer.ffn.lin1),
            _linear(layer.ffn.lin2),
            _norm(layer.output_layer_norm),
        )
        for layer in model.transformer.layer
    )
    return BertWeights(
        _float(embeddings.word_embeddings.weight),
        _float(embeddings.position_embeddings.weight),
        _norm(embeddings.LayerNorm),
        layers,
        config.n_heads,
        embeddings.LayerNorm.eps,
        _activation(config.activation),
    )


def _read_bert_like(model: Any, first_position: int) -> BertWeights:
    config, embeddings = model.config, model.embeddings
    if config.is_decoder:
        raise NotImplementedError("it is a decoder, with causal attention")
    token_type = embeddings.token_type_embeddings.weight[0]
    layers = tuple(
        BertLayer(
            _concat(layer.attention.self.query, layer.attention.self.key, layer.attention.self.value),
            _linear(layer.attention.output.dense),
            _norm(layer.attention.output.LayerNorm),
            _linear(layer.intermediate.dense),
            _linear(layer.output.dense),
            _norm(layer.output.LayerNorm),
        )
        for layer in model.encoder.layer
    )
    return BertWeights(
        _float(embeddings.word_embeddings.weight),
        _float(embeddings.position_embeddings.weight[first_position:] + token_type),
        _norm(embeddings.LayerNorm),
        layers,
        config.num_attention_heads,
        config.layer_norm_eps,
        _activation(config.hidden_act),
    )


def _relative_bias(table: Tensor, num_positions: int) -> Tensor:
    """Returns MPNet's bias by relative place, (heads, 2P - 1), out of its table (buckets, heads).

    Half of the buckets are for later keys; of each half, half are for one place each, the others for ever wider
    stretches of places. From T5, arXiv:1910.10683.
    """
    distance = torch.arange(1 - num_positions, num_positions)  # key minus query
    num_buckets = len(table) // 2
    num_exact = num_buckets // 2
    steps = distance.abs().float().clamp(min=1)
    wide = num_exact + (
        torch.log(steps / num_exact) / math.log(_MAX_DISTANCE / num_exact) * (num_buckets - num_exact)
    ).long().clamp(max=num_buckets - num_exact - 1)
    bucket = torch.where(distance.abs() < num_exact, distance.abs(), wide) + num_buckets * (distance > 0)
    return table[bucket].T.contiguous()


def _activation(name: object) -> Activation:
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise NotImplementedError(f"its activation is {name!r}")
    return _ACTIVATIONS[name]


def _concat(*linears: nn.Module) -> LinearWeights:
    parts = [_linear(linear) for linear in linears]
    return LinearWeights(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))


def _linear(linear: nn.Module) -> LinearWeights:
    weight, bias = read_linear(linear)
    assert bias is not None, linear
    return LinearWeights(_float(weight), _float(bias))


def _norm(norm: nn.LayerNorm) -> NormWeights:
    return NormWeights(_float(norm.weight), _float(norm.bias))


def _float(weight: Tensor) -> Tensor:
    return weight.detach().float()
