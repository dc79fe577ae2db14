"""What needs kernels runs on a GPU, or in Triton's interpreter, which `test_triton_interpreter.py` turns on."""

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from encoders.packed.ops import Batch, Ops, TorchOps
from encoders.packed.pack import Pack, pack_tokens

pytest.importorskip("triton")
from encoders.packed.cuda_graphs import GraphedEncoder, GraphSize, choose_size, pad_pack

CAN_RUN = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_packs(lengths: list[int], budget: int) -> list[Pack]:
    ids = np.random.default_rng(0).integers(0, 50, sum(lengths)).astype(np.int32)
    return list(pack_tokens(ids, np.array(lengths, dtype=np.int64), budget))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300), st.integers(1, 9000))
def test_a_size_has_room_for_its_pack(lengths: list[int], budget: int) -> None:
    for pack in make_packs(lengths, budget):
        size = choose_size(pack, budget=budget, longest_block=128)
        if size is None:
            assert pack.longest > 128 or len(pack.rows) > len(pack.ids) // 8
            continue
        assert size.tokens > len(pack.ids) and size.sentences >= len(pack.rows)
        assert pack.longest <= size.longest < max(17, 2 * pack.longest)
        assert size.tokens % 128 == 0 and size.tokens <= len(pack.ids) + max(128, budget // 16 + 128)
        staged = np.full(size.num_inputs, -1, dtype=np.int32)
        pad_pack(pack, size, staged)
        ids, positions, starts = np.split(staged, [size.tokens, 2 * size.tokens])
        assert (np.diff(starts) >= 0).all() and starts[-1] == len(pack.ids) < size.tokens
        np.testing.assert_array_equal(starts[: len(pack.starts)], pack.starts)
        np.testing.assert_array_equal(ids[: len(pack.ids)], pack.ids)
        np.testing.assert_array_equal(positions[: len(pack.ids)], pack.positions)
        assert (ids >= 0).all() and (positions >= 0).all()


def test_a_corpus_needs_few_graphs() -> None:
    lengths = np.random.default_rng(0).lognormal(3.2, 0.6, 40_000).clip(3, 256).astype(int).tolist()
    packs = [pack for start in range(0, 40_000, 4096) for pack in make_packs(lengths[start : start + 4096], 16384)]
    sizes = [choose_size(pack, budget=16384, longest_block=128) for pack in packs]
    assert sum(size is not None for size in sizes) > 0.8 * len(packs)
    assert len(set(sizes)) < 12
    padded = sum(size.tokens for size in sizes if size)
    assert padded < 1.06 * sum(len(pack.ids) for pack, size in zip(packs, sizes, strict=True) if size)


def make_embed(ops: Ops) -> Callable[[Batch], Tensor]:
    """A small encoder with random weights."""
    from transformers import BertConfig, BertModel

    from encoders.packed.bert import PackedBert
    from encoders.packed.bert_readers import read_bert

    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    encoder = PackedBert(read_bert(BertModel(config)), ops)
    return lambda batch: ops.pool_mean(encoder(batch), batch, True)


@pytest.mark.skipif(not CAN_RUN, reason="no GPU; test_triton_interpreter.py runs this file without one")
@torch.inference_mode()
def test_padding_changes_nothing() -> None:
    from encoders.packed.triton_ops import TritonOps

    embed = make_embed(TritonOps(DEVICE, torch.float32))
    [pack] = make_packs([3, 20, 9, 33, 1], 4096)
    size = GraphSize(tokens=128, sentences=9, longest=64)
    staged = np.empty(size.num_inputs, dtype=np.int32)
    pad_pack(pack, size, staged)
    parts = torch.from_numpy(staged).to(DEVICE).split([size.tokens, size.tokens, size.sentences + 1])
    padded = embed(Batch(*parts, runs=[], longest=size.longest))
    reference = make_embed(TorchOps(DEVICE, torch.float32))(Batch.of(pack, DEVICE))
    torch.testing.assert_close(padded[:5], reference, atol=2e-5, rtol=2e-5)
    assert not padded[5:].any()  # nothing of nobody
    parts[0][len(pack.ids) :] = 7
    torch.testing.assert_close(embed(Batch(*parts, runs=[], longest=size.longest))[:5], padded[:5], rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_graphs_give_what_single_launches_give() -> None:
    from encoders.packed.triton_ops import TritonOps

    ops = TritonOps(DEVICE, torch.bfloat16)
    embed = make_embed(ops)
    lengths = np.random.default_rng(0).lognormal(3, 0.8, 3000).clip(1, 300).astype(int).tolist()
    packs = make_packs(lengths, 2048)
    graphed = GraphedEncoder(embed, budget=2048, longest_block=ops.longest_block, device=DEVICE)
    for _ in range(2):  # the second time all graphs are there
        for pack, concepts in zip(packs, graphed.encode(packs), strict=True):
            with torch.inference_mode():
                reference = embed(Batch.of(pack, DEVICE)).cpu()
            torch.testing.assert_close(torch.from_numpy(concepts), reference, atol=2e-2, rtol=0)
    assert list(graphed.encode([])) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_out_of_memory_halves_the_budget() -> None:
    from encoders.packed.engine import PackedForward
    from encoders.packed.tokens import Tokens
    from encoders.packed.triton_ops import TritonOps

    ops = TritonOps(DEVICE, torch.bfloat16)
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 30, 60_000)
    tokens = Tokens(generator.integers(0, 50, lengths.sum()).astype(np.int32), lengths)

    def forward(budget: int) -> PackedForward:
        graphed = GraphedEncoder(make_embed(ops), budget=budget, longest_block=ops.longest_block, device=DEVICE)
        return PackedForward(graphed.encode, dim=32, budget=budget)

    small, large = forward(2**14), forward(2**20)
    reference = small(tokens)
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 2**27
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(DEVICE).total_memory)
    try:
        concepts = large(tokens)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert large.budget < 2**20
    np.testing.assert_allclose(concepts, reference, atol=2e-2)
