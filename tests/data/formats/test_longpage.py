import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block
from data.formats.longpage import read_book, split_scenes
from data.readers import read_documents
from data.report import ReadReport

RATINGS = dict.fromkeys(("action", "dialog", "world_building", "exposition", "romantic", "erotic", "pacing"), 50)


def scene(name: str, words: Any, summary: list[str]) -> dict[str, Any]:
    return {
        "scene_name": name,
        "word_count": words,
        "embedding_space": RATINGS,
        "narrative_focus": "the frog",
        "narrative_perspective": "third person",
        "scene_summary_short": summary,
    }


BOOK: dict[str, Any] = {
    "use_prompt": "Write of a frog.\n\nKeep it **short**.",
    "book_title": "The Frog",
    "book_highlight": "A frog meets Mr. King. He wants more.",
    "book_tags": ["frogs", "kings"],
    "book_archetype": "A moral tale.",
    "world_rules": ["- Frogs talk.", "Ponds are deep."],
    "story_arcs": [{"arc_name": "The leap", "arc_summary": ["He leaps.", "He falls."]}],
    "character_archetypes": {"The seeker": ["wants more"]},
    "writing_style": ["plain"],
    "book_characters": {
        "main_characters": [{"name": "Frog", "description": ["green", "vain"]}],
        "side_characters": [],
    },
    "book_chapters": {
        "I. The pond": {
            "chapter": "I. THE POND\n\nOne two three four.\n\nFive six seven eight.\n\nNine ten.",
            "embedding_space": RATINGS,
            "chapter_summary": ["The frog sits."],
            "scene_breakdown": [scene("Morning", 400, ["He wakes."]), scene("Evening", 600, ["He sleeps."])],
        },
        "II. The king": {"chapter": "The king came.", "chapter_summary": [], "scene_breakdown": []},
    },
}
ROWS = [
    (4, "question", "Write of a frog."),
    (4, "question", "Keep it short."),
    (4, "heading", "The Frog"),
    (4, "summary", "A frog meets Mr. King."),
    (4, "summary", "He wants more."),
    (4, "style", "A moral tale."),
    (4, "style", "frogs, kings"),
    (4, "world", "Frogs talk."),
    (4, "world", "Ponds are deep."),
    (4, "style", "plain"),
    (4, "character", "The seeker: wants more"),
    (4, "character", "Frog: green"),
    (4, "character", "Frog: vain"),
    (3, "heading", "The leap"),
    (3, "summary", "He leaps."),
    (3, "summary", "He falls."),
    (2, "heading", "I. The pond"),
    (2, "summary", "The frog sits."),
    (1, "heading", "Morning"),
    (1, "summary", "He wakes."),
    (0, "sentence", "One two three four."),
    (1, "heading", "Evening"),
    (1, "summary", "He sleeps."),
    (0, "sentence", "Five six seven eight."),
    (0, "sentence", "Nine ten."),
    (2, "heading", "II. The king"),
    (0, "sentence", "The king came."),
]


def rows(book: dict[str, Any], report: ReadReport | None = None) -> list[tuple[int, str, str]]:
    return [(block.level, block.role, block.text) for block in read_book(book, report or ReadReport())]


def test_a_book_is_interleaved_depth_first() -> None:
    report = ReadReport()
    assert rows(BOOK, report) == ROWS
    assert set(report.lines()) == {
        'the field "embedding_space" is not used',
        'the field "narrative_focus" is not used',
        'the field "narrative_perspective" is not used',
        "1 headings that a chapter's text repeats left out",
    }


def as_json(book: dict[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in book.items()}


def with_lists(book: dict[str, Any]) -> dict[str, Any]:
    chapters = [{"chapter_name": name, **chapter} for name, chapter in book["book_chapters"].items()]
    return {**book, "book_chapters": chapters}


def with_nulls(book: dict[str, Any]) -> dict[str, Any]:
    """As Parquet gives it back when all books share one struct."""
    foreign = {"chapter": None, "chapter_summary": None, "scene_breakdown": None, "embedding_space": {"action": None}}
    chapters = {"Of another book": None, **book["book_chapters"], "And another": foreign}
    return {**book, "book_chapters": chapters, "character_archetypes": {"Nobody": None, **book["character_archetypes"]}}


def with_aliases(book: dict[str, Any]) -> dict[str, Any]:
    moved = {
        key: book[key] for key in book if key not in ("use_prompt", "book_tags", "book_archetype", "writing_style")
    }
    metadata = {
        "tags": book["book_tags"],
        "archetype": book["book_archetype"],
        "style": book["writing_style"],
        "isbn": 1,
    }
    return {**moved, "user_prompt": book["use_prompt"], "metadata": metadata}


@pytest.mark.parametrize("change", [as_json, with_lists, with_nulls, with_aliases])
def test_other_shapes_of_the_same_book(change: Any) -> None:
    assert rows(change(BOOK)) == ROWS


def test_parquet_keeps_a_book(tmp_path: Path) -> None:
    other = {**BOOK, "book_title": "Other", "book_chapters": {"Only": {"chapter": "Only this.", "chapter_summary": []}}}
    pq.write_table(pa.Table.from_pylist([BOOK, other]), tmp_path / "a.parquet")
    report = ReadReport()
    book, second = read_documents(str(tmp_path), cut="never", report=report)
    assert [(block.level, block.role, block.text) for block in book.blocks] == ROWS
    assert second.blocks[-2:] == (Block("Only", 2, "heading"), Block("Only this."))
    assert (book.title, book.language, book.licence) == ("The Frog", "english", "CC-BY-4.0 traces, public-domain text")
    assert "chapters that are fields of a Parquet struct stand in the order of its fields" in report.notes


def test_the_shapes_of_plans_that_others_write() -> None:
    book = {
        "story_arcs": ["A frog leaps.", "It falls."],
        "character_archetypes": {"Frog": "seeker", "King": None},
        "book_characters": {"main_characters": ["Frog"], "side_characters": [{"name": "King", "description": None}]},
        "book_chapters": {"Гл. 1": "— Кто там?\n\n— Я."},
    }
    assert rows(book) == [
        (4, "character", "Frog: seeker"),
        (4, "character", "Frog"),
        (4, "character", "King"),
        (3, "summary", "A frog leaps."),
        (3, "summary", "It falls."),
        (2, "heading", "Гл. 1"),
        (0, "sentence", "— Кто там?"),
        (0, "sentence", "— Я."),
    ]
    arcs = {"The leap": ["He leaps."]}
    assert rows({"story_arcs": arcs, "book_chapters": {"I": "x"}})[:2] == [
        (3, "heading", "The leap"),
        (3, "summary", "He leaps."),
    ]


def test_the_first_sketch_of_the_format() -> None:
    report = ReadReport()
    sketch = {
        "prompt": "Write.",
        "reasoning_traces": "First the pond.\n\nThen the king.",
        "summary_hierarchy": {"book_highlight": "A frog.", "story_arcs": ["Up."], "chapter_summary": ["He sits."]},
        "metadata": {"title": "F", "author": "?"},
        "full_text": "Chapter 1\n\nYes.",
    }
    assert rows(sketch, report) == [
        (4, "question", "Write."),
        (4, "heading", "F"),
        (4, "summary", "A frog."),
        (4, "think", "First the pond."),
        (4, "think", "Then the king."),
        (3, "summary", "Up."),
        (2, "summary", "He sits."),
        (2, "heading", "Chapter 1"),
        (0, "sentence", "Yes."),
    ]
    assert report.lines() == ['the field "author" is not used']


def test_a_plan_alone_is_said_to_be_one() -> None:
    report = ReadReport()
    assert len(rows({**BOOK, "book_chapters": {"I": {"chapter": None, "chapter_summary": ["He sits."]}}}, report)) == 18
    assert "1 books without a text, of which only the plan was read" in report.lines()


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ([10, 10], [5, 5]),
        ([1, 9], [1, 9]),
        (["~1,200", 1200.0], [5, 5]),
        ([None, 0, float("nan")], [3, 4, 3]),
        ([5, None, 5], [3, 4, 3]),
        ([1] * 20, None),
        ([10**400, -1], [5, 5]),
    ],
)
def test_scenes_get_their_share_of_the_paragraphs(counts: list[Any], sizes: list[int] | None) -> None:
    paragraphs = [f"Paragraph number {number}." for number in range(10)]
    shares = split_scenes(paragraphs, counts)
    assert [paragraph for share in shares for paragraph in share] == paragraphs
    assert [len(share) for share in shares] == sizes if sizes else len(shares) == 20


@given(
    st.lists(st.text(alphabet="ab ", min_size=1), max_size=12),
    st.lists(st.integers(-5, 900) | st.floats() | st.none() | st.text(max_size=5), min_size=1, max_size=8),
)
def test_scenes_lose_no_paragraph(paragraphs: list[str], counts: list[Any]) -> None:
    shares = split_scenes(paragraphs, counts)
    assert len(shares) == len(counts)
    assert [paragraph for share in shares for paragraph in share] == paragraphs
