"""Runs on a GPU, or in Triton's interpreter, which `test_triton_interpreter.py` turns on in a process of its own."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.packed.ops import Activation, AttentionShape, Batch, TorchOps
from encoders.packed.pack import Pack

pytest.importorskip("triton")
from encoders.packed.triton_ops import TritonOps, _attend_long

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU; test_triton_interpreter.py runs this file without one", allow_module_level=True)

DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# The interpreter multiplies bfloat16's bits as whole numbers, and cuts them off where a card rounds.
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if HAS_GPU else [])]
LENGTHS = {
    "one token": [1],
    "one sentence": [23],
    "one block of 16": [1, 1, 2, 5, 16],
    "one more": [1, 3, 16, 17],
    "half a block": [2, 40, 64],
    "a full block": [7, 128],
    "more than a block": [5, 129, 200],
}


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Fills new memory with NaN, so that what a kernel forgets to write is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def make_batch(lengths: list[int], *, vocabulary: int = 50) -> Batch:
    generator = np.random.default_rng(sum(lengths))
    ids = generator.integers(0, vocabulary, sum(lengths)).astype(np.int32)
    return Batch.of(Pack(np.arange(len(lengths)), ids, np.array(lengths, dtype=np.int64)), DEVICE)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE, dtype)


def agree(result: Tensor, reference: Tensor, dtype: torch.dtype) -> None:
    torch.testing.assert_close(result.double(), reference, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


EXACT = TorchOps(DEVICE, torch.float64)


def ops(dtype: torch.dtype) -> TritonOps:
    return TritonOps(DEVICE, dtype)


@pytest.mark.parametrize("dtype", [*DTYPES[:2], torch.bfloat16])
@pytest.mark.parametrize(("rows", "dim"), [(1, 7), (3, 384), (257, 96), (2, 5000)])
def test_norms(dtype: torch.dtype, rows: int, dim: int) -> None:
    tolerance = 2 * TOLERANCE[dtype]
    x, residual = 3 * random(rows, dim, dtype=dtype) + 1, random(dim, rows, dtype=dtype).T.contiguous()
    x[-1], residual[-1] = 0.01 * x[-1], 0  # so that eps counts
    weight, bias = random(dim), random(1, dim)[0]
    for shift in (bias, None):
        reference = EXACT.add_norm(weight, shift, 1e-3)(x.double(), residual.double())
        result = ops(dtype).add_norm(weight, shift, 1e-3)(x, residual)
        torch.testing.assert_close(result.double(), reference, atol=2 * tolerance, rtol=tolerance)
    result = ops(dtype).norm(weight, bias, 1e-5)(x)
    reference = EXACT.norm(weight, bias, 1e-5)(x.double())
    torch.testing.assert_close(result.double(), reference, atol=2 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [*DTYPES[:2], torch.bfloat16])
def test_embedding(dtype: torch.dtype) -> None:
    batch = make_batch([1, 3, 9], vocabulary=11)
    word, position, weight, bias = random(11, 48), random(12, 48), random(48), random(1, 48)[0]
    ours = ops(dtype)
    result = ours.embed(word, position, weight, bias, 1e-5)(batch)
    words, places = ours.tensor(word).double(), ours.tensor(position).double()
    reference = EXACT.add_norm(weight, bias, 1e-5)(words[batch.ids.long()], places[batch.positions.long()])
    torch.testing.assert_close(result.double(), reference, atol=4 * TOLERANCE[dtype], rtol=2 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize(("rows", "in_dim", "out_dim"), [(1, 32, 16), (130, 96, 200)])
def test_products_with_an_activation(
    dtype: torch.dtype, activation: Activation, rows: int, in_dim: int, out_dim: int
) -> None:
    x, weight, bias = random(rows, in_dim, dtype=dtype), random(out_dim, in_dim) / in_dim**0.5, 3 * random(out_dim)
    weight = weight.to(dtype)
    for shift in (bias, None):
        result = ops(dtype).linear(weight, shift, activation)(x)
        agree(result, EXACT.linear(weight, shift, activation)(x.double()), dtype)


def test_other_products_are_left_to_pytorch() -> None:
    x, weight, bias = random(5, 32), random(7, 32), random(7)
    reference = TorchOps(DEVICE, torch.float32)
    for activation in (None, "gelu"):
        torch.testing.assert_close(
            ops(torch.float32).linear(weight, bias, activation)(x), reference.linear(weight, bias, activation)(x)
        )


SHAPES = {
    "plain": AttentionShape(3, 3, 32, 0.2),
    "odd width": AttentionShape(2, 2, 24, 0.2),
    "shared keys, causal": AttentionShape(4, 2, 16, 0.3, causal=True),
    "window": AttentionShape(2, 2, 16, 0.3, window=3),
    "causal window": AttentionShape(2, 1, 16, 0.3, causal=True, window=2),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_attention(dtype: torch.dtype, lengths: list[int], shape: AttentionShape) -> None:
    batch = make_batch(lengths)
    qkv = random(sum(lengths), (shape.heads + 2 * shape.kv_heads) * shape.head_dim, dtype=dtype)
    agree(ops(dtype).attend(qkv, batch, shape), EXACT.attend(qkv.double(), batch, shape), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_attention_with_a_bias(dtype: torch.dtype, lengths: list[int]) -> None:
    batch, shape = make_batch(lengths), AttentionShape(2, 2, 16, 0.3)
    qkv, bias = random(sum(lengths), 96, dtype=dtype), 2 * random(2, 2 * max(lengths) + 7, dtype=dtype)
    agree(ops(dtype).attend(qkv, batch, shape, bias), EXACT.attend(qkv.double(), batch, shape, bias.double()), dtype)


def test_large_scores_do_not_overflow() -> None:
    batch, shape = make_batch([9, 12]), AttentionShape(2, 2, 16, 1.0)
    qkv = 60 * random(21, 96, dtype=torch.float16)
    result = ops(torch.float16).attend(qkv, batch, shape)
    torch.testing.assert_close(result.double(), EXACT.attend(qkv.double(), batch, shape), atol=0.2, rtol=2e-3)


def test_neighbours_do_not_matter_to_the_bit() -> None:
    shape, dtype = AttentionShape(2, 2, 16, 0.3), torch.float16
    qkv = random(33, 96, dtype=dtype)
    together, alone = make_batch([3, 9, 21]), make_batch([9, 21])
    torch.testing.assert_close(
        ops(dtype).attend(qkv, together, shape)[3:], ops(dtype).attend(qkv[3:], alone, shape), rtol=0, atol=0
    )
    x = random(33, 40, dtype=dtype)
    pooled = ops(dtype).pool_mean(x, together, True)
    torch.testing.assert_close(pooled[1:], ops(dtype).pool_mean(x[3:], alone, True), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [*DTYPES[:2], torch.bfloat16])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("normalize", [False, True])
def test_pooling(dtype: torch.dtype, lengths: list[int], normalize: bool) -> None:
    batch, x = make_batch(lengths), random(sum(lengths), 100, dtype=dtype)
    result = ops(dtype).pool_mean(x, batch, normalize)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, EXACT.pool_mean(x.float(), batch, normalize), atol=2e-6, rtol=2e-6)


def test_a_sentence_of_zeros_is_not_divided_by() -> None:
    assert not ops(torch.float32).pool_mean(torch.zeros(3, 8, device=DEVICE), make_batch([1, 2]), True).any()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_long_sentences_fit_pytorchs_function(shape: AttentionShape) -> None:
    """No CPU runs it, but it checks what it is given without data too."""
    batch = make_batch([5, 300])
    empty = torch.empty(305, (shape.heads + 2 * shape.kv_heads) * shape.head_dim, dtype=torch.float16, device="meta")
    starts = Batch(batch.ids, batch.positions, batch.starts.to("meta"), batch.runs, batch.longest)
    assert _attend_long(empty, starts, shape).shape == (305, shape.heads * shape.head_dim)


@pytest.mark.slow
def test_ten_thousand_sentences() -> None:
    lengths = sorted(1 + index % 3 for index in range(10_000))
    batch, shape, dtype = make_batch(lengths), AttentionShape(1, 1, 16, 0.3), torch.float16
    qkv = random(sum(lengths), 48, dtype=dtype)
    result = ops(dtype).attend(qkv, batch, shape)
    agree(result, EXACT.attend(qkv.double(), batch, shape), dtype)
    pooled = ops(dtype).pool_mean(result, batch, True)
    torch.testing.assert_close(pooled, EXACT.pool_mean(result.float(), batch, True), atol=2e-6, rtol=2e-6)


def test_a_real_model() -> None:
    """The bundled model agrees with sentence-transformers, sentence by sentence."""
    from sentence_transformers import SentenceTransformer

    from encoders.packed.bert import PackedBert
    from encoders.packed.bert_readers import read_bert
    from encoders.packed.pack import pack_tokens
    from encoders.sentence_transformer import find_model

    model = SentenceTransformer(str(find_model("minilm")), device="cpu")
    sentences = ["A toad.", "The frog sat in the well, and the king's daughter wept.", "", "No."]
    ids = [np.array(model.tokenizer(sentence)["input_ids"], dtype=np.int32) for sentence in sentences]
    [pack] = pack_tokens(np.concatenate(ids), np.array([len(row) for row in ids]), 4096)
    for dtype in DTYPES[1:]:
        batch, ours = Batch.of(pack, DEVICE), ops(dtype)
        with torch.inference_mode():
            concepts = ours.pool_mean(PackedBert(read_bert(model[0].auto_model), ours)(batch), batch, True)
        reference = model.encode([sentences[row] for row in pack.rows])
        cosine = (concepts.cpu().numpy() * reference).sum(axis=1)
        assert cosine.min() > 0.9997, (dtype, cosine)
