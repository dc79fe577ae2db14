"""Read novels that come as lines wrapped at 70 columns, as R's `janeaustenr` holds them."""

import re
from collections.abc import Iterable, Iterator

from data.document import BOOK, CHAPTER, PART, Block, Document

# A whole line: "chapter" begins many a line of prose too.
_HEADING = re.compile(r"(chapter|volume) (?:[ivxlc]+|\d+)|advertisement by the authoress\b.*", re.IGNORECASE)
_FURNITURE = re.compile(r"finis|the end|[*\s]+|\[(?:at this point in|end volume).*\]?|printed by .*", re.IGNORECASE)
_EDITOR = re.compile(r"a note on the text", re.IGNORECASE)  # what follows is by the transcriber
_EMPHASIS = re.compile(r"_([^_]+)_")


def read_novel(lines: Iterable[str | None], title: str, source: str, licence: str) -> Document:
    """Returns a novel: title of level 4, volumes of level 3, chapters of level 2, paragraphs between blank lines.

    Whatever stands before the first heading (title, author, year) and "THE END" go; so do marks of stress and of
    footnotes.
    """
    blocks = [Block(title, BOOK, "heading")]
    for paragraph in _paragraphs(lines):
        found = _HEADING.fullmatch(paragraph)
        if _EDITOR.fullmatch(paragraph):
            break
        if found:
            blocks.append(Block(paragraph, PART if paragraph.lower().startswith("volume") else CHAPTER, "heading"))
        elif len(blocks) > 1 and not _FURNITURE.fullmatch(paragraph):
            blocks.append(Block(_EMPHASIS.sub(r"\1", paragraph).replace("*", "")))
    return Document(title, tuple(blocks), source, licence)


def _paragraphs(lines: Iterable[str | None]) -> Iterator[str]:
    """Yields what stands between blank lines, each on one line."""
    text = "\n".join(line or "" for line in lines)
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.strip():
            yield " ".join(paragraph.split())
