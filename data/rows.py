"""Documents to rows: what a store holds a line of, before it has a concept."""

from dataclasses import dataclass

from data.document import Document
from data.languages import language_of
from data.sentences import MAX_CHARS, cut_long
from data.splitters import Splitter
from encoders.text import clean_text

# A plan's lines are one thought each, full stops inside or not.
WHOLE = frozenset({"heading", "summary", "world", "style", "character"})


@dataclass(frozen=True)
class Row:
    """One sentence, heading or line of a plan of a document."""

    text: str
    level: int
    role: str


def split_document(document: Document, splitter: Splitter, max_chars: int = MAX_CHARS) -> list[Row]:
    """Returns the rows of a document: a row for each sentence; a heading or a line of a plan is one unless too long.

    Args:
        document: as read.
        splitter: from `make_splitter`.
        max_chars: longer sentences are cut at their best boundary.
    """
    language = language_of(document)
    rows: list[Row] = []
    for block in document.blocks:
        text, role = clean_text(block.text), clean_text(block.role)
        if role in WHOLE:
            sentences = cut_long(" ".join(text.split()), max_chars)
        else:
            sentences = splitter.split(text, language, max_chars)
        rows.extend(Row(sentence, block.level, role) for sentence in sentences)
    return rows
