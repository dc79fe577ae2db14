"""What is wrong with a store: damage is named by shard and row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.catalog import CATALOG, Catalog
from data.durable import hash_file
from data.end_of_text import read_end
from data.manifest import read_manifest
from data.shards import checksum_rows, open_shard, schema, shard_path, view_concepts


def find_faults(path: Path) -> Iterator[str]:
    """Yields a sentence for everything that is wrong with a store; reads all of it.

    A shard is compared with its checksum; where that differs, the rows' own checksums tell which of them are damaged.
    """
    manifest = read_manifest(path)
    whole = set(range(len(manifest["shards"])))
    for index, fault in size_faults(path, manifest):
        whole.discard(index)
        yield fault
    yield from end_faults(path, manifest)
    if not (path / CATALOG).is_file() or hash_file(path / CATALOG) != manifest["documents_sha256"]:
        yield f"{path / CATALOG} is missing or damaged: its checksum differs"
        return
    catalog = Catalog(path / CATALOG)
    for index, (first, stop) in enumerate(catalog.bound_shards(len(manifest["shards"]))):
        if index not in whole:
            continue
        file = shard_path(path, index)
        damaged = hash_file(file) != manifest["shards"][index]["sha256"]
        fault = _find_fault(file, first, catalog.lengths[first:stop], manifest["dim"])
        if fault:
            yield fault
        elif damaged:
            yield f"{file} is damaged outside its rows: its checksum differs"


def size_faults(path: Path, manifest: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yields number and description of each shard that is missing or has another size than the manifest says."""
    first = 0
    for index, shard in enumerate(manifest["shards"]):
        file = shard_path(path, index)
        rows = f"rows {first} to {first + shard['rows'] - 1} of the store"
        first += shard["rows"]
        if not file.is_file():
            yield index, f"{file} is missing ({rows})"
        elif (size := file.stat().st_size) != shard["bytes"]:
            yield index, f"{file} has {size:,} bytes instead of {shard['bytes']:,} ({rows})"


def end_faults(path: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the concept that ends a text, if something is."""
    try:
        read_end(manifest)
    except ValueError as error:
        yield f"{path}: {error}"


def _find_fault(file: Path, first: int, lengths: np.ndarray, dim: int) -> str:
    """Returns what is wrong with the rows of a shard, "" if nothing is."""
    try:
        batch = open_shard(file)
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        return f"{file} cannot be read from row 0 on: {str(error).splitlines()[0]}"
    if batch.schema != schema(dim):
        return f"{file} has other columns than a store of width {dim}, from row 0 on: {_columns(batch.schema)}"
    expected = np.repeat(np.arange(first, first + len(lengths)), lengths)
    documents = batch.column("document").to_numpy()
    if len(documents) != len(expected):
        return f"{file} ends at row {len(documents)}, the catalog has {len(expected)} rows for it"
    try:
        wrong = np.flatnonzero(checksum_rows(batch) != batch.column("crc32").to_numpy())
    except UnicodeDecodeError as error:
        return f"{file} is damaged: a text is no UTF-8 ({error.reason})"
    if len(wrong):
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"{file} is damaged in row {wrong[0]}{more}: the row's checksum differs"
    if len(order := np.flatnonzero(documents != expected)):
        return f"{file} holds another document in row {order[0]} than the catalog says"
    if len(bad := np.flatnonzero(~np.isfinite(view_concepts(batch)).all(axis=1))):
        return f"{file} holds NaN or infinity in row {bad[0]}"
    return ""


def _columns(found: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in found)
