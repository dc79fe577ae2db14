"""One shard of a store: an Arrow file with a row for each sentence, and a sidecar JSON whose presence commits it."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.durable import hash_file, hidden, publish, read_json, sweep_hidden, write_json

_TYPES = (
    ("document", pa.int32()),
    ("position", pa.int32()),
    ("text", pa.string()),
    ("concept", None),  # a list of D float16
    ("level", pa.int8()),
    ("role", pa.dictionary(pa.int32(), pa.string())),
    ("crc32", pa.uint32()),
)


@dataclass(frozen=True)
class Shard:
    """What a shard holds: whole documents, the first of which is number `first` of the store; N rows in all.

    Attributes:
        index: number of the shard.
        first: number of its first document.
        documents: title, source, licence, language, key and num_sentences of each document.
        texts: N sentences.
        concepts: float16 (N, D).
        levels: int8 (N,).
        roles: N roles.
    """

    index: int
    first: int
    documents: Sequence[dict[str, Any]]
    texts: pa.Array
    concepts: np.ndarray
    levels: np.ndarray
    roles: pa.Array


def list_sidecars(folder: Path) -> list[Path]:
    """Returns the sidecars in a folder, in order."""
    return _numbered(folder, ".json")


def shard_path(folder: Path, index: int) -> Path:
    """Returns the path of a shard's Arrow file; its sidecar has the ending .json."""
    return folder / f"{index:05d}.arrow"


def schema(dim: int) -> pa.Schema:
    """Returns the columns of a shard, for concepts of width `dim`."""
    return pa.schema([(name, kind or pa.list_(pa.float16(), dim)) for name, kind in _TYPES])


def write_shard(folder: Path, shard: Shard, encoder: str, inputs: str) -> dict[str, Any]:
    """Writes a shard and then its sidecar, each under a hidden name that is renamed when it is on the disk.

    Args:
        folder: of the store.
        shard: what it holds.
        encoder: fingerprint.
        inputs: hash of all that decides the shard's bytes; who finds it in a sidecar need not make the shard again.

    Returns:
        the sidecar.
    """
    path = shard_path(folder, shard.index)
    path.with_suffix(".json").unlink(missing_ok=True)  # a sidecar must never describe other bytes
    batch = _to_batch(shard)
    with pa.OSFile(str(hidden(path)), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    sidecar = {
        "encoder": encoder,
        "inputs": inputs,
        "dim": shard.concepts.shape[1],
        "rows": len(batch),
        "bytes": hidden(path).stat().st_size,
        "sha256": hash_file(hidden(path)),
        "levels": {str(level): count for level, count in sorted(Counter(shard.levels.tolist()).items())},
        "documents": list(shard.documents),
    }
    publish(path)
    write_json(path.with_suffix(".json"), sidecar)
    return sidecar


def read_sidecar(folder: Path, index: int) -> dict[str, Any] | None:
    """Returns a shard's sidecar, or None where the shard is not committed."""
    path = shard_path(folder, index).with_suffix(".json")
    return read_json(path) if path.is_file() else None


def is_committed(folder: Path, index: int, inputs: str) -> bool:
    """Says whether a shard was made of these inputs and is whole, by its checksum."""
    sidecar = read_sidecar(folder, index)
    path = shard_path(folder, index)
    return (
        sidecar is not None
        and sidecar.get("inputs") == inputs
        and path.is_file()
        and hash_file(path) == sidecar["sha256"]
    )


def open_shard(path: Path) -> pa.RecordBatch:
    """Returns the memory-mapped rows of a shard; nothing is read before it is used."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def view_concepts(batch: pa.RecordBatch) -> np.ndarray:
    """Returns the concepts of a shard, float16 (N, D), a read-only view of the file."""
    column = batch.column("concept")
    return column.values.to_numpy(zero_copy_only=True).reshape(-1, column.type.list_size)


def checksum_rows(batch: pa.RecordBatch) -> np.ndarray:
    """Returns the CRC-32 of each row's content, uint32 (N,): it tells which row a damage is in."""
    concepts = view_concepts(batch).reshape(-1).view(np.uint8).data
    width = len(concepts) // max(1, len(batch))
    numbers = [batch.column(name).to_numpy().astype(np.int32) for name in ("document", "position", "level")]
    content = np.stack(numbers, axis=1).reshape(-1).view(np.uint8).data
    texts = batch.column("text").to_pylist()
    roles = batch.column("role").to_pylist()
    return np.fromiter(
        (
            zlib.crc32(
                f"{text}\0{role}".encode(),
                zlib.crc32(content[12 * row : 12 * row + 12], zlib.crc32(concepts[width * row : width * (row + 1)])),
            )
            for row, (text, role) in enumerate(zip(texts, roles, strict=True))
        ),
        np.uint32,
        len(batch),
    )


def sweep_shards(folder: Path, num_shards: int) -> None:
    """Removes shards beyond the last one, and what a killed run left under a hidden name."""
    kept = {shard_path(folder, index).stem for index in range(num_shards)}
    for file in (*list_sidecars(folder), *_numbered(folder, ".arrow")):
        if file.stem not in kept:
            file.unlink()
    sweep_hidden(folder)


def _numbered(folder: Path, suffix: str) -> list[Path]:
    found = (file for file in folder.glob(f"*{suffix}") if file.stem.isdecimal())
    return sorted(found, key=lambda file: int(file.stem))


def _to_batch(shard: Shard) -> pa.RecordBatch:
    lengths = [document["num_sentences"] for document in shard.documents]
    numbers = np.arange(shard.first, shard.first + len(lengths), dtype=np.int32)
    positions = [np.arange(length, dtype=np.int32) for length in lengths]
    kinds = schema(shard.concepts.shape[1])
    batch = pa.record_batch(
        [
            pa.array(np.repeat(numbers, lengths)),
            pa.array(np.concatenate([np.zeros(0, np.int32), *positions])),
            shard.texts,
            pa.FixedSizeListArray.from_arrays(pa.array(shard.concepts.reshape(-1)), shard.concepts.shape[1]),
            pa.array(shard.levels, pa.int8()),
            shard.roles.dictionary_encode().cast(kinds.field("role").type),
            pa.array(np.zeros(len(shard.texts), np.uint32)),
        ],
        schema=kinds,
    )
    return batch.set_column(len(_TYPES) - 1, kinds.field("crc32"), pa.array(checksum_rows(batch)))
