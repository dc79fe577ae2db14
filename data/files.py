"""Read documents out of files: text, Markdown, JSON lines, Parquet, or a folder of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.document import Block, Document
from data.markdown import read_markdown
from data.prose import decode, read_prose
from data.report import ReadReport

TEXT_FIELDS = ("text", "content")
_KNOWN_FIELDS = (*TEXT_FIELDS, "title", "licence", "license", "language")


def read_path(path: Path, report: ReadReport) -> list[Document]:
    """Returns the documents of a file or of a folder, which is searched in order of path, hidden files left out.

    Raises:
        ValueError: an empty file, an ending that has no reader, a folder without anything that can be read.
    """
    if not path.is_dir():
        return _read_file(path, path.name, report)
    documents: list[Document] = []
    unknown: Counter[str] = Counter()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        inside = file.relative_to(path)
        if any(part.startswith(".") for part in inside.parts):
            continue
        if file.suffix.lower() not in _READERS:
            unknown[file.suffix or "no ending"] += 1
            continue
        try:
            documents += _read_file(file, inside.as_posix(), report)
        except (ValueError, OSError) as error:
            report.note(f"left out {inside}: {error}")
    for suffix, number in sorted(unknown.items()):
        report.count(f"files left out that are none of {', '.join(_READERS)} ({suffix})", number)
    if not documents:
        raise ValueError(f"the folder {path} holds no readable text; a file may be {', '.join(_READERS)}")
    return documents


def read_records(records: Iterable[Mapping[str, Any]], name: str, report: ReadReport) -> Iterator[Document]:
    """Yields a document for each record that holds a text in a field "text" or "content"; the others are counted."""
    for number, record in enumerate(records, start=1):
        for field in record.keys() - set(_KNOWN_FIELDS):
            report.note(f'{name}: the field "{field}" is not used')
        text = next((record[field] for field in TEXT_FIELDS if isinstance(record.get(field), str)), "")
        blocks = read_prose(text, report)
        if not blocks:
            report.count(f"records of {name} without a text left out")
            continue
        title = record.get("title") or f"{Path(name).stem} {number}"
        licence = record.get("licence") or record.get("license") or "unknown"
        language = record.get("language") or "english"
        yield Document(str(title), tuple(blocks), name, str(licence), str(language).lower())


def _read_file(path: Path, name: str, report: ReadReport) -> list[Document]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} ends in none of {', '.join(_READERS)}; convert it to one of them")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    documents = reader(path, name, report)
    if not documents:
        raise ValueError(f"{path} holds no text")
    return documents


def _read_text(path: Path, name: str, report: ReadReport) -> list[Document]:
    return _one_document(read_prose(decode(path.read_bytes(), name, report), report), name)


def _read_markdown(path: Path, name: str, report: ReadReport) -> list[Document]:
    return _one_document(read_markdown(decode(path.read_bytes(), name, report), report), name)


def _one_document(blocks: list[Block], name: str) -> list[Document]:
    if not blocks:
        return []
    title = blocks[0].text if blocks[0].level == 4 else Path(name).stem
    return [Document(title, tuple(blocks), name)]


def _read_json_lines(path: Path, name: str, report: ReadReport) -> list[Document]:
    def records() -> Iterator[Mapping[str, Any]]:
        for line in decode(path.read_bytes(), name, report).split("\n"):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            else:
                report.count(f"lines of {name} are no JSON object and were left out")

    return _need_text(list(records()), path, name, report)


def _read_parquet(path: Path, name: str, report: ReadReport) -> list[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(path).names
        used = [column for column in columns if column in _KNOWN_FIELDS]
        records = pq.read_table(path, columns=used, page_checksum_verification=True).to_pylist() if used else []
    except pa.ArrowException as error:
        raise ValueError(f"{path} is damaged or no Parquet file ({str(error).splitlines()[0]})") from error
    for column in sorted(set(columns) - set(used)):
        report.note(f'{name}: the field "{column}" is not used')
    return _need_text(records, path, name, report)


def _need_text(records: list[Mapping[str, Any]], path: Path, name: str, report: ReadReport) -> list[Document]:
    documents = list(read_records(records, name, report))
    if not documents:
        raise ValueError(f'{path} holds no record with a text in a field "text" or "content"')
    return documents


_READERS: Mapping[str, Callable[[Path, str, ReadReport], list[Document]]] = {
    ".txt": _read_text,
    ".md": _read_markdown,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
