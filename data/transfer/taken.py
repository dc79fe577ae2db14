"""Documents on their way out of a store, with their concepts: what is merged, filtered, split and exported."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from data.catalog import CATALOG, TEXTS
from data.durable import hash_file
from data.manifest import read_manifest
from data.shards import open_shard, shard_path, view_concepts
from data.split import SPLITS
from data.store import ConceptStore


@dataclass(frozen=True)
class Rows:
    """Rows in memory or in a mapped file.

    Attributes:
        texts: N sentences.
        concepts: float16 (N, D).
        levels: int8 (N,).
        roles: N roles.
    """

    texts: pa.Array
    concepts: np.ndarray
    levels: np.ndarray
    roles: pa.Array

    def take(self, rows: np.ndarray) -> "Rows":
        """Returns these rows, int64 (N,) rising; a view where they stand in one piece."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            return Rows(self.texts[part], self.concepts[part], self.levels[part], self.roles[part])
        wanted = pa.array(rows, pa.int64())
        return Rows(self.texts.take(wanted), self.concepts[rows], self.levels[rows], self.roles.take(wanted))


class Origin(Protocol):
    """Where rows come from."""

    def take(self, rows: np.ndarray) -> Rows:
        """Returns these rows, int64 (N,) rising."""
        ...


@dataclass(frozen=True)
class Taken:
    """A document on its way into a store.

    Attributes:
        number: of the document where it comes from.
        described: title, source, licence, language, key and split.
        pieces: its rows, in order: where they come from, and which they are there, int64 (N,).
    """

    number: int
    described: Mapping[str, str]
    pieces: Sequence[tuple[Origin, np.ndarray]]

    @property
    def num_rows(self) -> int:
        """Rows of the document."""
        return sum(len(rows) for _, rows in self.pieces)


class StoreShard:
    """A shard of a store that is read; its checksum is compared before the first row is taken."""

    def __init__(self, store: ConceptStore, index: int) -> None:
        self.store, self.index = store, index

    @cached_property
    def rows(self) -> Rows:
        """All its rows, a view of the file.

        Raises:
            ValueError: it is damaged: a copy would give the damage a new checksum.
        """
        path = shard_path(self.store.path, self.index)
        if hash_file(path) != self.store.manifest["shards"][self.index]["sha256"]:
            raise ValueError(
                f"{path} is damaged: its checksum differs; run the command that wrote this store again to mend it"
            )
        batch = open_shard(path)
        roles = batch.column("role").cast(pa.string())
        return Rows(batch.column("text"), view_concepts(batch), batch.column("level").to_numpy(), roles)

    def take(self, rows: np.ndarray) -> Rows:
        """Returns these rows, int64 (N,) rising."""
        return self.rows.take(rows)


def open_source(path: str | Path) -> ConceptStore:
    """Opens a store to read documents from, and compares its catalog with the manifest.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no store, half-written or damaged.
    """
    catalog = Path(path) / CATALOG
    if catalog.is_file() and hash_file(catalog) != read_manifest(Path(path))["documents_sha256"]:
        raise ValueError(
            f"{catalog} is damaged: its checksum differs; run the command that wrote this store again to mend it"
        )
    return ConceptStore.open(path)


def identify(store: ConceptStore) -> list[str]:
    """Returns the checksums of all that a store holds."""
    return [store.encoder, store.manifest["documents_sha256"], *(shard["sha256"] for shard in store.manifest["shards"])]


def keeps_splits(store: ConceptStore) -> bool:
    """Says whether the documents of a store stay in their split whatever their key says."""
    return bool(store.manifest.get("keep_splits", False))


def bound_shards(store: ConceptStore) -> Iterator[tuple[int, int]]:
    """Yields for each shard the number of its first document, and of the first one behind it."""
    return store.documents.bound_shards(len(store.manifest["shards"]))


def documents_of(store: ConceptStore) -> Iterator[Taken]:
    """Yields the documents of a store; rows are read when they are taken."""
    catalog = store.documents
    for index, (first, stop) in enumerate(bound_shards(store)):
        shard = StoreShard(store, index)
        columns = (catalog.column(name).slice(first, stop - first).to_pylist() for name in TEXTS)
        for number, *values in zip(range(first, stop), *columns, strict=True):
            described = dict(zip(TEXTS, values, strict=True)) | {"split": SPLITS[catalog.splits[number]]}
            row = int(catalog.rows[number])
            yield Taken(number, described, [(shard, np.arange(row, row + int(catalog.lengths[number])))])
