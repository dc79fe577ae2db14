import json
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block
from data.formats.records import (
    ALPACA,
    DIALOGUE,
    LONGPAGE,
    REASONING,
    TEXT,
    Kind,
    kind_of,
    punkt_language,
    read_records,
)
from data.report import ReadReport


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ("text", TEXT),
        ("content title", TEXT),
        ("book_chapters use_prompt", LONGPAGE),
        ("full_text reasoning_traces", LONGPAGE),
        ("conversations id", DIALOGUE),
        ("messages", DIALOGUE),
        ("messages prompt", DIALOGUE),
        ("dialog", DIALOGUE),
        ("dialogue", DIALOGUE),
        ("instruction input output text", ALPACA),
        ("instruction output", ALPACA),
        ("instruction thought_process metadata", REASONING),
        ("instruction context response metadata", REASONING),
        ("prompt response", REASONING),
        ("question answer", REASONING),
        ("problem solution", REASONING),
        ("question options rationale correct", REASONING),
        ("year", None),
        ("full_text", None),
        ("question", None),
    ],
)
def test_the_fields_tell_the_kind(fields: str, kind: Kind | None) -> None:
    record: dict[str, Any] = dict.fromkeys(fields.split(), "x")
    assert kind_of(record) is kind
    assert kind_of(record | {"messages": None, "book_chapters": {"I": None}, "text": ""}) in (kind, None)


def test_records_become_documents() -> None:
    records = [
        {"text": "One.\n\nTwo.", "title": "T", "licence": "CC0", "language": "ru", "year": 1},
        {"content": ["Three.", "Four."], "license": ["mit", "x"], "year": 2},
        {"year": 2},
        {"prompt": "Why?", "response": "So.", "text": "Why? So.", "language": ["en-GB"]},
        {"text": " "},
    ]
    report = ReadReport()
    first, second, third = read_records(records, "x/a.jsonl.gz", report)
    assert (first.title, first.licence, first.language, len(first.blocks)) == ("T", "CC0", "russian", 2)
    assert (second.title, second.source, second.licence) == ("a 2", "x/a.jsonl.gz", "mit, x")
    assert second.blocks == (Block("Three."), Block("Four.")) and second.language == "auto"
    assert third.blocks == (Block("Why?", 4, "question"), Block("So.", 0, "answer")) and third.language == "english"
    assert report.lines() == [
        'the field "year" is not used',
        "number 3 of x/a.jsonl.gz is the first of the records without a text left out",
        'the field "text" is not used',
        "2 records without a text left out",
    ]


def test_records_are_read_one_at_a_time() -> None:
    endless = ({"text": f"Row {number}."} for number in count())
    assert [document.title for document in islice(read_records(endless, "a", ReadReport()), 3)] == ["a 1", "a 2", "a 3"]


def test_a_book_may_be_wrapped() -> None:
    book = {"book_title": "B", "book_chapters": {"I": {"chapter": "Yes."}}}
    for content in (book, json.dumps(book)):
        (document,) = read_records([{"id": 1, "content": content}], "a", ReadReport())
        assert document.title == "B" and document.blocks[-1] == Block("Yes.")
        assert document.licence == "CC-BY-4.0 traces, public-domain text" and document.language == "english"
    (document,) = read_records([{"text": 'What is "book_chapters"?'}], "a", ReadReport())
    assert document.blocks == (Block('What is "book_chapters"?'),)


def test_a_record_that_nests_too_deeply_is_left_out() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    report = ReadReport()
    (document,) = read_records([{"book_chapters": deep}, {"text": "Yes."}], "a", report)
    assert document.title == "a 2" and "1 records that nest too deeply left out" in report.lines()


@pytest.mark.parametrize(
    ("name", "language"),
    [("ru", "russian"), ("RUS", "russian"), ("en_US", "english"), ("German", "german"), (None, ""), (["fr"], "french")],
)
def test_languages_have_punkts_names(name: Any, language: str) -> None:
    assert punkt_language(name) == language


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "text content title licence language book_chapters full_text metadata story_arcs book_characters messages dialog "
    "conversations instruction input output history prompt response thought_process question answer options "
    "correct"
)


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS.split()), VALUES, max_size=5), max_size=3))
def test_any_record_is_read_or_counted(records: list[dict[str, Any]]) -> None:
    report = ReadReport()
    documents = list(read_records(records, "a", report))
    left_out = report.counts["records without a text left out"]
    assert len(documents) + left_out == len(records)
    assert all(block.text.strip() for document in documents for block in document.blocks)
