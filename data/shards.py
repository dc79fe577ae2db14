"""One shard of a store: an Arrow file with a row for each sentence, and a sidecar JSON whose presence commits it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.rows import SplitDocument
from encoders.text import clean_text

_NUMBER = "[0-9]" * 5


@dataclass(frozen=True)
class ShardPlan:
    """What one shard is to hold: whole documents, the first of which is number `first` of the store.

    The plan says everything that decides the shard's bytes, but for the encoder.
    """

    index: int
    first: int
    documents: tuple[SplitDocument, ...]

    @property
    def texts(self) -> list[str]:
        """The sentences of all documents, in order."""
        return [row.text for document in self.documents for row in document.rows]

    def digest(self, encoder: str) -> str:
        """Returns the hash of the inputs: rows, document descriptions, place in the store, encoder fingerprint."""
        described = [
            [self.first, _describe(split), [[row.text, row.level, row.role] for row in split.rows]]
            for split in self.documents
        ]
        return hashlib.sha256(json.dumps([encoder, described]).encode()).hexdigest()


def list_sidecars(folder: Path) -> list[Path]:
    """Returns the sidecars in a folder, in order."""
    return sorted(folder.glob(f"{_NUMBER}.json"))


def shard_path(folder: Path, index: int) -> Path:
    """Returns the path of a shard's Arrow file; its sidecar has the ending .json."""
    return folder / f"{index:05d}.arrow"


def schema(dim: int) -> pa.Schema:
    """Returns the columns of a shard, for concepts of width `dim`."""
    return pa.schema(
        [
            ("document", pa.int32()),
            ("position", pa.int32()),
            ("text", pa.string()),
            ("concept", pa.list_(pa.float16(), dim)),
            ("level", pa.int8()),
            ("role", pa.dictionary(pa.int16(), pa.string())),
        ]
    )


def write_shard(folder: Path, plan: ShardPlan, concepts: np.ndarray, encoder: str) -> dict[str, Any]:
    """Writes a shard and then its sidecar, each under a hidden name that is renamed when it is on the disk.

    Args:
        folder: of the store.
        plan: what the shard holds.
        concepts: float16 (N, D), a row for each sentence of the plan.
        encoder: fingerprint.

    Returns:
        the sidecar.
    """
    path = shard_path(folder, plan.index)
    path.with_suffix(".json").unlink(missing_ok=True)  # a sidecar must never describe other bytes
    batch = _to_batch(plan, concepts)
    hidden = path.with_name(f".{path.name}.tmp")
    with pa.OSFile(str(hidden), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    sidecar = {
        "encoder": encoder,
        "inputs": plan.digest(encoder),
        "rows": len(concepts),
        "bytes": hidden.stat().st_size,
        "sha256": hash_file(hidden),
        "documents": [_describe(split) for split in plan.documents],
    }
    publish(hidden, path)
    write_json(path.with_suffix(".json"), sidecar)
    return sidecar


def read_sidecar(folder: Path, index: int) -> dict[str, Any] | None:
    """Returns a shard's sidecar, or None where the shard is not committed."""
    path = shard_path(folder, index).with_suffix(".json")
    return read_json(path) if path.is_file() else None


def open_shard(path: Path) -> pa.RecordBatch:
    """Returns the memory-mapped rows of a shard; nothing is read before it is used."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def view_concepts(batch: pa.RecordBatch) -> np.ndarray:
    """Returns the concepts of a shard, float16 (N, D), a read-only view of the file."""
    column = batch.column("concept")
    return column.values.to_numpy(zero_copy_only=True).reshape(-1, column.type.list_size)


def hash_file(path: Path) -> str:
    """Returns the hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_shards(folder: Path, num_shards: int) -> None:
    """Removes shards beyond the last one, and what a killed run left under a hidden name."""
    kept = {shard_path(folder, index).stem for index in range(num_shards)}
    for file in (*list_sidecars(folder), *folder.glob(f"{_NUMBER}.arrow")):
        if file.stem not in kept:
            file.unlink()
    for file in folder.glob(".*.tmp"):
        file.unlink()


def read_json(path: Path) -> dict[str, Any]:
    """Returns the content of a manifest or sidecar; raises ValueError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f'{path} is damaged ({error}); delete it and run the same "lcm encode" again') from None
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that is there whole or not at all."""
    hidden = path.with_name(f".{path.name}.tmp")
    hidden.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    publish(hidden, path)


def publish(hidden: Path, path: Path) -> None:
    """Brings a file to the disk and then to its name, so that a crash leaves the old file or the new one."""
    with hidden.open("rb") as file:
        os.fsync(file.fileno())
    hidden.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _describe(split: SplitDocument) -> dict[str, Any]:
    document = split.document
    fields: Sequence[str] = ("title", "source", "licence", "language", "key")
    described = {field: clean_text(getattr(document, field)) for field in fields}
    return described | {"num_sentences": len(split.rows)}


def _to_batch(plan: ShardPlan, concepts: np.ndarray) -> pa.RecordBatch:
    rows = [row for split in plan.documents for row in split.rows]
    lengths = [len(split.rows) for split in plan.documents]
    numbers = np.arange(plan.first, plan.first + len(lengths), dtype=np.int32)
    positions = [np.arange(length, dtype=np.int32) for length in lengths]
    dim = concepts.shape[1]
    return pa.record_batch(
        [
            pa.array(np.repeat(numbers, lengths)),
            pa.array(np.concatenate(positions)),
            pa.array([row.text for row in rows], pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(concepts.reshape(-1)), dim),
            pa.array([row.level for row in rows], pa.int8()),
            pa.array([row.role for row in rows], pa.string()).dictionary_encode().cast(schema(dim).field("role").type),
        ],
        schema=schema(dim),
    )
