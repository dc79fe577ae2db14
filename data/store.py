from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.shards import hash_file, list_sidecars, open_shard, read_json, read_sidecar, schema, shard_path, view_concepts
from data.split import SPLITS

MANIFEST = "manifest.json"
FORMAT = "concept-store"
VERSION = 1


@dataclass(frozen=True)
class DocumentInfo:
    """What a store says about one of its documents."""

    title: str
    source: str
    licence: str
    split: str
    num_sentences: int
    key: str


class ConceptStore:
    """The sentences of a corpus and their concepts, on disk: documents by number, rows memory-mapped.

    Opening reads descriptions only. A store crosses to another process by its path. `encode_corpus` makes one.

    Attributes:
        path: folder of the store.
        manifest: what `manifest.json` holds.
        dim: width D of a concept.
        encoder: fingerprint of the encoder.
        encoder_name: what `load_encoder` takes to make it again.
        documents: one description a document, in order.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.dim: int = manifest["dim"]
        self.encoder: str = manifest["encoder"]
        self.encoder_name: str = manifest["encoder_name"]
        held_out = {index: split for split in SPLITS[1:] for index in manifest["held_out"][split]}
        documents: list[DocumentInfo] = []
        self._places: list[tuple[int, int]] = []  # shard and first row of each document
        for index, shard in enumerate(manifest["shards"]):
            row = 0
            for found in _read_committed(path, index, shard)["documents"]:
                described = {field: found[field] for field in ("title", "source", "licence", "num_sentences", "key")}
                documents.append(DocumentInfo(split=held_out.get(len(documents), "train"), **described))
                self._places.append((index, row))
                row += found["num_sentences"]
        self.documents: Sequence[DocumentInfo] = documents
        self._batches: dict[int, pa.RecordBatch] = {}
        self._concepts: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, path: str | Path) -> "ConceptStore":
        """Opens a store.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: it is no store, half-written, damaged, or of another format version.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f'there is no store at {path}; make it with "lcm encode CORPUS --out {path}"')
        manifest_path = path / MANIFEST
        if not manifest_path.is_file():
            if path.is_dir() and list_sidecars(path):
                raise ValueError(f'the store at {path} is half-written; run the same "lcm encode" again to finish it')
            raise ValueError(f"{path} is not a concept store: it holds no {MANIFEST}")
        manifest = read_json(manifest_path)
        if manifest.get("format") != FORMAT:
            raise ValueError(f"{path} is not a concept store: its {MANIFEST} belongs to something else")
        if manifest["version"] != VERSION:
            raise ValueError(f"the store at {path} has format version {manifest['version']}, this code reads {VERSION}")
        return cls(path, manifest)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, document: int) -> np.ndarray:
        """Returns the concepts of a document, float16 (S, D), a read-only view of the file."""
        return self.window(document, 0, self.documents[document].num_sentences)

    def window(self, document: int, start: int, stop: int) -> np.ndarray:
        """Returns the concepts of sentences `start` to `stop` of a document, float16 (stop - start, D), no copy."""
        shard, first = self._place(document, start, stop)
        if shard not in self._concepts:
            self._concepts[shard] = view_concepts(self._batch(shard))
        return self._concepts[shard][first + start : first + stop]

    def sentences(self, document: int) -> list[str]:
        """Returns the text of a document, sentence by sentence."""
        return self._column(document, "text").to_pylist()

    def levels(self, document: int) -> np.ndarray:
        """Returns the level of each row of a document, int8 (S,)."""
        return self._column(document, "level").to_numpy()

    def roles(self, document: int) -> list[str]:
        """Returns the role of each row of a document: "sentence", "heading", "summary" or a speaker."""
        return self._column(document, "role").to_pylist()

    def split(self, name: str) -> list[int]:
        """Returns the numbers of the documents of a split: "train", "validation" or "test"."""
        if name not in SPLITS:
            raise ValueError(f'there is no split "{name}"; the splits are {", ".join(SPLITS)}')
        return [index for index, document in enumerate(self.documents) if document.split == name]

    @property
    def heading_levels(self) -> list[int]:
        """The levels above 0 that occur, rising."""
        found = {int(level) for i in range(len(self)) for level in np.unique(self.levels(i))}
        return sorted(found - {0})

    def verify(self) -> None:
        """Reads the whole store and checks checksums, widths, row order and that every concept is finite.

        Raises:
            ValueError: names the shard and what is wrong with it.
        """
        first = 0
        for index, shard in enumerate(self.manifest["shards"]):
            path = shard_path(self.path, index)
            if hash_file(path) != shard["sha256"]:
                raise ValueError(
                    f'{path} is damaged: its checksum differs; delete it and run the same "lcm encode" again'
                )
            lengths = [info.num_sentences for info in self.documents[first : first + shard["documents"]]]
            _check_rows(path, open_shard(path), first, lengths, self.dim)
            first += shard["documents"]

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return type(self).open, (self.path,)

    def _place(self, document: int, start: int, stop: int) -> tuple[int, int]:
        length = self.documents[document].num_sentences
        assert 0 <= start <= stop <= length, (document, start, stop, length)
        return self._places[document]

    def _batch(self, shard: int) -> pa.RecordBatch:
        if shard not in self._batches:
            self._batches[shard] = open_shard(shard_path(self.path, shard))
        return self._batches[shard]

    def _column(self, document: int, name: str) -> pa.Array:
        shard, first = self._places[document]
        return self._batch(shard).column(name).slice(first, self.documents[document].num_sentences)


def check_encoder(known: str, found: str, whose: str) -> None:
    """Raises ValueError if two parts that meet were made with different encoders.

    Args:
        known: fingerprint that `whose` was made with; "" if it has none yet.
        found: fingerprint of the concepts at hand.
        whose: what the user knows the first part as.
    """
    if known and known != found:
        raise ValueError(
            f"{whose} knows concepts of encoder {known[:20]}, these are of encoder {found[:20]}; "
            f"encode and train with one encoder"
        )


def _read_committed(path: Path, index: int, shard: dict[str, Any]) -> dict[str, Any]:
    """Returns a shard's sidecar, after comparing it and the size of the shard with the manifest."""
    sidecar = read_sidecar(path, index)
    file = shard_path(path, index)
    whole = file.is_file() and file.stat().st_size == shard["bytes"]
    if sidecar is None or sidecar["sha256"] != shard["sha256"] or not whole:
        raise ValueError(f'{file} is missing or not the file that was written; run the same "lcm encode" again')
    return sidecar


def _check_rows(path: Path, batch: pa.RecordBatch, first: int, lengths: Sequence[int], dim: int) -> None:
    if batch.schema != schema(dim):
        raise ValueError(f"{path} has other columns than a store of width {dim}")
    documents = np.repeat(np.arange(first, first + len(lengths)), lengths)
    if not np.array_equal(batch.column("document").to_numpy(), documents):
        raise ValueError(f"{path} holds rows of other documents than its sidecar says")
    finite = np.isfinite(view_concepts(batch)).all(axis=1)
    if not finite.all():
        raise ValueError(f"{path} holds NaN or infinity in row {int(np.argmin(finite))}")
