"""Documents to rows: what a store holds a line of, before it has a concept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.document import Document
from data.sentences import MAX_CHARS, cut_long, load_punkt, split_sentences
from encoders.text import clean_text

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer


@dataclass(frozen=True)
class Row:
    """One sentence, heading or summary of a document."""

    text: str
    level: int
    role: str


@dataclass(frozen=True)
class SplitDocument:
    """A document and its rows."""

    document: Document
    rows: tuple[Row, ...]


def split_document(
    document: Document, *, punkt: "PunktSentenceTokenizer | None" = None, max_chars: int = MAX_CHARS
) -> tuple[Row, ...]:
    """Returns the rows of a document: a row for each sentence; a heading or summary is one row unless it is too long.

    Args:
        document: as read.
        punkt: from `load_punkt`; None makes one from this document.
        max_chars: longer sentences are cut at their best boundary.
    """
    if punkt is None:
        punkt = load_punkt((block.text for block in document.blocks), document.language)
    rows: list[Row] = []
    for block in document.blocks:
        text = clean_text(block.text)
        if block.role in ("heading", "summary"):  # a plan is not cut at its full stops
            sentences = cut_long(" ".join(text.split()), max_chars)
        else:
            sentences = split_sentences(text, document.language, punkt=punkt, max_chars=max_chars)
        rows.extend(Row(sentence, block.level, clean_text(block.role)) for sentence in sentences)
    return tuple(rows)


def split_documents(corpus: Sequence[Document], max_chars: int = MAX_CHARS) -> Iterator[SplitDocument]:
    """Yields each document with its rows; one splitter a language is trained on the whole corpus."""
    punkts = {
        language: load_punkt(_texts(document for document in corpus if document.language == language), language)
        for language in sorted({document.language for document in corpus})
    }
    for document in corpus:
        rows = split_document(document, punkt=punkts[document.language], max_chars=max_chars)
        yield SplitDocument(document, rows)


def _texts(documents: Iterable[Document]) -> Iterator[str]:
    return (block.text for document in documents for block in document.blocks)
