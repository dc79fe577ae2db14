import hashlib
from dataclasses import dataclass
from functools import cached_property

SENTENCE, SCENE, CHAPTER, PART, BOOK = range(5)  # levels of a row


@dataclass(frozen=True)
class Block:
    """A piece of a document as it was read, before it is split into sentences.

    Attributes:
        text: a paragraph, a speech, a summary or one heading.
        level: 0 text, 1 scene, 2 chapter, 3 part, arc or volume, 4 book; a heading carries the level of what it heads.
        role: "sentence", "heading", "summary", or whoever speaks.
    """

    text: str
    level: int = SENTENCE
    role: str = "sentence"


@dataclass(frozen=True)
class Document:
    """One document: what training, validation and test are split by, and what attention does not look beyond.

    Attributes:
        title: of the document; a piece of a book is "Book: Chapter".
        blocks: headings, paragraphs and speeches in reading order.
        source: where it comes from: the name of a corpus, or a path.
        licence: of the text, in words, or "unknown".
        language: as nltk's Punkt names it.
    """

    title: str
    blocks: tuple[Block, ...]
    source: str
    licence: str = "unknown"
    language: str = "auto"

    @cached_property
    def key(self) -> str:
        """Hex sha256 of title and text, white space apart: the same on any machine, wherever the file lies."""
        digest = hashlib.sha256()
        for text in (self.title, *(block.text for block in self.blocks)):
            digest.update(" ".join(text.split()).encode("utf-8", "replace") + b"\n")
        return digest.hexdigest()
