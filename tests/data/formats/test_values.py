from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.formats.values import bullets_of, count_first, is_absent, lines_of, load_value, sentences_of, text_of
from data.report import ReadReport


@pytest.mark.parametrize(
    ("value", "absent"),
    [
        (None, True),
        ("", True),
        ([], True),
        ({}, True),
        ({"a": None, "b": {"c": []}}, True),
        (0, False),
        ([None], False),
    ],
)
def test_a_struct_of_nulls_is_absent(value: Any, absent: bool) -> None:
    assert is_absent(value) is absent


def test_json_in_a_string_and_arrows_maps_are_read() -> None:
    assert load_value(' {"a": [1]}') == {"a": [1]} and load_value([("a", 1)]) == {"a": 1}
    for other in ("[laughs] Yes.", "{", "[" * 100_000, "plain", 7, []):
        assert load_value(other) == other


def test_texts_and_bullets() -> None:
    assert text_of(["One.", "Two."]) == "One.\n\nTwo." and text_of(2.5) == "2.5"
    assert text_of(True) == text_of({"a": 1}) == text_of([1]) == ""
    assert bullets_of('["- a", ["* b\\n• c", {"x": "d"}], null, " "]') == ["a", "b", "c", "d"]


@given(st.text(alphabet="ab*-.1#\n \t—`~"))
def test_lines_keep_all_letters_but_code(text: str) -> None:
    if "```" not in text and "~~~" not in text:
        found = "".join(lines_of(text, ReadReport()))
        assert [letter for letter in found if letter.isalnum()] == [letter for letter in text if letter.isalnum()]


def test_sentences_end_where_one_begins() -> None:
    text = 'Mr. Frog of St. Ives met A. Smith. «Да!» Он ушёл… "Why?" 7 more.'
    assert sentences_of(text) == ["Mr. Frog of St. Ives met A. Smith.", "«Да!»", "Он ушёл…", '"Why?"', "7 more."]


def test_the_first_of_what_was_left_out_is_named() -> None:
    report = ReadReport()
    for line in (3, 5):
        count_first("lines left out", f"line {line} of a", report)
    assert report.lines() == ["line 3 of a is the first of the lines left out", "2 lines left out"]
