"""Which models run without padding, and how each is read."""

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from encoders.packed.bert import BertWeights, PackedBert
from encoders.packed.bert_readers import read_bert, read_distilbert, read_mpnet, read_roberta
from encoders.packed.engine import NativeForward, OneByOne, PackedEngine, PackedForward
from encoders.packed.native import NativeEncoder, supports
from encoders.packed.native_library import NativeUnavailableError
from encoders.packed.ops import Batch, TorchOps
from encoders.packed.pooling import Pooling, read_pooling
from encoders.packed.pre_norm import PackedPreNorm, PreNormWeights, read_modern_bert, read_qwen
from encoders.packed.tokens import Tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from encoders.packed.triton_ops import TritonOps

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
_PROBES = ["A frog sat in the well.", "", "Straße 12: naïve, Привет, 東京!", "and so on, " * 12]
_FARTHEST = 0.15  # of a vector's length, from float32; a mistake gives about 1, bfloat16 of deep models 0.02
_AMPERE = (8, 0)  # what the kernels were compiled and looked at for
_GPU_BUDGET = 16384  # tokens a pack: enough for every multiprocessor, and activations of MiniLM partly stay in its L2
_WINDOW = 32768  # sentences that are sorted and packed together: a GPU waits between two windows
_CPU_BUDGET = {torch.float32: 1024, torch.bfloat16: 4096}  # float32 loses a tenth when activations leave the cache


def make_engine(model: "SentenceTransformer", dtype: torch.dtype, *, native: bool = True) -> PackedEngine:
    """Returns what encodes as a sentence-transformers model does, without padding.

    Both encode a few sentences, so that a model with a trait that nobody thought of here is found out.

    Args:
        model: on its device.
        dtype: of the matrix products.
        native: take the compiled kernel where it can be had and knows the model.

    Raises:
        NotImplementedError: its architecture, its pooling or its tokenizer is not known here; the message says which,
            as the end of a sentence.
    """
    engine = _assemble(model, dtype, native=native)
    found, expected = engine.encode(_PROBES), np.asarray(model.encode(_PROBES, show_progress_bar=False), np.float32)
    distance = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1).clip(1e-6)
    if not distance.max() < _FARTHEST:
        raise NotImplementedError(f"its vectors would be others, by {distance.max():.2f} of their length")
    return engine


def _assemble(model: "SentenceTransformer", dtype: torch.dtype, *, native: bool) -> PackedEngine:
    transformer: Any = model[0]
    if not hasattr(transformer, "auto_model"):
        raise NotImplementedError(f"it has no transformer but a {type(transformer).__name__}")
    dim = model.get_embedding_dimension()
    if dim is None:
        raise NotImplementedError("it does not say how wide its embeddings are")
    prompt = model.prompts[model.default_prompt_name] if model.default_prompt_name else ""
    tokenizer = Tokenizer(transformer.tokenizer, transformer.max_seq_length, prompt=prompt)
    pooling = read_pooling(model, model.device)
    network: Any = transformer.auto_model
    family = type(network).__name__
    ops = _choose_ops(model.device, dtype)
    encoder: Callable[[Batch], Tensor]
    if family in _POST_NORM:
        weights = _POST_NORM[family](network)
        if native and (compiled := _try_native(weights, pooling, ops)):
            return PackedEngine(tokenizer, compiled, window=_WINDOW)
        encoder = PackedBert(weights, ops)
    elif family in _PRE_NORM:
        encoder = PackedPreNorm(_PRE_NORM[family](network), ops)
    else:
        raise NotImplementedError(f"its transformer is a {family}")
    budget = _GPU_BUDGET if model.device.type == "cuda" else _CPU_BUDGET[dtype]
    if isinstance(ops, TorchOps):
        forward = PackedForward(OneByOne(encoder, pooling, ops), dim=dim, budget=budget)
        return PackedEngine(tokenizer, forward, window=_WINDOW)
    from encoders.packed.cuda_graphs import GraphedEncoder

    graphed = GraphedEncoder(
        lambda batch: pooling(encoder(batch), batch, ops),
        budget=budget,
        longest_block=ops.longest_block,
        device=ops.device,
    )
    return PackedEngine(tokenizer, PackedForward(graphed.encode, dim=dim, budget=budget), window=_WINDOW)


def _choose_ops(device: torch.device, dtype: torch.dtype) -> "TorchOps | TritonOps":
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _AMPERE or find_spec("triton") is None:
        return TorchOps(device, dtype)
    from encoders.packed.triton_ops import TritonOps

    return TritonOps(device, dtype)


def _try_native(weights: BertWeights, pooling: Pooling, ops: "TorchOps | TritonOps") -> NativeForward | None:
    """Returns the compiled kernel; None where the model is not for it, and where the machine is not, with a warning."""
    if ops.device.type != "cpu" or ops.dtype != torch.bfloat16 or not supports(weights, pooling.mode):
        return None
    try:
        encoder = NativeEncoder(
            weights, pooling=pooling.mode, normalize=pooling.normalize, num_threads=torch.get_num_threads()
        )
    except NativeUnavailableError as reason:
        if os.environ.get("LCM_NATIVE") != "0":
            warnings.warn(f"encoding runs in PyTorch, slower than the compiled kernel would: {reason}", stacklevel=7)
        return None
    return NativeForward(encoder, pooling)
