"""Clean documents as they come: control characters, boilerplate, near-duplicates; all is counted."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from data.boilerplate import strip_boilerplate
from data.document import Block, Document
from data.duplicates import DuplicateFinder
from data.report import ReadReport

_NAMED = 5  # near-duplicates that are named; the others are counted
_LINE_ENDS = re.compile("\u00ad\\s*\n\\s*|\r\n?")
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # control characters that part words
# C0 and C1, soft hyphen, mark of byte order, zero-width space. What joins letters (ZWJ, ZWNJ) or sets the direction
# means something and stays.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\ufeff]")
_ANY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\ufeff]")


@dataclass(frozen=True)
class Cleaning:
    """What is cleaned out of documents.

    Attributes:
        boilerplate: take out what public-domain editions put around a text: licences, credits, notes on the scan.
        control_characters: take out control characters, soft hyphens and zero-width spaces.
        near_duplicates: leave out a document whose words resemble an earlier one's at least so much: the estimated
            share of runs of five words that both hold, of those that either holds; 0 keeps all, .8 is usual.
    """

    boilerplate: bool = True
    control_characters: bool = True
    near_duplicates: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.near_duplicates <= 1:
            raise ValueError(f"near_duplicates must be between 0 (keep all) and 1, got {self.near_duplicates}")


def clean_documents(documents: Iterable[Document], cleaning: Cleaning, report: ReadReport) -> Iterator[Document]:
    """Yields the documents, cleaned; one that holds nothing else, or nearly equals an earlier one, is left out.

    Args:
        documents: whole ones: the licence of a book that was cut at its chapters is not found.
        cleaning: what to take out.
        report: takes what was taken out, by kind.
    """
    finder = DuplicateFinder(cleaning.near_duplicates) if cleaning.near_duplicates else None
    num_named = 0
    for document in documents:
        cleaned = _clean(document, cleaning, report)
        if not any(block.text.strip() for block in cleaned.blocks):
            report.count("documents left out that hold no text, or only boilerplate")
            continue
        equal = finder.find_or_add(cleaned) if finder else None
        if equal is None:
            yield cleaned
            continue
        report.count("documents left out that nearly equal an earlier one")
        if num_named < _NAMED:
            report.note(f'left out "{cleaned.title}", nearly equal to "{equal}"')
            num_named += 1


def _clean(document: Document, cleaning: Cleaning, report: ReadReport) -> Document:
    blocks, title = list(document.blocks), document.title
    if cleaning.control_characters:
        blocks = [_clean_block(block, report) for block in blocks]
        title = " ".join(strip_control(title).split()) if _ANY.search(title) else title
    if cleaning.boilerplate:
        blocks = strip_boilerplate(blocks, report)
    return replace(document, title=title, blocks=tuple(blocks))


def _clean_block(block: Block, report: ReadReport) -> Block:
    num_found = len(_ANY.findall(block.text))
    if num_found:
        report.count("control characters, soft hyphens and zero-width spaces taken out", num_found)
        block = replace(block, text=strip_control(block.text))
    return replace(block, role=strip_control(block.role)) if _ANY.search(block.role) else block


def strip_control(text: str) -> str:
    """Returns the text without control characters; those that part words or lines become a space or a line's end."""
    text = _LINE_ENDS.sub(lambda found: "" if found[0][0] == "\u00ad" else "\n", text)
    return _CONTROL.sub("", _SEPARATORS.sub(" ", text))
