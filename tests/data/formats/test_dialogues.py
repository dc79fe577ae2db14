import json
from typing import Any

import pytest

from data.document import Block
from data.formats.dialogues import read_alpaca, read_dialogue
from data.report import ReadReport

SPOKEN = [
    Block("Be brief.", 0, "system"),
    Block("Who are you?", 0, "human"),
    Block("A frog. « Ква », as they say.", 0, "gpt"),
]
SHAREGPT = {
    "id": "1",
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Who are you?", "markdown": None},
        {"from": "gpt", "value": "A frog.\n« Ква », as they say.", "text": None},
    ],
}


def read(record: dict[str, Any]) -> tuple[list[Block], list[str]]:
    report = ReadReport()
    return read_dialogue(record, report), report.lines()


def test_sharegpt_keeps_its_speakers() -> None:
    blocks, lines = read(SHAREGPT)
    assert [(block.text, block.role) for block in blocks] == [
        ("Be brief.", "system"),
        ("Who are you?", "human"),
        ("A frog.", "gpt"),
        ("« Ква », as they say.", "gpt"),
    ]
    assert all(block.level == 0 for block in blocks) and not lines


def test_a_system_prompt_may_stand_beside_and_turns_in_a_string() -> None:
    turns = SHAREGPT["conversations"]
    expected = read(SHAREGPT)[0]
    assert read({"system": "Be brief.", "conversations": turns[1:]})[0] == expected  # type: ignore[index]
    assert read({"conversations": json.dumps(turns)})[0] == expected
    columns = {key: [turn[key] for turn in turns] for key in ("from", "value")}  # type: ignore[index]
    assert read({"conversations": columns})[0] == expected


def test_openai_messages() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Что это?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]},
        {"role": "tool", "content": "frog"},
        {"role": "assistant", "text": "Лягушка."},
        {"role": "user", "content": ""},
        7,
    ]
    blocks, lines = read({"messages": messages})
    assert blocks == [
        Block("Что это?", 0, "user"),
        Block("frog", 0, "tool"),
        Block("Лягушка.", 0, "assistant"),
    ]
    assert lines == [
        "1 parts of messages that are no text left out",
        "1 tool calls left out",
        "3 turns of dialogues without a text left out",
    ]


@pytest.mark.parametrize("field", ["dialog", "dialogue"])
def test_other_shapes_of_turns(field: str) -> None:
    assert read({field: [{"Иван": "— Кто там?"}, {"Frog": "I."}]})[0] == [
        Block("— Кто там?", 0, "Иван"),
        Block("I.", 0, "Frog"),
    ]
    blocks, lines = read({field: ["Hello.", "Good day.", "Well?"]})
    assert [block.role for block in blocks] == ["A", "B", "A"]
    assert lines == ["turns of dialogues that name no speaker were given to A and B in turn"]


def test_what_models_write_loses_its_markup() -> None:
    text = (
        "# Plan\n\n1. **Go** there.\n2. Come\nback, A* and 2**3.\n- one\n\t* two\n\n---\n"
        "```python\nx = 1\n\n```\nDone.\n"
        "— Да.\n— Нет.\n\n" + "A long line. " * 20 + "\nand what follows"
    )
    blocks, lines = read({"messages": [{"role": "assistant", "content": text}]})
    assert [block.text for block in blocks] == [
        "Plan",
        "1. Go there.",
        "2. Come back, A* and 2**3.",
        "one",
        "two",
        "Done.",
        "— Да.",
        "— Нет.",
        ("A long line. " * 20).strip(),
        "and what follows",
    ]
    assert lines == ["1 blocks of code left out"]


def test_alpaca() -> None:
    record = {
        "system": "Be kind.",
        "history": [["Hi.", "Hello."], ["?"]],
        "instruction": "Translate.",
        "input": "лягушка",
        "output": "frog",
    }
    report = ReadReport()
    assert [(block.role, block.text) for block in read_alpaca(record, report)] == [
        ("system", "Be kind."),
        ("question", "Hi."),
        ("answer", "Hello."),
        ("question", "Translate."),
        ("question", "лягушка"),
        ("answer", "frog"),
    ]
    assert report.lines() == ["1 turns of a history that are no pair of question and answer left out"]
