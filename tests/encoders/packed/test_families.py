"""Small random models of every known architecture against sentence-transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from torch import nn

from encoders.packed.families import make_engine
from encoders.sentence_transformer import find_model

SENTENCES = [
    "The frog sat in the well.",
    "",
    "A toad.",
    "The tax was repealed in 1846 by a house that had voted for it three times.",
    "word " * 90,  # more than every window and than the limit
    "Straße, naïve, Привет, 東京, 🙂",
    *(f"{'very ' * number}long" for number in range(1, 30)),
]
SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
}
DISTIL = {"vocab_size": 30522, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 80}
GROUPED = SIZES | {"num_key_value_heads": 2}
ROTATING = ["full_attention", "sliding_attention", "sliding_attention"]
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "bert tanh": lambda: transformers.BertConfig(**SIZES, hidden_act="gelu_new", layer_norm_eps=1e-5),
    "roberta": lambda: transformers.RobertaConfig(**SIZES | {"pad_token_id": 1}),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SIZES | {"pad_token_id": 1}),
    "mpnet": lambda: transformers.MPNetConfig(**SIZES | {"pad_token_id": 1}),
    "distilbert": lambda: transformers.DistilBertConfig(**DISTIL),
    "modernbert": lambda: transformers.ModernBertConfig(**SIZES, layer_types=ROTATING, local_attention=16),
    "qwen3": lambda: transformers.Qwen3Config(**GROUPED, head_dim=16),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "llama": lambda: transformers.LlamaConfig(**GROUPED, attention_bias=True),
    "mistral": lambda: transformers.MistralConfig(**GROUPED, sliding_window=12),
}


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., SentenceTransformer]:
    def build(config: Any, mode: str = "mean", *behind: nn.Module, **settings: Any) -> SentenceTransformer:
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).eval()
        for parameter in model.parameters():  # the library's own are so small that mistakes would not show
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
        model.save_pretrained(tmp_path)
        transformers.AutoTokenizer.from_pretrained(find_model("minilm")).save_pretrained(tmp_path)
        transformer = modules.Transformer(str(tmp_path), max_seq_length=64)
        pooling = modules.Pooling(transformer.get_embedding_dimension(), pooling_mode=mode)
        return SentenceTransformer(modules=[transformer, pooling, *behind], device="cpu", **settings)

    return build


@pytest.mark.parametrize("family", CONFIGS)
def test_concepts_are_those_of_sentence_transformers(family: str, build: Callable[..., SentenceTransformer]) -> None:
    model = build(CONFIGS[family]())
    expected = model.encode(SENTENCES)
    found = make_engine(model, torch.float32).encode(SENTENCES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert np.std(expected, axis=0).mean() > 0.02  # sentences differ, so that a mix-up of rows would show


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert", "qwen3"])
def test_bfloat16_is_close(family: str, build: Callable[..., SentenceTransformer]) -> None:
    model = build(CONFIGS[family](), "mean", modules.Normalize())
    cosine = (make_engine(model, torch.bfloat16).encode(SENTENCES) * model.encode(SENTENCES)).sum(axis=1)
    assert cosine.min() > 0.99  # with weights ten times the usual


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_what_comes_behind_the_transformer(mode: str, build: Callable[..., SentenceTransformer]) -> None:
    dense = modules.Dense(32, 24, activation_function=nn.Tanh())
    behind = [modules.Normalize(), dense, modules.LayerNorm(24), modules.Normalize()]
    model = build(CONFIGS["bert"](), mode, *behind, prompts={"q": "query: "}, default_prompt_name="q", truncate_dim=20)
    found = make_engine(model, torch.float32).encode(SENTENCES)
    assert found.shape == (len(SENTENCES), 20)
    np.testing.assert_allclose(found, model.encode(SENTENCES), atol=2e-6)


def test_a_last_token_that_is_normalised(build: Callable[..., SentenceTransformer]) -> None:
    model = build(CONFIGS["qwen3"](), "lasttoken", modules.Normalize())
    np.testing.assert_allclose(make_engine(model, torch.float32).encode(SENTENCES), model.encode(SENTENCES), atol=2e-6)


def test_what_is_unknown_is_named(build: Callable[..., SentenceTransformer]) -> None:
    with pytest.raises(NotImplementedError, match="its pooling is 'max'"):
        make_engine(build(CONFIGS["bert"](), "max"), torch.float32)
    with pytest.raises(NotImplementedError, match="its transformer is a ElectraModel"):
        make_engine(build(transformers.ElectraConfig(**SIZES)), torch.float32)
    with pytest.raises(NotImplementedError, match="its activation is 'tanh'"):
        make_engine(build(transformers.BertConfig(**SIZES, hidden_act="tanh")), torch.float32)
    with pytest.raises(NotImplementedError, match="its rotation of queries and keys is 'dynamic'"):
        dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
        make_engine(build(transformers.LlamaConfig(**GROUPED, rope_parameters=dynamic)), torch.float32)
    with pytest.raises(NotImplementedError, match="it has a Dropout behind its pooling"):
        make_engine(build(CONFIGS["bert"](), "mean", modules.Dropout()), torch.float32)
    words = build(CONFIGS["bert"]())[0].tokenizer.backend_tokenizer
    static = SentenceTransformer(modules=[modules.StaticEmbedding(words, embedding_dim=16)], device="cpu")
    with pytest.raises(NotImplementedError, match="it has no transformer but a StaticEmbedding"):
        make_engine(static, torch.float32)


def test_the_weights_of_an_adapter_are_not_lost(build: Callable[..., SentenceTransformer]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = build(CONFIGS["bert"]())
    inject_adapter_in_model(LoraConfig(target_modules=["query"]), model[0].auto_model)
    with pytest.raises(NotImplementedError, match="where a Linear is expected"):
        make_engine(model, torch.float32)


def test_a_trait_that_is_not_known_is_found_out(build: Callable[..., SentenceTransformer]) -> None:
    model = build(CONFIGS["bert"]())
    model[0].auto_model.embeddings.register_forward_hook(lambda module, inputs, output: output.flip(-1))
    with pytest.raises(NotImplementedError, match="its vectors would be others"):
        make_engine(model, torch.float32)
