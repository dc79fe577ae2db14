from collections.abc import Iterator
from itertools import count, islice

import pytest

from data.cut import cut_documents
from data.document import Block, Document
from data.report import ReadReport


def chapters(number: int, sentences: int) -> Document:
    blocks = [Block("Book", 4, "heading"), Block("Part I", 3, "heading")]
    for n in range(number):
        blocks += [Block(f"Chapter {n}", 2, "heading"), Block("Yes, it was so. " * sentences)]
    return Document("Book", tuple(blocks), "test")


def text_of(documents: list[Document]) -> str:
    return "".join("".join(block.text.split()) for document in documents for block in document.blocks)


def test_a_book_is_cut_at_its_chapters() -> None:
    book, report = chapters(12, 40), ReadReport()
    pieces = list(cut_documents([book], "auto", report))
    assert [piece.title for piece in pieces[:2]] == ["Book: Part I, Chapter 0", "Book: Part I, Chapter 1"]
    assert len(pieces) == 12 and text_of(pieces) == text_of([book])
    assert pieces[1].blocks[0] == Block("Chapter 1", 2, "heading")
    assert report.lines() == ["cut 1 document into 12, to have some to hold out"]


def test_short_chapters_are_joined() -> None:
    pieces = list(cut_documents([chapters(12, 11)], "chapter", ReadReport()))
    assert len(pieces) == 4 and text_of(pieces) == text_of([chapters(12, 11)])
    assert [piece.title for piece in pieces[:2]] == ["Book: Part I, Chapter 0", "Book: Part I, Chapter 3"]


def test_a_part_is_named_until_the_next_one() -> None:
    blocks = []
    for part in "I", "II":
        blocks.append(Block(f"Part {part}", 3, "heading"))
        for n in range(2):
            blocks += [Block(f"Глава {n}", 2, "heading"), Block("Да. " * 40)]
    pieces = cut_documents([Document("Книга", tuple(blocks), "test")], "chapter", ReadReport())
    assert [piece.title for piece in pieces] == [
        f"Книга: Part {part}, Глава {n}" for part in ("I", "II") for n in range(2)
    ]


def test_a_plan_stays_with_the_first_chapter() -> None:
    arcs = [
        block for n in range(3) for block in (Block(f"Arc {n}", 3, "heading"), *[Block("He leaps.", 3, "summary")] * 40)
    ]
    text = [block for n in range(3) for block in (Block(f"Chapter {n}", 2, "heading"), Block("Yes. " * 40))]
    book = Document("B", (Block("B", 4, "heading"), *arcs, *text), "test")
    pieces = list(cut_documents([book], "auto", ReadReport()))
    assert [piece.title for piece in pieces] == ["B: Chapter 0", "B: Chapter 1", "B: Chapter 2"]
    assert len(pieces[0].blocks) == 1 + len(arcs) + 2


@pytest.mark.parametrize("num_paragraphs", [1, 50])
def test_a_book_without_headings_is_cut_evenly(num_paragraphs: int) -> None:
    paragraph = Block("Yes, it was so. " * (1000 // num_paragraphs))
    book, report = Document("Book", (paragraph,) * num_paragraphs, "test"), ReadReport()
    pieces = list(cut_documents([book], "auto", report))
    assert [piece.title for piece in pieces] == [f"Book: part {n}" for n in range(1, 6)]
    assert text_of(pieces) == text_of([book])
    assert "has no chapter headings" in report.lines()[0]


def test_many_or_short_documents_stay_whole() -> None:
    assert list(cut_documents([chapters(12, 40)], "never", ReadReport())) == [chapters(12, 40)]
    many = [Document(str(n), chapters(12, 40).blocks, "test") for n in range(10)]
    assert list(cut_documents(many, "auto", ReadReport())) == many
    short = [Document("Note", (Block("Yes."),), "test")]
    assert list(cut_documents(short, "chapter", ReadReport())) == short
    assert list(cut_documents([], "auto", ReadReport())) == []


def test_no_more_than_ten_documents_are_taken_ahead() -> None:
    taken = []

    def endless() -> Iterator[Document]:
        for number in count():
            taken.append(number)
            yield chapters(2, 40)

    for cut, most in (("never", 3), ("chapter", 2), ("auto", 10)):
        taken.clear()
        assert len(list(islice(cut_documents(endless(), cut, ReadReport()), 3))) == 3  # type: ignore[arg-type]
        assert len(taken) == most


def test_an_outline_of_many_headings_is_no_slower_than_it_is_long() -> None:
    blocks = tuple(Block(f"Chapter {n}", 2, "heading") for n in range(50_000))
    assert next(cut_documents([Document("O", blocks, "test")], "auto", ReadReport())).blocks == blocks
    turns = tuple(Block("Yes.", role="A") for _ in range(50_000))
    assert len(list(cut_documents([Document("D", turns, "test")], "auto", ReadReport()))) == 250
