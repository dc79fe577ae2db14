import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.cut import cut_documents
from data.document import Block, Document
from data.report import ReadReport
from data.split import SPLITS, assign_splits, split_of

KEYS = st.integers(0, 10**6).map(lambda number: hashlib.sha256(str(number).encode()).hexdigest())


@given(st.lists(KEYS, max_size=30), st.randoms())
def test_no_split_is_empty_and_order_does_not_matter(keys: list[str], random) -> None:
    splits, moved = assign_splits(keys)
    by_key = dict(zip(keys, splits, strict=True))
    if len(by_key) >= 3:
        assert set(by_key.values()) == set(SPLITS)
        assert len(moved) <= 2
    else:
        assert set(splits) <= {"train"}
    shuffled = random.sample(keys, len(keys))
    assert dict(zip(shuffled, assign_splits(shuffled)[0], strict=True)) == by_key


def test_splits_are_eighty_ten_ten_and_of_the_document_alone() -> None:
    documents = [Document(str(n), (Block("Yes."),), "test") for n in range(2000)]
    splits, moved = assign_splits([document.key for document in documents])
    assert not moved
    assert splits == [split_of(document) for document in documents]
    assert splits.count("validation") == pytest.approx(200, abs=45)
    assert splits.count("test") == pytest.approx(200, abs=45)


def test_the_nearest_document_moves() -> None:
    at = [f"{int(position * 16**8):08x}{'0' * 56}" for position in (0.1, 0.79, 0.5, 0.95)]
    splits, moved = assign_splits(at)
    assert splits == ["train", "validation", "train", "test"]
    assert moved == {at[1]: "validation"}


def chapters(number: int, sentences: int) -> Document:
    blocks = [Block("Book", 4, "heading"), Block("Part I", 3, "heading")]
    for n in range(number):
        blocks += [Block(f"Chapter {n}", 2, "heading"), Block("Yes, it was so. " * sentences)]
    return Document("Book", tuple(blocks), "test")


def text_of(documents: list[Document]) -> str:
    return "".join("".join(block.text.split()) for document in documents for block in document.blocks)


def test_a_book_is_cut_at_its_chapters() -> None:
    book, report = chapters(12, 40), ReadReport()
    pieces = cut_documents([book], "auto", report)
    assert [piece.title for piece in pieces[:2]] == ["Book: Part I, Chapter 0", "Book: Part I, Chapter 1"]
    assert len(pieces) == 12 and text_of(pieces) == text_of([book])
    assert pieces[1].blocks[0] == Block("Chapter 1", 2, "heading")
    assert report.lines() == ["cut 1 document into 12, to have some to hold out"]


def test_short_chapters_are_joined() -> None:
    pieces = cut_documents([chapters(12, 11)], "chapter", ReadReport())
    assert len(pieces) == 4 and text_of(pieces) == text_of([chapters(12, 11)])


@pytest.mark.parametrize("num_paragraphs", [1, 50])
def test_a_book_without_headings_is_cut_evenly(num_paragraphs: int) -> None:
    paragraph = Block("Yes, it was so. " * (1000 // num_paragraphs))
    book, report = Document("Book", (paragraph,) * num_paragraphs, "test"), ReadReport()
    pieces = cut_documents([book], "auto", report)
    assert [piece.title for piece in pieces] == [f"Book: part {n}" for n in range(1, 6)]
    assert text_of(pieces) == text_of([book])
    assert "has no chapter headings" in report.lines()[0]


def test_many_or_short_documents_stay_whole() -> None:
    assert cut_documents([chapters(12, 40)], "never", ReadReport()) == [chapters(12, 40)]
    many = [Document(str(n), chapters(12, 40).blocks, "test") for n in range(10)]
    assert cut_documents(many, "auto", ReadReport()) == many
    short = [Document("Note", (Block("Yes."),), "test")]
    assert cut_documents(short, "chapter", ReadReport()) == short
