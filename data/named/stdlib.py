"""Read the JSON files of npm's @stdlib data sets: speeches and the chapters of a novel."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from data.document import BOOK, CHAPTER, Block, Document
from data.report import ReadReport

_AUDIENCE = re.compile(r"[\s-]*\[(?:laughter|applause|p\.\s?\d+|\d+)\][\s-]*", re.IGNORECASE)
_FOOTNOTE_MARK = re.compile(r"[^\S\n]*\*")


def read_speeches(paths: Iterable[Path], source: str, licence: str, report: ReadReport) -> list[Document]:
    """Returns a document for each speech, from files of {year, name, party, text}; they have no paragraphs to be had.

    What the audience did ("[Laughter]") and page and footnote marks are left out and counted.
    """
    documents = []
    for path in sorted(paths):
        speech = json.loads(path.read_text(encoding="utf-8"))
        text, num_marks = _AUDIENCE.subn(" ", speech["text"])
        report.count("marks of audience, page or footnote left out", num_marks)
        title = f"State of the Union {speech['year']}, {speech['name']}"
        documents.append(Document(title, (Block(title, CHAPTER, "heading"), Block(text)), source, licence))
    return documents


def read_chapters(paths: Iterable[Path], title: str, source: str, licence: str) -> Document:
    """Returns a novel from files of {chapter, title, text}: chapters by number, then whatever is not numbered."""
    chapters = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]
    chapters.sort(key=lambda chapter: int(chapter["chapter"]) if chapter["chapter"].isdecimal() else 10**9)
    blocks = [Block(title, BOOK, "heading")]
    for chapter in chapters:
        number = f"Chapter {chapter['chapter']}" if chapter["chapter"].isdecimal() else chapter["chapter"]
        blocks.append(Block(f"{number}. {chapter['title']}", CHAPTER, "heading"))
        text = _FOOTNOTE_MARK.sub("", chapter["text"])
        paragraphs = [paragraph for paragraph in re.split(r"\n+", text) if paragraph.strip()]
        repeats_heading = bool(paragraphs) and not number.startswith("Chapter") and chapter["title"] in paragraphs[0]
        blocks += [Block(paragraph) for paragraph in paragraphs[repeats_heading:]]
    return Document(title, tuple(blocks), source, licence)
