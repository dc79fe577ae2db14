"""Which models run without padding, and how each is read."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from encoders.packed.bert import BertWeights, PackedBert
from encoders.packed.bert_readers import read_bert, read_distilbert, read_mpnet, read_roberta
from encoders.packed.engine import PackedEngine, PackedForward
from encoders.packed.ops import Batch, Ops, TorchOps
from encoders.packed.pooling import read_pooling
from encoders.packed.pre_norm import PackedPreNorm, PreNormWeights, read_modern_bert, read_qwen
from encoders.packed.tokens import Tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_POST_NORM: dict[str, Callable[[Any], BertWeights]] = {
    "BertModel": read_bert,
    "DistilBertModel": read_distilbert,
    "MPNetModel": read_mpnet,
    "RobertaModel": read_roberta,
    "XLMRobertaModel": read_roberta,
}
_PRE_NORM: dict[str, Callable[[Any], PreNormWeights]] = {
    "LlamaModel": read_qwen,
    "MistralModel": read_qwen,
    "ModernBertModel": read_modern_bert,
    "Qwen2Model": read_qwen,
    "Qwen3Model": read_qwen,
}
_CPU_BUDGET = 4096  # tokens a pack: activations of MiniLM stay near the cache


def make_engine(model: "SentenceTransformer", dtype: torch.dtype) -> PackedEngine:
    """Returns what encodes as a sentence-transformers model does, without padding.

    Args:
        model: on its device.
        dtype: of the matrix products.

    Raises:
        NotImplementedError: its architecture, its pooling or its tokenizer is not known here; the message says which,
            as the end of a sentence.
    """
    ops = TorchOps(model.device, dtype)
    pooling = read_pooling(model, ops.device)
    transformer: Any = model[0]
    prompt = model.prompts[model.default_prompt_name] if model.default_prompt_name else ""
    tokenizer = Tokenizer(transformer.tokenizer, transformer.max_seq_length, prompt=prompt)
    dim = model.get_embedding_dimension()
    if dim is None:
        raise NotImplementedError("it does not say how wide its embeddings are")
    forward = PackedForward(_read_encoder(transformer.auto_model, ops), pooling, ops, dim=dim, budget=_CPU_BUDGET)
    return PackedEngine(tokenizer, forward)


def _read_encoder(model: Any, ops: Ops) -> Callable[[Batch], Tensor]:
    family = type(model).__name__
    if family in _POST_NORM:
        return PackedBert(_POST_NORM[family](model), ops)
    if family in _PRE_NORM:
        return PackedPreNorm(_PRE_NORM[family](model), ops)
    raise NotImplementedError(f"its transformer is a {family}")
