"""The documents of a store: one Arrow file with a line a document, so that a store of millions opens at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from data.durable import hidden, publish
from data.shards import read_sidecar
from data.split import SPLITS, assign_splits, position_of, split_positions

CATALOG = "documents.arrow"
_BATCH = 131_072  # documents a record batch: what writing holds in memory
_SCHEMA = pa.schema(
    [
        ("title", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("language", pa.string()),
        ("key", pa.string()),
        ("split", pa.int8()),
        ("num_sentences", pa.int32()),
        ("shard", pa.int32()),
        ("row", pa.int64()),
    ]
)
TEXTS = ("title", "source", "licence", "language", "key")


@dataclass(frozen=True)
class DocumentInfo:
    """What a store says about one of its documents."""

    title: str
    source: str
    licence: str
    language: str
    split: str
    num_sentences: int
    key: str


class Catalog(Sequence[DocumentInfo]):
    """The descriptions of a store's documents, memory-mapped; whole columns are numpy arrays of N documents.

    Attributes:
        lengths: rows of each document, int32 (N,).
        splits: index of each document's split in SPLITS, int8 (N,).
        shards: the shard that each document is in, int32 (N,).
        rows: its first row there, int64 (N,).
    """

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [self._reader.get_batch(i) for i in range(self._reader.num_record_batches)]
        self.lengths = self._column("num_sentences", np.int32)
        self.splits = self._column("split", np.int8)
        self.shards = self._column("shard", np.int32)
        self.rows = self._column("row", np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> DocumentInfo: ...
    @overload
    def __getitem__(self, index: slice) -> list[DocumentInfo]: ...
    def __getitem__(self, index: int | slice) -> DocumentInfo | list[DocumentInfo]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        batch, row = self._batches[index // _BATCH], index % _BATCH
        texts = {name: batch.column(name)[row].as_py() for name in TEXTS}
        split = SPLITS[self.splits[index]]
        return DocumentInfo(split=split, num_sentences=int(self.lengths[index]), **texts)

    def bound_shards(self, num_shards: int) -> Iterator[tuple[int, int]]:
        """Yields for each shard the number of its first document, and of the first one behind it."""
        return pairwise(np.searchsorted(self.shards, np.arange(num_shards + 1)).tolist())

    def different(self, name: str) -> list[str]:
        """Returns the different values of a column, in the order in which they come first."""
        return self.column(name).unique().to_pylist()

    def column(self, name: str) -> pa.ChunkedArray:
        """Returns a column of all documents, a view of the file."""
        return pa.chunked_array([batch.column(name) for batch in self._batches], _SCHEMA.field(name).type)

    def _column(self, name: str, dtype: type[np.generic]) -> np.ndarray:
        """Returns a column: a view of the file where it has one batch, a copy where it has several."""
        columns = [batch.column(name).to_numpy() for batch in self._batches]
        return columns[0] if len(columns) == 1 else np.concatenate([np.zeros(0, dtype), *columns])


def write_catalog(folder: Path, num_shards: int) -> dict[str, str]:
    """Writes the catalog of committed shards, and returns the documents that had to change their split, by title.

    A document's split is a function of its key; a small corpus may leave a split empty, and then its nearest document
    moves in (`assign_splits`). A description that names a split keeps it, and beside it nothing moves: what was held
    out of a larger store stays held out.
    """
    found_all = (found for _, _, found in _documents(folder, num_shards))
    placed = np.fromiter(
        ((position_of(found["key"]), _named(found)) for found in found_all),
        [("position", np.float64), ("named", np.int8)],
    )
    named = placed["named"]
    codes = np.where(named < 0, split_positions(placed["position"]), named)
    moved: dict[str, str] = {}
    if len(np.unique(codes)) < len(SPLITS) and (named < 0).all():
        described = [found for _, _, found in _documents(folder, num_shards)]
        names, by_key = assign_splits([found["key"] for found in described])
        codes = np.array([SPLITS.index(name) for name in names], dtype=np.int8)
        moved = {found["title"]: by_key[found["key"]] for found in described if found["key"] in by_key}
    path = folder / CATALOG
    with pa.OSFile(str(hidden(path)), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for first, lines in _batched(_documents(folder, num_shards)):
            writer.write_batch(_to_batch(lines, codes[first : first + len(lines)]))
    publish(path)
    return moved


def _named(found: dict[str, Any]) -> int:
    """Returns the index of the split that a description names, -1 if it names none."""
    return SPLITS.index(found["split"]) if "split" in found else -1


Line = tuple[int, int, dict[str, Any]]  # shard, first row in it, description


def _documents(folder: Path, num_shards: int) -> Iterator[Line]:
    for shard in range(num_shards):
        sidecar = read_sidecar(folder, shard)
        assert sidecar is not None, shard
        row = 0
        for found in sidecar["documents"]:
            yield shard, row, found
            row += found["num_sentences"]


def _batched(lines: Iterator[Line]) -> Iterator[tuple[int, list[Line]]]:
    first, waiting = 0, []
    for line in lines:
        waiting.append(line)
        if len(waiting) == _BATCH:
            yield first, waiting
            first, waiting = first + _BATCH, []
    if waiting:
        yield first, waiting


def _to_batch(lines: Sequence[Line], codes: np.ndarray) -> pa.RecordBatch:
    return pa.record_batch(
        [
            *(pa.array([found[name] for _, _, found in lines], pa.string()) for name in TEXTS),
            pa.array(codes),
            pa.array([found["num_sentences"] for _, _, found in lines], pa.int32()),
            pa.array([shard for shard, _, _ in lines], pa.int32()),
            pa.array([row for _, row, _ in lines], pa.int64()),
        ],
        schema=_SCHEMA,
    )
