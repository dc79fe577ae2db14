from pathlib import Path

import pytest

from data.describe import describe_documents, describe_store, list_corpora
from data.document import Block, Document
from data.encode import encode_corpus
from data.report import ReadReport
from encoders.hashing import HashingEncoder


@pytest.fixture
def book() -> Document:
    blocks = [Block("The Book", 4, "heading"), Block("Of frogs.", 4, "summary")]
    for n in range(3):
        blocks += [Block(f"Chapter {n}", 2, "heading"), Block("Yes. " * 4), Block("Nobody! Go away.", role="FROG")]
    return Document("The Book", tuple(blocks), "book.md", "CC0")


def test_a_peek_shows_tree_rows_counts_and_what_was_left_out(book: Document) -> None:
    report = ReadReport()
    report.count("tables left out", 2)
    text = describe_documents([book, book], report, peek=True, num_rows=5)
    for line in (
        "documents   2",
        "sentences   about 46",
        "levels      text 12, chapter 6, book 4",
        "roles       heading 8, sentence 6, FROG 6, summary 2",
        "language    english 2",
        "licence     CC0",
        "tree of the first document, The Book, 23 rows:",
        "  The Book  (1 rows)",
        "      Chapter 1  (6 rows)",
        "  4  summary           Of frogs.",
        "  2  heading           Chapter 0",
        "  0  sentence          Yes.",
        "  2 tables left out",
    ):
        assert line in text.splitlines(), (line, text)


def test_without_a_peek_there_are_counts_alone(book: Document) -> None:
    text = describe_documents([book], ReadReport())
    assert "documents" in text and "tree" not in text
    assert describe_documents([], ReadReport()) == "no documents"
    assert "left out, repaired or guessed:\n  nothing" in describe_documents([book], ReadReport(), peek=True)


def test_a_document_without_headings_has_no_tree() -> None:
    text = describe_documents([Document("d", (Block("Yes."),), "x")], ReadReport(), peek=True)
    assert "  no headings" in text.splitlines()


def test_a_store_says_what_it_holds(book: Document, tmp_path: Path) -> None:
    documents = [Document(f"B{n}", book.blocks, "book.md", "CC0", "english") for n in range(5)]
    text = describe_store(encode_corpus(documents, HashingEncoder(16), tmp_path, progress=False))
    for part in (
        "hashing:16 (hashing-1-16)",
        "115 of width 16, float16",
        "text 90, chapter 15, book 10",
        "CC0",
        "in 1 shards",
    ):
        assert part in text, (part, text)


def test_the_corpora_are_listed_with_their_licences() -> None:
    assert list_corpora().count("\n") == 5 and "CC0" in list_corpora()
