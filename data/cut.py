"""Cut books into documents, so that a corpus of few books still has some to hold out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, pairwise
from typing import Literal

from data.document import BOOK, CHAPTER, PART, SENTENCE, Block, Document
from data.report import ReadReport

Cut = Literal["auto", "never", "chapter"]

FEW_DOCUMENTS = 10
_SHORTEST = 30  # sentences, for a piece that begins at a heading
_PIECE = 200  # sentences, for a piece of a book without headings
_SENTENCE_END = re.compile(r"[.!?…][\"'’”»)]*(?:\s+|$)")


def cut_documents(documents: Iterable[Document], cut: Cut, report: ReadReport) -> Iterator[Document]:
    """Yields the documents, books cut at their chapters where that is asked for or needed.

    Args:
        documents: as read; no more than ten of them are held at a time.
        cut: "auto" cuts if there are fewer than ten documents, "chapter" always, "never" not at all. A piece begins at
            a heading of level 2 or above and has at least about 30 sentences; a long book without headings is cut
            between paragraphs, about every 200 sentences.
        report: takes a note of what was cut, when all is read.
    """
    documents = iter(documents)
    first = list(islice(documents, FEW_DOCUMENTS)) if cut == "auto" else []
    documents = chain(first, documents)
    if cut == "never" or len(first) == FEW_DOCUMENTS:
        yield from documents
        return
    num_documents = num_pieces = 0
    for document in documents:
        pieces = _cut_document(document, report)
        num_documents += 1
        num_pieces += len(pieces)
        yield from pieces
    if num_pieces > num_documents:
        plural = "s" * (num_documents > 1)
        report.note(f"cut {num_documents:,} document{plural} into {num_pieces:,}, to have some to hold out")


def _cut_document(document: Document, report: ReadReport) -> list[Document]:
    starts = [
        index
        for index, block in enumerate(document.blocks)
        if block.role == "heading" and CHAPTER <= block.level < BOOK
    ]
    if starts:
        sections = _merge_short(_sections(document.blocks, starts))
        titles = _name_sections(sections)
    else:
        sections = list(_even_pieces(document.blocks))
        titles = [f"part {number}" for number in range(1, len(sections) + 1)]
        if len(sections) > 1:
            report.note(f'"{document.title}" has no chapter headings and was cut about every {_PIECE} sentences')
    if len(sections) < 2:
        return [document]
    return [
        replace(document, title=f"{document.title}: {title}", blocks=tuple(section))
        for title, section in zip(titles, sections, strict=True)
    ]


def _sections(blocks: Sequence[Block], starts: Sequence[int]) -> list[list[Block]]:
    """Returns the blocks cut before each start; what stands before the first one belongs to it."""
    borders = [0, *starts[1:], len(blocks)]
    return [list(blocks[start:stop]) for start, stop in pairwise(borders)]


def _merge_short(sections: Sequence[list[Block]]) -> list[list[Block]]:
    """Joins a section that is too short, or that is all plan, to the next one, the last to the one before."""
    merged: list[list[Block]] = []
    num_sentences, has_text = _SHORTEST, True
    for section in sections:
        if num_sentences >= _SHORTEST and has_text:
            merged.append([])
            num_sentences, has_text = 0, False
        merged[-1] += section
        num_sentences += _count(section)
        has_text = has_text or any(block.level == SENTENCE for block in section)
    if len(merged) > 1 and not (num_sentences >= _SHORTEST and has_text):
        last = merged.pop()
        merged[-1] += last
    return merged


def _name_sections(sections: Sequence[Sequence[Block]]) -> list[str]:
    """Returns a title for each section: its first chapter, after the part that it stands in.

    A part that a summary follows is an arc: it runs through the whole book, chapters do not stand in it.
    """
    titles = []
    part = ""
    for section in sections:
        title = ""
        for block, behind in zip(section, [*section[1:], None], strict=True):
            is_arc = behind is not None and (behind.level, behind.role) == (PART, "summary")
            if block.role == "heading" and block.level == PART and not is_arc:
                part = block.text
            elif block.role == "heading" and block.level == CHAPTER:
                title = title or ", ".join(filter(None, (part, block.text)))
        titles.append(title or part)
    return titles


def _even_pieces(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Yields pieces of about 200 sentences, of more than 100 each; a paragraph longer than that is cut, too."""
    small = [part for block in blocks for part in _break_up(block)]
    total = _count(small)
    num_pieces = max(1, round(total / _PIECE))
    goal = total / num_pieces
    piece: list[Block] = []
    num_sentences = 0
    for block in small:
        piece.append(block)
        num_sentences += _count([block])
        if num_sentences >= goal and num_pieces > 1:
            yield piece
            piece, num_sentences, num_pieces = [], 0, num_pieces - 1
    if piece:
        yield piece


def _break_up(block: Block) -> list[Block]:
    ends = [found.end() for found in _SENTENCE_END.finditer(block.text)]
    if len(ends) <= _PIECE:
        return [block]
    borders = [0, *ends[_PIECE // 4 :: _PIECE // 4], len(block.text)]
    return [replace(block, text=block.text[start:stop].strip()) for start, stop in pairwise(borders) if start < stop]


def _count(blocks: Sequence[Block]) -> int:
    """Returns about how many sentences the blocks hold."""
    return sum(max(1, len(_SENTENCE_END.findall(block.text))) for block in blocks)
