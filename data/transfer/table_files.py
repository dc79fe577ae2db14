"""Files of rows: Parquet, and what `datasets` saves; opened, and read batch by batch."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

METADATA = "concept_store"  # key under which an export says of which store it is
_BATCH = 8_192  # rows
_SAID = {"encoder": str, "encoder_name": str, "dim": int, "splitter": str, "max_chars": int, "num_sentences": int}


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        path: of the file.
        name: of it inside what is read.
        schema: its columns.
        num_rows: how many it holds.
        own: what the export says of its store; None for a stranger's file.
        read: yields these columns of its rows, piece by piece.
    """

    path: Path
    name: str
    schema: pa.Schema
    num_rows: int
    own: dict[str, Any] | None
    read: Callable[[list[str]], Iterator[pa.RecordBatch]]


def open_tables(path: Path) -> list[list[TableFile]]:
    """Returns the files of a path, one list for each split of a data set."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _open_saved(path)
    if path.is_file():
        return [[_open_parquet(path, path.name)]]
    files = [(file, file.relative_to(path)) for file in sorted(path.rglob("*.parquet"))]
    shown = [(file, name) for file, name in files if not any(part.startswith(".") for part in name.parts)]
    if not shown:
        raise ValueError(f"{path} holds no Parquet file and is no data set that `datasets` saved")
    return [[_open_parquet(file, name.as_posix()) for file, name in shown]]


def _open_parquet(path: Path, name: str) -> TableFile:
    import pyarrow.parquet as pq

    def open_file() -> pq.ParquetFile:
        # Without a buffer of its own it would keep a whole row group, which may be all of the file.
        return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=1 << 20)

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        with _told_if_damaged(path), open_file() as file:
            for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
                batch.validate(full=True)
                yield batch

    with _told_if_damaged(path), open_file() as file:
        said = (file.schema_arrow.metadata or {}).get(METADATA.encode())
        return TableFile(path, name, file.schema_arrow, file.metadata.num_rows, _read_own(path, said), read)


def _open_saved(path: Path) -> list[list[TableFile]]:
    from datasets import DatasetDict, load_from_disk

    with _told_if_damaged(path):
        loaded = load_from_disk(str(path))
        return [
            [_open_arrow(Path(file["filename"]), path, split.info.description) for file in split.cache_files]
            for split in (loaded.values() if isinstance(loaded, DatasetDict) else [loaded])
        ]


def _open_arrow(path: Path, folder: Path, description: str) -> TableFile:
    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader

    def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
        with _told_if_damaged(path):
            for batch in batches():
                batch.validate(full=True)
                for start in range(0, len(batch), _BATCH):
                    yield batch.select(columns).slice(start, _BATCH)

    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    with pa.memory_map(str(path)) as source:
        schema = pa.ipc.open_stream(source).schema
    return TableFile(path, name, schema, sum(map(len, batches())), _read_own(folder, description), read)


@contextmanager
def _told_if_damaged(path: Path) -> Iterator[None]:
    """Turns what Arrow and `datasets` raise into one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is damaged, or no table ({said})") from error


def _read_own(path: Path, said: bytes | str | None) -> dict[str, Any] | None:
    """Returns what an export says of its store, None where a file is a stranger's."""
    try:
        content = json.loads(said or "null")
    except ValueError:
        content = None
    content = content.get(METADATA) if isinstance(content, dict) else None
    if content is None:
        return None
    if not (isinstance(content, dict) and all(isinstance(content.get(name), kind) for name, kind in _SAID.items())):
        raise ValueError(f"{path} says that it is an export of a store, but not of which encoder and width")
    return content
