"""Documents that have their concepts already, gathered into a store shard by shard and never encoded."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.manifest import MANIFEST, finish_store, opened_for_writing
from data.shards import Shard, is_committed, read_sidecar, write_shard
from data.store import ConceptStore
from data.transfer.taken import Taken

SHARD_BYTES = 64 << 20  # of a shard that is written, about: 75,000 rows of width 384
_TEXT_BYTES = 128  # of a row, about: its text, role and place
_MAX_TEXT = (1 << 31) - 1  # bytes of text that a shard can hold, and of where each begins
_VERSION = 1  # part of each shard's `inputs`: raise it whenever the same documents would give other bytes


@dataclass(frozen=True)
class Making:
    """What a store is made as, beside its documents.

    Attributes:
        encoder: fingerprint.
        encoder_name: what `load_encoder` takes to make the encoder again.
        dim: width D of a concept.
        recipe: hash of all that decides the store's rows: checksums of what they are taken from, and the selection.
        keep_splits: documents stay in the split they come with, instead of the one that their key gives them.
        settings: what else the manifest is to say; read when all documents went by.
    """

    encoder: str
    encoder_name: str
    dim: int
    recipe: str
    keep_splits: bool
    settings: dict[str, Any]

    def inputs(self, index: int, shard_bytes: int) -> str:
        """Returns what the sidecar of shard `index` names as its inputs."""
        return hash_json([_VERSION, self.recipe, self.keep_splits, shard_bytes, index])


def hash_json(content: Any) -> str:
    """Returns the hex sha256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def refuse_inside(out: Path, sources: Iterable[Path]) -> None:
    """Refuses to write into a folder that is read, into one inside it, or into one around it."""
    for source in sources:
        if out.resolve() == source.resolve():
            raise ValueError(f"{out} is what is read; choose another folder")
        if source.resolve() in out.resolve().parents:
            raise ValueError(f"{out} lies inside {source}, which is read; choose a folder outside")
        if out.resolve() in source.resolve().parents:
            raise ValueError(f"{source}, which is read, lies inside {out}; choose another folder")


def write_store(
    documents: Iterable[Taken],
    out: Path,
    making: Making,
    *,
    verb: str,
    total: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> ConceptStore:
    """Writes documents into a store, shard by shard; safe to kill at any moment and to run again.

    Memory holds one shard. A shard that a former run committed is not written again.

    Args:
        documents: in their order; at least one.
        out: folder of the store.
        making: what the store is made as.
        verb: what the bar says is being done.
        total: rows of all documents, where it is known.
        shard_bytes: a shard ends with the document that reaches this size.
        progress: show a bar on stderr.

    Raises:
        ValueError: `out` is a file, or holds something else.
        BlockingIOError: another process is writing there.
        OSError: the disk is full; what was finished stays.
    """
    stream = iter(documents)
    first = next(stream, None)  # what cannot be read at all is told before anything is written
    assert first is not None
    with opened_for_writing(out, making.encoder, making.encoder_name):
        _refuse_other_store(out, making.inputs(0, shard_bytes))
        num_shards = num_documents = 0
        with show_bar(verb, total, visible=progress) as advance:
            for group in _group(chain([first], stream), shard_bytes // (2 * making.dim + _TEXT_BYTES)):
                inputs = making.inputs(num_shards, shard_bytes)
                if not is_committed(out, num_shards, inputs):
                    (out / MANIFEST).unlink(missing_ok=True)  # from here on the folder may disagree with it
                    write_shard(out, _gather(group, num_shards, num_documents, making), making.encoder, inputs)
                num_shards, num_documents = num_shards + 1, num_documents + len(group)
                advance(sum(document.num_rows for document in group))
        settings = making.settings | ({"keep_splits": True} if making.keep_splits else {})
        finish_store(out, num_shards, making.encoder_name, settings)
    return ConceptStore.open(out)


@contextmanager
def show_bar(verb: str, total: int | None, *, visible: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar of rows on stderr; what it gives takes the number of rows that were done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description} rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda rows: bar.advance(task, rows)


def _group(documents: Iterable[Taken], num_rows: int) -> Iterator[list[Taken]]:
    """Yields the documents of one shard after the other; each ends with the document that fills it."""
    waiting: list[Taken] = []
    found = 0
    for document in documents:
        waiting.append(document)
        found += document.num_rows
        if found >= num_rows:
            yield waiting
            waiting, found = [], 0
    if waiting:
        yield waiting


def _gather(documents: Sequence[Taken], index: int, first: int, making: Making) -> Shard:
    """Reads the rows of a shard, each origin once for documents that follow each other there."""
    pieces = [piece for document in documents for piece in document.pieces]
    parts = []
    for _, same in groupby(pieces, key=lambda piece: id(piece[0])):
        found = list(same)
        parts.append(found[0][0].take(np.concatenate([rows for _, rows in found])))
    if sum(part.texts.nbytes for part in parts) > _MAX_TEXT:
        raise ValueError(
            f'the texts from document "{documents[0].described["title"]}" to "{documents[-1].described["title"]}" have '
            "more than 2 GiB, which is more than a shard can hold; cut them into shorter documents"
        )
    # Copies, also of a single part: a view would be written with other bytes than the same rows gathered from several.
    return Shard(
        index,
        first,
        [_describe(document, making.keep_splits) for document in documents],
        pa.concat_arrays([pa.array([], pa.string()), *(part.texts for part in parts)]),
        np.concatenate([np.zeros((0, making.dim), np.float16), *(part.concepts for part in parts)]),
        np.concatenate([np.zeros(0, np.int8), *(part.levels for part in parts)]),
        pa.concat_arrays([pa.array([], pa.string()), *(part.roles for part in parts)]),
    )


def _describe(document: Taken, keep_split: bool) -> dict[str, str | int]:
    described: dict[str, str | int] = dict(document.described)
    if not keep_split:
        described.pop("split", None)
    return described | {"num_sentences": document.num_rows}


def _refuse_other_store(out: Path, inputs: str) -> None:
    """Refuses to write over anything but what the same command wrote or began."""
    sidecar = read_sidecar(out, 0)
    if (sidecar or {}).get("inputs") != inputs and (sidecar is not None or (out / MANIFEST).exists()):
        raise ValueError(f"{out} holds another store, or the beginning of one; choose another folder or delete it")
