"""Records out of files: JSON lines, JSON and Parquet, read piece by piece."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data.document import Document
from data.formats.records import FIELDS, read_records
from data.formats.values import count_first, first_lines, note_unused
from data.prose import decode
from data.report import ReadReport

if TYPE_CHECKING:
    from pyarrow import RecordBatch

MAX_RECORD = 1 << 28  # bytes: a longer line is no record, and an archive that unpacks to one is a bomb
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # what an archive raises
_CHUNK = 1 << 20
_BATCH_BYTES = 16 << 20  # of rows that are Python objects at a time
_DECODER = json.JSONDecoder()
_GAP = re.compile(r"[\s,]*")
_NO_UTF8 = re.compile("[\udc80-\udcff]")


def open_bytes(path: Path) -> IO[bytes]:
    """Returns an open file, unpacked as it is read if it ends in .gz."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def read_json_lines(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the documents of a file with a JSON object on each line; other lines are counted.

    Raises:
        ValueError: a damaged archive.
    """
    try:
        with open_bytes(path) as file:
            yield from read_records(json_line_records(file, name, report), name, report)
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def read_json(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the documents of a JSON file: one object, an array of them, or one object after the other.

    Raises:
        ValueError: no JSON, or damaged; what stands before the damage has been read.
    """
    with path.open("rb") as file:
        yield from read_records(json_records(file, name, report), name, report)


def read_parquet(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the documents of a Parquet file.

    Raises:
        ValueError: no Parquet, or damaged; what stands before the damage has been read.
    """
    with path.open("rb") as file:
        yield from read_records(parquet_records(file, name, report), name, report)


def json_line_records(file: IO[bytes], name: str, report: ReadReport) -> Iterator[Mapping[str, Any]]:
    """Yields the objects of an open file with one on each line; what is none is counted.

    Raises:
        ValueError: a line that is too long for a record.
    """
    number = 0
    while line := file.readline(MAX_RECORD):
        number += 1
        if len(line) == MAX_RECORD:
            raise ValueError(f"line {number} of {name} has more than {MAX_RECORD >> 20} MiB; that is no record")
        if not line.strip():
            continue
        try:
            record = json.loads(decode(line, name, report))
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield record
        else:
            count_first("lines that are no JSON object left out", f"line {number} of {name}", report)


def json_records(file: IO[bytes], name: str, report: ReadReport) -> Iterator[Mapping[str, Any]]:
    """Yields the objects of an open file of JSON; what is none is counted.

    Raises:
        ValueError: no JSON, or damaged.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
    for number, value in enumerate(_json_values(text, name, report), start=1):
        if isinstance(value, dict):
            yield value
        else:
            count_first("values that are no JSON object left out", f"number {number} of {name}", report)


def parquet_records(file: IO[bytes], name: str, report: ReadReport) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of an open Parquet file, with the columns that are used, page checksums verified.

    A page has to fit into memory, and some megabytes of rows.

    Raises:
        ValueError: no Parquet, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without a buffer of its own it would keep a whole row group, which may be all of the file.
        with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False, buffer_size=_CHUNK) as parquet:
            columns = parquet.schema_arrow.names
            note_unused(columns, FIELDS, report)
            used = [column for column in columns if column in FIELDS]
            sizes = (parquet.metadata.row_group(index).total_byte_size for index in range(parquet.num_row_groups))
            num_rows = min(1000, 1 + _BATCH_BYTES * parquet.metadata.num_rows // max(1, sum(sizes)))
            for batch in parquet.iter_batches(num_rows, columns=used, use_threads=False) if used else ():
                yield from _rows_of(batch, name, report)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} is damaged or no Parquet file ({first_lines(error)})") from error


def _rows_of(batch: "RecordBatch", name: str, report: ReadReport) -> list[dict[str, Any]]:
    """Returns the rows of a batch, without those whose strings are no text: Parquet does not check that they are."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) > 1:
            return [row for index in range(len(batch)) for row in _rows_of(batch.slice(index, 1), name, report)]
        report.count(f"rows of {name} that are not UTF-8 left out")
        return []


def _json_values(file: IO[str], name: str, report: ReadReport) -> Iterator[Any]:
    """Yields the elements of an array, or the values of a file one by one; only what one value needs is in memory."""
    at = number = 0
    text = _read_chunk(file, _CHUNK, name, report).lstrip()
    in_array = text.startswith("[")
    text = text[in_array:]
    complete = False  # the end of the file is in `text`
    while True:
        at = _GAP.match(text, at).end()  # type: ignore[union-attr]
        if in_array and text.startswith("]", at):
            return
        value, end = _decode_value(text, at)
        if 0 < end < len(text) or (end == len(text) and complete):
            yield value
            number, at = number + 1, end
            continue
        if complete or len(text) - at > MAX_RECORD:
            break
        chunk = _read_chunk(file, max(_CHUNK, len(text) - at), name, report)  # doubled: a long value is read twice
        text, at, complete = text[at:] + chunk, 0, not chunk
    if in_array or at < len(text):
        raise ValueError(f"{name} is no JSON, or damaged, behind its first {number:,} values")


def _decode_value(text: str, at: int) -> tuple[Any, int]:
    """Returns the JSON value that stands there and where it ends, or -1 if it does not end, or is none."""
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, -1


def _read_chunk(file: IO[str], size: int, name: str, report: ReadReport) -> str:
    text, num_replaced = _NO_UTF8.subn("\ufffd", file.read(size))
    report.count(f"characters of {name} are not UTF-8 and were replaced", num_replaced)
    return text
