from typing import Any

import pytest
import torch
from torch.testing import assert_close

from decoders.llm import load_llm
from lcm.mutual_information import MutualInformation

CONTEXTS = [["The old king had three sons."], ["One day a fox came.", "She took the apple.", "Nobody knew where."]]
TEXTS = ["The horse spoke.", "So they were married and lived happily, and the girl wept."]


@pytest.fixture(scope="module")
def parts(llm: str) -> tuple[Any, Any]:
    return load_llm(llm)


def direct(parts: tuple[Any, Any], before: list[str], text: str) -> tuple[float, int]:
    """NLL without the context less that with it, each by one pass over one row of tokens."""
    model, tokenizer = parts
    losses = []
    for start in ("\n", "\n".join(before) + "\n"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if start == "\n":
            read = tokenizer("\n", add_special_tokens=False)["input_ids"]
        else:
            read = tokenizer(start[:-1], add_special_tokens=False)["input_ids"]
            read += tokenizer("\n", add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([read + ids])).logits[0, len(read) - 1 : -1].float()
        losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")))
    return losses[0] - losses[1], len(ids)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_it_equals_its_definition_in_any_batch_and_every_time(parts: tuple[Any, Any], batch_size: int) -> None:
    information = MutualInformation(*parts, CONTEXTS, batch_size=batch_size)
    expected = [direct(parts, before, text) for before, text in zip(CONTEXTS, TEXTS, strict=True)]
    for _ in range(2):  # what was read stays as it was
        told = information.told(TEXTS)
        assert told.num_tokens.tolist() == [count for _, count in expected]
        assert_close(told.nats, torch.tensor([nats for nats, _ in expected], dtype=torch.float64), rtol=1e-3, atol=1e-3)
        information.told(TEXTS[::-1])
    total = sum(nats for nats, _ in expected) / sum(count for _, count in expected)
    assert told.mean == pytest.approx(total, rel=1e-3, abs=1e-4)


def test_only_the_last_sentences_before_are_read(parts: tuple[Any, Any]) -> None:
    short = MutualInformation(*parts, [before[-1:] for before in CONTEXTS]).told(TEXTS)
    assert_close(MutualInformation(*parts, CONTEXTS, num_before=1).told(TEXTS).nats, short.nats)
    assert not torch.allclose(MutualInformation(*parts, CONTEXTS).told(TEXTS).nats, short.nats)


def test_an_empty_text_is_told_nothing_of(parts: tuple[Any, Any]) -> None:
    information = MutualInformation(*parts, CONTEXTS)
    told = information.told(["", TEXTS[1]])
    assert told.nats[0] == told.num_tokens[0] == 0
    assert_close(told.nats[1], information.told(TEXTS).nats[1])
    assert information.told(["", ""]).num_tokens.sum() == 0


def test_a_sentence_without_one_before_it_is_refused(parts: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="one before it"):
        MutualInformation(*parts, [["A king."], []])
