"""Data sets of Hugging Face, streamed: on the hub, in its cache, or saved to disk by `datasets`."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from data.at_least_one import at_least_one
from data.document import Document
from data.formats.records import FIELDS, WANTED, read_records
from data.formats.tables import json_line_records, json_records, parquet_records
from data.formats.values import first_lines, note_unused
from data.report import ReadReport
from encoders.hub import fetch_snapshot

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder, IterableDataset

Rows = Iterable[Mapping[str, Any]]

# Ours read what `datasets` does not (a damaged line, fields of changing type), verify checksums, need less memory.
_READERS: Mapping[str, Callable[[IO[bytes], str, ReadReport], Rows]] = {
    ".jsonl": json_line_records,
    ".ndjson": json_line_records,
    ".json": json_records,
    ".parquet": parquet_records,
}
_PACKED = (".gz", ".bz2", ".xz", ".zst")


def read_data_set(source: str, report: ReadReport) -> Iterator[Document]:
    """Yields the documents of a data set on the hub, which may be larger than the disk, split after split.

    Its own split is of rows, ours is of documents.

    Args:
        source: "owner/name", or "owner/name:configuration".
        report: takes what was left out.

    Raises:
        FileNotFoundError: no such data set, or no network and no copy in the cache.
        ValueError: it cannot be read, or holds no text.
    """
    yield from at_least_one(_read_from_hub(source, report), f'the data set "{source}" holds no {WANTED}')


def _read_from_hub(source: str, report: ReadReport) -> Iterator[Document]:
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import httpx  # whichever it is that the hub's client uses

    name, _, configuration = source.partition(":")
    opened = _find(name)
    try:
        builder = load_dataset_builder(opened, configuration or None)
        yield from read_records(_rows_of_files(builder, name, report), name, report)
    except (DatasetsError, httpx.HTTPError, ValueError, OSError, RuntimeError) as error:
        copy = "" if opened == name else f" (the hub cannot be reached, and this is the copy in {opened})"
        raise ValueError(f'the data set "{source}" cannot be read: {first_lines(error)}{copy}') from error


def is_saved(path: Path) -> bool:
    """Says whether a folder was written by `save_to_disk` of `datasets`."""
    files = {file.name for file in path.glob("*.json")}
    return "dataset_dict.json" in files or files >= {"dataset_info.json", "state.json"}


def read_saved(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the documents of a folder that `save_to_disk` of `datasets` wrote; it stays on the disk.

    Raises:
        ValueError: it is damaged.
    """
    import pyarrow as pa
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(path))
        splits = list(loaded.values()) if isinstance(loaded, DatasetDict) else [loaded]
        rows = chain.from_iterable(_rows_of(split, report) for split in splits)
        yield from read_records(rows, name, report)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is a damaged data set ({first_lines(error)})") from error


def _find(name: str) -> str:
    """Returns the name if the hub knows it, or else the folder of the copy in the cache.

    `datasets` by itself tries for half a minute when there is no network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    try:
        HfApi().dataset_info(name, timeout=5)
    except (httpx.TransportError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled):
        return str(fetch_snapshot(name, kind="dataset"))  # the copy, or one sentence why there is none
    return name


def _rows_of_files(builder: "DatasetBuilder", name: str, report: ReadReport) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of a data set, each of its files by our reader of its ending if there is one."""
    import fsspec  # type: ignore[import-untyped]

    files = [file for split in (builder.config.data_files or {}).values() for file in split]
    if not files or any(_ending(file) not in _READERS for file in files) or getattr(builder.config, "field", None):
        if hasattr(builder.config, "sample_by"):
            builder.config.sample_by = "document"  # of a text file; the default makes a row of each line
        streams = builder.as_streaming_dataset()
        for stream in streams.values() if isinstance(streams, dict) else [streams]:
            yield from _rows_of(stream, report)
        return
    for file in files:
        with fsspec.open(file, "rb", compression="infer") as opened:
            yield from _READERS[_ending(file)](io.BufferedReader(opened), f"{name}/{PurePosixPath(file).name}", report)


def _ending(file: str) -> str:
    path = PurePosixPath(file)
    return (path.with_suffix("") if path.suffix in _PACKED else path).suffix.lower()


def _rows_of(split: "Dataset | IterableDataset", report: ReadReport) -> Rows:
    """Returns the rows of a split, with the columns that are used; the others are noted."""
    columns = split.column_names
    if columns is None:  # a stream: it is known only when it is read
        return split
    note_unused(columns, FIELDS, report)
    used = [column for column in columns if column in FIELDS]
    return split.select_columns(used) if used else ()
