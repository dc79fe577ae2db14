import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel, PreTrainedModel

from encoders.packed import native, native_library
from encoders.packed.bert import BertWeights
from encoders.packed.bert_readers import read_bert, read_mpnet
from encoders.packed.native import NativeEncoder, supports
from encoders.packed.native_library import native_reason
from encoders.packed.pooling import PoolingMode
from encoders.packed.tokens import Tokenizer
from encoders.sentence_transformer import find_model

# Alone, because this machine may not have what it needs: all else runs without it.
pytestmark = pytest.mark.skipif(native_reason() is not None, reason=f"no compiled kernel: {native_reason()}")

VOCABULARY = 60


def randomise(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "LayerNorm" in name:
            parameter.data = (name.endswith("weight") + 0.1 * noise).requires_grad_(False)
        else:
            size = parameter.shape[-1] ** -0.5 if "dense" in name or "attention" in name else 1.0
            parameter.data = (size * noise).requires_grad_(False)
    return model.eval()


def make_bert(hidden: int, heads: int, inner: int, layers: int = 2, positions: int = 70) -> BertModel:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=inner,
        num_hidden_layers=layers,
        max_position_embeddings=positions,
    )
    return randomise(BertModel(config, add_pooling_layer=False), seed=hidden)  # type: ignore[return-value]


def make_tokens(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(2, VOCABULARY, sum(lengths))
    return ids.astype(np.int32), np.array(lengths)


def run_transformers(model: PreTrainedModel, ids: np.ndarray, lengths: np.ndarray, pooling: str) -> np.ndarray:
    """Each sentence by itself, in float64."""
    model.double()
    rows = []
    with torch.inference_mode():
        for sentence in torch.from_numpy(ids).long().split(lengths.tolist()):
            states = model(sentence[None]).last_hidden_state[0]
            rows.append({"mean": states.mean(0), "cls": states[0], "lasttoken": states[-1]}[pooling])
    return torch.stack(rows).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def small() -> BertWeights:
    return read_bert(make_bert(hidden=64, heads=2, inner=96))


@pytest.fixture(params=["avx512_bf16", "tile model"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either instruction set; tiles by a model of them in C++, so that they are tested on any machine."""
    if request.param == "tile model":
        use_tile_model(monkeypatch)
    else:
        monkeypatch.setattr(native, "processor_flags", frozenset)
    return request.param


def use_tile_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "_FLAGS", (*native_library._FLAGS, "-DPACKED_TILE_MODEL"))
    monkeypatch.setattr(native, "processor_flags", lambda: native.TILES)


@pytest.mark.parametrize(
    ("hidden", "heads", "inner", "pooling", "normalize"),
    [
        (64, 2, 96, "mean", False),  # heads of 32
        (128, 2, 608, "cls", False),  # heads of 64; the second product in more than one piece
        (96, 3, 32, "lasttoken", True),
    ],
)
def test_it_agrees_with_transformers(
    hidden: int, heads: int, inner: int, pooling: PoolingMode, normalize: bool, kernel: str
) -> None:
    model = make_bert(hidden, heads, inner)
    encoder = NativeEncoder(read_bert(model), pooling=pooling, normalize=normalize, num_threads=1)
    assert encoder.instruction_set == ("amx_bf16" if kernel == "tile model" else "avx512_bf16")
    ids, lengths = make_tokens([1, 2, 70, 7, 8, 9, 15, 16, 17, 31, 32, 33, 3, 1, 69])
    found, expected = encoder.encode(ids, lengths), run_transformers(model, ids, lengths, pooling)
    assert found.dtype == np.float32 and found.shape == (15, hidden)
    assert cosines(found, expected).min() > 0.9998
    sizes = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(
        sizes, 1 if normalize else np.linalg.norm(expected, axis=1), rtol=1e-6 if normalize else 0.02
    )


@pytest.mark.parametrize("lengths", [[512], [1], [511, 2, 513]])
def test_long_sentences_agree_too(lengths: list[int], kernel: str) -> None:
    model = make_bert(hidden=64, heads=1, inner=64, layers=1, positions=513)
    encoder = NativeEncoder(read_bert(model), normalize=False, num_threads=2)
    ids, counts = make_tokens(lengths)
    assert cosines(encoder.encode(ids, counts), run_transformers(model, ids, counts, "mean")).min() > 0.9998


def test_relative_places_count_in_mpnet(kernel: str) -> None:
    config = MPNetConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_attention_heads=2,
        intermediate_size=64,
        num_hidden_layers=2,
        max_position_embeddings=202,
        relative_attention_num_buckets=32,
    )
    model = randomise(MPNetModel(config, add_pooling_layer=False), seed=1)
    weights = read_mpnet(model)
    ids, lengths = make_tokens([200, 1, 5, 18, 160])
    expected = run_transformers(model, ids, lengths, "mean")
    found = NativeEncoder(weights, normalize=False, num_threads=1).encode(ids, lengths)
    assert cosines(found, expected).min() > 0.9998
    assert weights.bias is not None
    turned = dataclasses.replace(weights, bias=weights.bias.flip(1))
    assert cosines(NativeEncoder(turned, normalize=False, num_threads=1).encode(ids, lengths), expected).min() < 0.999


def test_neighbours_order_and_threads_change_no_bit(small: BertWeights, kernel: str) -> None:
    generator = np.random.default_rng(1)
    ids, lengths = make_tokens(generator.integers(1, 71, 200).tolist())
    sentences = np.split(ids, np.cumsum(lengths)[:-1])
    encoder = NativeEncoder(small, normalize=True, num_threads=1)
    together = encoder.encode(ids, lengths)
    order = generator.permutation(200)
    shuffled = encoder.encode(np.concatenate([sentences[i] for i in order]), lengths[order])
    np.testing.assert_array_equal(shuffled, together[order])
    alone = [encoder.encode(sentence, np.array([len(sentence)]))[0] for sentence in sentences]
    np.testing.assert_array_equal(np.stack(alone), together)
    threads = NativeEncoder(small, normalize=True, num_threads=3).encode(ids, lengths)
    np.testing.assert_array_equal(threads, together)


def test_tiles_differ_from_vectors_by_rounding_only(small: BertWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, lengths = make_tokens([5, 40, 12, 70, 1])
    vectors = NativeEncoder(small, normalize=True, num_threads=1, instruction_set="avx512_bf16").encode(ids, lengths)
    use_tile_model(monkeypatch)
    tiles = NativeEncoder(small, normalize=True, num_threads=1, instruction_set="amx_bf16").encode(ids, lengths)
    assert 0 < np.abs(tiles - vectors).max() < 2e-3


def test_sentences_of_a_call_need_no_memory_but_for_their_vectors(small: BertWeights) -> None:
    ids, lengths = make_tokens([3, 9, 1, 40] * 2500)
    encoder = NativeEncoder(small, normalize=True, num_threads=2)
    vectors = encoder.encode(ids, lengths)
    before = resident_bytes()
    again = encoder.encode(ids, lengths)
    assert resident_bytes() - before < again.nbytes + 2**20
    np.testing.assert_array_equal(vectors, again)
    np.testing.assert_array_equal(vectors[-4:], encoder.encode(ids[-53:], lengths[-4:]))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_scores_of_any_size_keep_softmax_finite(small: BertWeights) -> None:
    layer = small.layers[0]
    grown = dataclasses.replace(layer, qkv=dataclasses.replace(layer.qkv, weight=layer.qkv.weight * 1e4))
    weights = dataclasses.replace(small, layers=(grown,))
    vectors = NativeEncoder(weights, normalize=True, num_threads=1).encode(*make_tokens([70, 3]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_nothing_gives_nothing(small: BertWeights) -> None:
    encoder = NativeEncoder(small, normalize=True, num_threads=1)
    none = np.zeros(0, dtype=np.int32)
    assert encoder.encode(none, np.zeros(0, dtype=np.int64)).shape == (0, 64)
    np.testing.assert_array_equal(encoder.encode(none, np.array([0, 0])), np.zeros((2, 64)))
    some = encoder.encode(*make_tokens([4]))
    np.testing.assert_array_equal(encoder.encode(make_tokens([4])[0], np.array([0, 4, 0]))[1:2], some)


def test_minilm_stays_close_to_float32() -> None:
    model = SentenceTransformer(str(find_model("minilm")), device="cpu", local_files_only=True)
    sentences = [
        "A frog.",
        "",
        "The tax was repealed in 1846, to nobody's surprise.",
        "\U0001f438 和 Åß",
        "word " * 300,
    ]
    network: Any = model[0].auto_model
    encoder = NativeEncoder(read_bert(network), normalize=True, num_threads=1)
    tokens = Tokenizer(model.tokenizer, 256)(sentences)
    expected = model.encode(sentences)
    assert cosines(encoder.encode(tokens.ids, tokens.lengths), expected).min() > 0.9999


def test_what_is_out_of_bounds_is_refused(small: BertWeights) -> None:
    encoder = NativeEncoder(small, normalize=True, num_threads=1)
    with pytest.raises(ValueError, match="token 60 is not among the encoder's 60"):
        encoder.encode(np.array([3, 60]), np.array([2]))
    with pytest.raises(ValueError, match="token -1"):
        encoder.encode(np.array([3, -1]), np.array([2]))
    with pytest.raises(ValueError, match="71 tokens, the encoder 70 positions"):
        encoder.encode(np.zeros(71), np.array([71]))
    for lengths in ([1], [3], [3, -1]):
        with pytest.raises(ValueError, match="give the length of each"):
            encoder.encode(np.array([3, 4]), np.array(lengths))
    with pytest.raises(ValueError, match="num_threads"):
        NativeEncoder(small, normalize=True, num_threads=0)


def test_it_says_what_it_does_not_know(small: BertWeights) -> None:
    assert supports(small, "mean")
    assert not supports(small, "max")
    assert not supports(dataclasses.replace(small, activation="relu"), "mean")
    assert not supports(dataclasses.replace(small, num_heads=4), "mean")
    assert not supports(read_bert(make_bert(hidden=312, heads=12, inner=64)), "mean")
    assert not supports(read_bert(make_bert(hidden=64, heads=2, inner=72)), "mean")
    with pytest.raises(ValueError, match="supports"):
        NativeEncoder(dataclasses.replace(small, num_heads=4), normalize=True, num_threads=1)
