"""Which documents go into which shard, decided while the corpus streams by."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from data.document import Block, Document

SHARD_CHARS = 300_000  # about 4,000 sentences, half a minute of MiniLM on two cores: what a killed run may lose
_SHARE = 64  # a shard is at most this part of what came before: many actors end at about the same time
_LARGEST = 16  # times the smallest


@dataclass(frozen=True)
class ShardPlan:
    """What one shard is made of: whole documents, the first of which is number `first` of the store."""

    index: int
    first: int
    documents: tuple[Document, ...]

    @property
    def num_chars(self) -> int:
        """Characters of all documents."""
        return sum(count_chars(document) for document in self.documents)

    def digest(self, recipe: str) -> str:
        """Returns the hash of all that decides the shard's bytes: its place, its documents, and how it is made."""
        return hashlib.sha256(json.dumps([recipe, self.first, self.to_json()]).encode()).hexdigest()

    def to_json(self) -> list[Any]:
        """Returns the documents as plain lists."""
        return [
            [one.title, [[b.text, b.level, b.role] for b in one.blocks], one.source, one.licence, one.language]
            for one in self.documents
        ]

    @classmethod
    def from_json(cls, index: int, first: int, documents: list[Any]) -> "ShardPlan":
        """Makes a plan of what `to_json` gave."""
        read = (Document(title, tuple(Block(*block) for block in blocks), *rest) for title, blocks, *rest in documents)
        return cls(index, first, tuple(read))


def plan_shards(documents: Iterable[Document], shard_chars: int = SHARD_CHARS) -> Iterator[ShardPlan]:
    """Yields the shards of a corpus as it streams by: each ends with the document that fills it.

    A shard holds `shard_chars` characters or more; in a large corpus 1/64 of what came before, up to sixteen times
    `shard_chars`, so that a billion sentences make some ten thousand files and not a million.
    """
    index = first = number = chars = total = 0
    waiting: list[Document] = []
    for number, document in enumerate(documents, start=1):
        waiting.append(document)
        chars += count_chars(document)
        if chars >= max(shard_chars, min(total // _SHARE, _LARGEST * shard_chars)):
            yield ShardPlan(index, first, tuple(waiting))
            index, first, total, chars = index + 1, number, total + chars, 0
            waiting = []
    if waiting:
        yield ShardPlan(index, first, tuple(waiting))


def count_chars(document: Document) -> int:
    """Returns the characters of a document's text."""
    return sum(len(block.text) for block in document.blocks)
