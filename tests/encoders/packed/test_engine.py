from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from encoders.packed.engine import OneByOne, PackedEngine, PackedForward
from encoders.packed.ops import Batch, TorchOps
from encoders.packed.pooling import Pooling
from encoders.packed.tokens import Tokens
from encoders.sentence_transformer import SentenceTransformerEncoder

OPS = TorchOps(torch.device("cpu"), torch.float32)


def tokenize(sentences: Sequence[str]) -> Tokens:
    """A token a character."""
    ids = [ord(character) for sentence in sentences for character in sentence]
    return Tokens(np.array(ids, np.int32), np.array([len(sentence) for sentence in sentences]))


class Room:
    """An encoder whose hidden states are the tokens' numbers, with memory for so many tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.seen: list[int] = []

    def __call__(self, batch: Batch) -> Tensor:
        if len(batch.ids) > self.tokens:
            raise torch.OutOfMemoryError("no room")
        self.seen.append(len(batch.ids))
        return torch.stack([batch.ids, batch.positions], dim=1).float()


def forward(room: Room, budget: int) -> PackedForward:
    return PackedForward(OneByOne(room, Pooling("mean", False, ()), OPS), dim=2, budget=budget)


def test_out_of_memory_halves_the_budget_and_loses_nothing() -> None:
    sentences = ["a" * n for n in range(1, 40)]
    room = Room(60)
    small = forward(room, 400)
    found = PackedEngine(tokenize, small, window=99).encode(sentences)
    np.testing.assert_allclose(found, [(ord("a"), (n - 1) / 2) for n in range(1, 40)])
    assert small.budget <= 60 and max(room.seen) <= 60
    assert sum(room.seen) == sum(map(len, sentences))  # nothing twice
    with pytest.raises(torch.OutOfMemoryError):
        PackedEngine(tokenize, forward(Room(10), 400), window=99).encode(sentences)


def test_windows_keep_the_order_and_errors_come_out() -> None:
    sentences = [chr(65 + n) * (n % 4) for n in range(20)]
    found = PackedEngine(tokenize, forward(Room(999), 8), window=3).encode(sentences)
    np.testing.assert_allclose(found[:, 0], [(65 + n) * (n % 4 > 0) for n in range(20)])

    def fail(sentences: Sequence[str]) -> Tokens:
        if "X" in sentences:
            raise RuntimeError("cannot tokenise X")
        return tokenize(sentences)

    with pytest.raises(RuntimeError, match="cannot tokenise X"):
        PackedEngine(fail, forward(Room(999), 8), window=3).encode([*sentences, "X"])


ODD = [
    "",
    " \t\n",
    "a\0b",
    "\ud800",
    "‮right‬ to left ‏שלום",
    "\u200b\u200d\ufeff",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "e" + "\u0301" * 500,
    "x" * 1_000_000,
    "word " * 200_000,
    "東京は日本の首都です。",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder("minilm", dtype="float32")


def test_odd_text_does_not_take_its_batch_down(minilm: SentenceTransformerEncoder) -> None:
    with pytest.warns(UserWarning, match="sentences with more than 256 tokens were cut there by the encoder: 1 so far"):
        found = minilm.encode(["A plain sentence.", *ODD, "Another one."])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[[0, -1]], minilm.encode(["A plain sentence.", "Another one."]), atol=1e-6)
    assert minilm.encode([]).shape == (0, 384)


@given(st.lists(st.text(st.characters(codec=None, exclude_categories=()), max_size=30), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_a_concept_depends_on_its_sentence_alone(minilm: SentenceTransformerEncoder, sentences: list[str]) -> None:
    together = minilm.encode(sentences)
    alone = np.concatenate([minilm.encode([sentence]) for sentence in sentences])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_bfloat16_by_any_batching_and_order(minilm: SentenceTransformerEncoder) -> None:
    """The bars of the engine: 1e-3 whatever stands beside a sentence, 0.9995 with float32."""
    sentences = [
        f"{'so ' * (n % 37)}it was said {n} times over, and {n * n} people {'heard ' * (n % 5)}" for n in range(300)
    ]
    fast = SentenceTransformerEncoder("minilm", dtype="bfloat16")
    found = fast.encode(sentences)
    order = np.random.default_rng(0).permutation(len(sentences))
    np.testing.assert_allclose(fast.encode([sentences[row] for row in order]), found[order], atol=1e-3)
    few = np.concatenate([fast.encode(sentences[start : start + 40]) for start in range(0, 300, 40)])
    np.testing.assert_allclose(few, found, atol=1e-3)
    assert (found * minilm.encode(sentences)).sum(axis=1).min() > 0.9995
