from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.clean import Cleaning, clean_documents, strip_control
from data.document import Block, Document
from data.report import ReadReport

NOTHING = Cleaning(boilerplate=False, control_characters=False)


def document(*texts: str, title: str = "T") -> Document:
    return Document(title, tuple(map(Block, texts)), "s", "CC0", "english")


def clean(cleaning: Cleaning, *documents: Document) -> tuple[list[Document], list[str]]:
    report = ReadReport()
    return list(clean_documents(documents, cleaning, report)), report.lines()


def test_nothing_is_done_that_was_not_asked_for() -> None:
    given = document("a\0b\u00ad\u200b", "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "Text.")
    assert clean(NOTHING, given, given) == ([given, given], [])


def test_control_characters_go_and_are_counted() -> None:
    given = Document(
        "A\u200bb\n c", (Block("one\0two\x0cthree\u00ad\r\nnext\rline \u200cx\u200dy\u200e\tz", 1, "A\x07"),), "s"
    )
    (cleaned,), lines = clean(Cleaning(), given)
    assert cleaned.title == "Ab c"
    assert cleaned.blocks == (Block("onetwo threenext\nline \u200cx\u200dy\u200e\tz", 1, "A"),)
    assert lines == ["5 control characters, soft hyphens and zero-width spaces taken out"]


@given(st.text())
def test_only_control_characters_go(text: str) -> None:
    cleaned = strip_control(text)
    assert strip_control(cleaned) == cleaned
    kept = [char for char in text if char.isalnum() or char in "\u200c\u200d\u200e\u200f"]
    assert [char for char in cleaned if char.isalnum() or char in "\u200c\u200d\u200e\u200f"] == kept
    assert not any(ord(char) < 32 and char not in "\t\n" for char in cleaned)


def test_a_clean_document_stays_as_it_is() -> None:
    given = document("Produced by nobody, the play failed.", "A line.\n\tAnother – “one”.")
    assert clean(Cleaning(near_duplicates=0.5), given) == ([given], [])


def test_an_emptied_document_is_left_out() -> None:
    licence = document("*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***")
    kept, lines = clean(Cleaning(), licence, document(), document(" \n"), document("Text."))
    assert kept == [document("Text.")]
    assert "3 documents left out that hold no text, or only boilerplate" in lines


def test_it_is_lazy() -> None:
    def documents() -> Iterator[Document]:
        yield document("One.")
        raise AssertionError("read too far")

    assert next(clean_documents(documents(), Cleaning(near_duplicates=0.8), ReadReport())) == document("One.")


def test_near_duplicates_are_left_out_and_named() -> None:
    words = [f"слово{n} word{n}" for n in range(200)]
    first = document(" ".join(words), title="First")
    near = document(" ".join([*words[:100], "другое", *words[100:]]), title="Near")
    far = document(" ".join(words[:100] + [f"neu{n}" for n in range(100)]), title="Far")
    kept, lines = clean(Cleaning(near_duplicates=0.8), first, near, far, *[near] * 9)
    assert kept == [first, far]
    assert lines == [
        'left out "Near", nearly equal to "First"',
        "10 documents left out that nearly equal an earlier one",
    ]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_bad_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"near_duplicates must be between 0 \(keep all\) and 1"):
        Cleaning(near_duplicates=threshold)
