import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block
from data.formats.reasoning import is_marked, read_reasoning, split_reasoning, split_steps
from data.readers import read_documents
from data.report import ReadReport

# As a small model writes it: a space before, an introduction, items with bullets inside, a summary with a list.
THOUGHT = (
    " Let us count the frogs of both ponds.\n\n1. **First pond**:\n   - There are 3 frogs.\n\n   They sing.\n\n"
    "2. Second pond:\n   - There are 4 frogs, and A* is not needed.\n\nIn summary:\n\n1. Ponds: 2.\n2. Frogs: 7."
)
STEPS = [
    "Let us count the frogs of both ponds.",
    "1. First pond:",
    "There are 3 frogs.",
    "They sing.",
    "2. Second pond:",
]
STEPS += ["There are 4 frogs, and A* is not needed."]
ANSWER = ["In summary:", "1. Ponds: 2.", "2. Frogs: 7."]


def read(record: dict[str, Any]) -> dict[str, list[str]]:
    """Returns the texts of each role; the order of the roles is checked."""
    blocks = read_reasoning(record, ReadReport())
    roles = [block.role for block in blocks]
    assert roles == sorted(roles, key=["question", "think", "answer"].index)
    assert all(block.level == (4 if block.role == "question" else 0) for block in blocks)
    return {role: [block.text for block in blocks if block.role == role] for role in dict.fromkeys(roles)}


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "How many?", "thought_process": THOUGHT},
        {"instruction": "How many?", "context": None, "response": THOUGHT, "metadata": {"source": "x"}},
        {"prompt": "How many?", "response": THOUGHT},
        {"question": "How many?", "solution": THOUGHT},
    ],
)
def test_all_spellings_are_read_alike(record: dict[str, Any]) -> None:
    assert read(record) == {"question": ["How many?"], "think": STEPS, "answer": ANSWER}


def test_a_bare_first_line_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    record = {"instruction": "How many?", "thought_process": THOUGHT, "metadata": {"batch": "v1"}}
    path.write_text(f'"DEMO"\n\n{json.dumps(record)}\n')
    report = ReadReport()
    (document,) = read_documents(str(path), report=report)
    assert document.blocks[0] == Block("How many?", 4, "question") and document.title == "r 1"
    assert report.lines() == [
        "line 1 of r.jsonl is the first of the lines that are no JSON object left out",
        'the field "metadata" is not used',
        "1 lines that are no JSON object left out",
    ]


def test_gsm8k() -> None:
    answer = "She sold 48/2 = <<48/2=24>>24 frogs.\nIn all 48+24 = <<48+24=72>>72.\n#### 72"
    report = ReadReport()
    blocks = read_reasoning({"question": "How many?", "answer": answer}, report)
    assert blocks[1:] == [
        Block("She sold 48/2 = 24 frogs.", 0, "think"),
        Block("In all 48+24 = 72.", 0, "think"),
        Block("72", 0, "answer"),
    ]
    assert report.lines() == ["2 marks of a calculator left out"]


def test_math_and_aqua() -> None:
    solution = "We have $x = 2$. Thus $\\boxed{\\frac{1}{2}}$, or so. "
    assert read({"problem": "x?", "solution": solution, "level": "Level 5"}) == {
        "question": ["x?"],
        "think": ["We have $x = 2$.", "Thus $\\boxed{\\frac{1}{2}}$, or so."],
        "answer": ["\\frac{1}{2}"],
    }
    record = {"question": "x?", "options": ["A)21", "B)2 1/2"], "rationale": "So much.\nB.", "correct": "B"}
    assert read(record) == {
        "question": ["x?", "A)21", "B)2 1/2"],
        "think": ["So much.", "B."],
        "answer": ["B)2 1/2"],
    }
    assert read({"problem": "x?", "solution": "It is 2.", "answer": 2})["answer"] == ["2"]


@pytest.mark.parametrize(
    ("text", "steps", "answer"),
    [
        ("Step 1: Look.\nHere.\n\nStep 2: Leap.", ["Step 1: Look.\nHere."], "Step 2: Leap."),
        ("Шаг 1. Смотри.\nШаг 2. Прыгай.\nОтвет: 7", ["Шаг 1. Смотри.", "Шаг 2. Прыгай."], "7"),
        ("**Шаг 1:** Так.\n\n**Шаг 2:** Вот.\n\nТаким образом, семь.", ["**Шаг 1:** Так.", "**Шаг 2:** Вот."], None),
        (
            "### Step 1\nLook.\n### Step 2\nLeap.\n\n**Final Answer:** 7",
            ["### Step 1\nLook.", "### Step 2\nLeap."],
            "7",
        ),
        ("Step 1: Look. Step 2: Leap. Final verified answer: 7.", ["Step 1: Look.", "Step 2: Leap."], "7."),
        ("1) Look\n2) Leap\n#### 7", ["1) Look", "2) Leap"], "7"),
        ("#### Look\n\nHere.\n\nThere.", ["#### Look", "Here."], "There."),
        ("Look here.\n\nLeap there.\n\nSeven.", ["Look here.", "Leap there."], "Seven."),
        ("Look.\nLeap.", ["Look."], "Leap."),
        ("Mr. Frog leaps. It is 7.", ["Mr. Frog leaps."], "It is 7."),
        ("Он сел. Она ушла.", ["Он сел."], "Она ушла."),
        ("<think>Look. Leap.</think>\n<answer>Seven.</answer>", ["Look.", "Leap."], "Seven."),
        ("\\boxed{7", [], "\\boxed{7"),
        ("Seven.", [], "Seven."),
        ("", [], ""),
        ("1. A.\n2. B.\n\nSo it is.", ["1. A.", "2. B."], "So it is."),
        ("1. A\n\nMore.\n\n2. B\n\nMore.", ["1. A\n\nMore."], "2. B\n\nMore."),
    ],
)
def test_the_first_rule_that_matches_finds_steps_and_answer(text: str, steps: list[str], answer: str | None) -> None:
    assert split_reasoning(text) == (steps, answer if answer is not None else "Таким образом, семь.")


def test_a_response_without_marks_is_the_answer() -> None:
    plain = "Frogs are green.\n\nMost of them."
    assert not is_marked(plain) and is_marked("1. A\n2. B") and is_marked("Ответ: да")
    assert read({"prompt": "Why?", "response": plain})["answer"] == ["Frogs are green.", "Most of them."]
    assert read({"prompt": "Why?", "response": plain, "answer": "7"}) == {
        "question": ["Why?"],
        "think": ["Frogs are green.", "Most of them."],
        "answer": ["7"],
    }


@given(st.text(alphabet="aA.1) \n#-*:?<>{}\\Шаг", max_size=60))
def test_steps_lose_nothing_but_white_space(text: str) -> None:
    assert "".join("".join(split_steps(text)).split()) == "".join(text.split())
    steps, answer = split_reasoning(text, "known")
    assert answer == "known" and "".join("".join(steps).split()) == "".join(text.split())
