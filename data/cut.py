"""Cut books into documents, so that a corpus of few books still has some to hold out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from data.document import BOOK, CHAPTER, Block, Document
from data.report import ReadReport

Cut = Literal["auto", "never", "chapter"]

FEW_DOCUMENTS = 10
_SHORTEST = 30  # sentences, for a piece that begins at a heading
_PIECE = 200  # sentences, for a piece of a book without headings
_SENTENCE_END = re.compile(r"[.!?][\"'’”)]*(?:\s+|$)")


def cut_documents(documents: Sequence[Document], cut: Cut, report: ReadReport) -> list[Document]:
    """Returns the documents, books cut at their chapters where that is asked for or needed.

    Args:
        documents: as read.
        cut: "auto" cuts if there are fewer than ten documents, "chapter" always, "never" not at all. A piece begins at
            a heading of level 2 or above and has at least about 30 sentences; a long book without headings is cut
            between paragraphs, about every 200 sentences.
        report: takes a note of what was cut.
    """
    if cut == "never" or (cut == "auto" and len(documents) >= FEW_DOCUMENTS):
        return list(documents)
    pieces = [piece for document in documents for piece in _cut_document(document, report)]
    if len(pieces) > len(documents):
        report.note(
            f"cut {len(documents)} document{'s' * (len(documents) > 1)} into {len(pieces)}, to have some to hold out"
        )
    return pieces


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
    """Joins a section that is too short to the next one, the last to the one before."""
    merged: list[list[Block]] = []
    for section in sections:
        if merged and _count(merged[-1]) < _SHORTEST:
            merged[-1] = merged[-1] + section
        else:
            merged.append(section)
    if len(merged) > 1 and _count(merged[-1]) < _SHORTEST:
        last = merged.pop()
        merged[-1] = merged[-1] + last
    return merged


def _name_sections(sections: Sequence[Sequence[Block]]) -> list[str]:
    """Returns a title for each section: its first chapter, after the part that it stands in."""
    titles = []
    part = ""
    for section in sections:
        headings = [block for block in section if block.role == "heading" and CHAPTER <= block.level < BOOK]
        part = next((block.text for block in headings if block.level > CHAPTER), part)
        chapter = next((block.text for block in headings if block.level == CHAPTER), "")
        titles.append(", ".join(filter(None, (part, chapter))))
    return titles


def _even_pieces(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Yields pieces of about 200 sentences, of more than 100 each; a paragraph longer than that is cut, too."""
    small = [part for block in blocks for part in _break_up(block)]
    num_pieces = max(1, round(_count(small) / _PIECE))
    goal = _count(small) / num_pieces
    piece: list[Block] = []
    for block in small:
        piece.append(block)
        if _count(piece) >= goal and num_pieces > 1:
            yield piece
            piece, num_pieces = [], num_pieces - 1
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
