"""One shard: from its documents to sentences, to concepts, to the disk."""

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.document import Document
from data.languages import language_of
from data.manifest import VERSION
from data.plan import ShardPlan
from data.rows import split_document
from data.sentences import MAX_CHARS
from data.shards import Shard, write_shard
from data.splitters import Splitter
from encoders.encoder import SentenceEncoder
from encoders.text import clean_text

_STEP = 2048  # sentences an encoder call, if it does not say itself: it sorts them by length, and the bar moves
_INFINITY = 0x7C00  # bits of the float16; above it, without the sign, is NaN

Advance = Callable[[int, int], None]  # is told how many sentences and characters were done


@dataclass(frozen=True)
class Recipe:
    """All that makes a shard out of its documents.

    Attributes:
        splitter: text to sentences.
        encoder: sentences to concepts.
        max_chars: longer sentences are cut at their best boundary.
    """

    splitter: Splitter
    encoder: SentenceEncoder
    max_chars: int = MAX_CHARS

    @cached_property
    def digest(self) -> str:
        """Hash of all that decides a shard's bytes beside its documents."""
        parts = [VERSION, self.encoder.fingerprint, self.splitter.to_json(), self.max_chars]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SplitShard:
    """A shard that has no concepts yet; N sentences.

    Attributes:
        index: number of the shard.
        first: number of its first document.
        inputs: hash of all that decides the shard's bytes.
        documents: what the sidecar says of each.
        texts: N sentences.
        levels: int8 (N,).
        roles: N roles.
        num_chars: characters of the documents, white space included.
    """

    index: int
    first: int
    inputs: str
    documents: list[dict[str, Any]]
    texts: list[str]
    levels: np.ndarray
    roles: list[str]
    num_chars: int


def embed_shard(plan: ShardPlan, recipe: Recipe, folder: Path, turn: AbstractContextManager[object]) -> None:
    """Splits the documents of one shard into sentences, encodes them and commits the shard.

    Args:
        plan: which documents.
        recipe: what is done to them.
        folder: where the shard is committed.
        turn: held while the encoder works, so that of several threads one has it and the others split and write.
    """
    split = splitting_of(recipe)(plan)
    with turn:
        shard = encode_shard(split, recipe.encoder, lambda sentences, chars: None)
    write_shard(folder, shard, recipe.encoder.fingerprint, split.inputs)


def split_shard(plan: ShardPlan, *, splitter: Splitter, max_chars: int, recipe: str) -> SplitShard:
    """Splits the documents of a shard into sentences.

    Args:
        plan: which documents.
        splitter: text to sentences.
        max_chars: longer sentences are cut at their best boundary.
        recipe: digest of the whole recipe.
    """
    rows = [split_document(document, splitter, max_chars) for document in plan.documents]
    flat = list(chain.from_iterable(rows))
    return SplitShard(
        plan.index,
        plan.first,
        plan.digest(recipe),
        [_describe(document, len(own)) for document, own in zip(plan.documents, rows, strict=True)],
        [row.text for row in flat],
        np.array([row.level for row in flat], dtype=np.int8),
        [row.role for row in flat],
        plan.num_chars,
    )


def encode_shard(split: SplitShard, encoder: SentenceEncoder, advance: Advance) -> Shard:
    """Returns the shard with its concepts.

    What the encoder is given at a time depends on the shard alone: any engine writes the same bytes.

    Raises:
        ValueError: the encoder gave NaN or infinity.
    """
    concepts = np.zeros((len(split.texts), encoder.dim), dtype=np.float16)
    step = getattr(encoder, "window", _STEP)
    advance(0, split.num_chars - sum(map(len, split.texts)))  # white space
    for start in range(0, len(split.texts), step):
        texts = split.texts[start : start + step]
        with np.errstate(over="ignore"):  # infinity is refused below, by name
            concepts[start : start + len(texts)] = encoder.encode(texts)
        advance(len(texts), sum(map(len, texts)))
    _refuse_nan(concepts, split)
    roles = pa.array(split.roles, pa.string())
    return Shard(
        split.index, split.first, split.documents, pa.array(split.texts, pa.string()), concepts, split.levels, roles
    )


def splitting_of(recipe: Recipe) -> Callable[[ShardPlan], SplitShard]:
    """Returns what splits a plan; it holds no encoder, and so may go to other processes."""
    return partial(split_shard, splitter=recipe.splitter, max_chars=recipe.max_chars, recipe=recipe.digest)


def _refuse_nan(concepts: np.ndarray, split: SplitShard) -> None:
    broken = (concepts.view(np.uint16) & 0x7FFF) >= _INFINITY  # isfinite takes ten times as long for float16
    if not broken.any():
        return
    row = first = int(np.argmax(broken.any(axis=1)))
    for document in split.documents:
        if row < document["num_sentences"]:
            raise ValueError(
                f'the encoder gave NaN or infinity for sentence {row} of "{document["title"]}": '
                f"{split.texts[first][:80]!r}"
            )
        row -= document["num_sentences"]


def _describe(document: Document, num_sentences: int) -> dict[str, Any]:
    fields = ("title", "source", "licence", "key")
    described: dict[str, Any] = {field: clean_text(getattr(document, field)) for field in fields}
    return described | {"language": language_of(document), "num_sentences": num_sentences}
