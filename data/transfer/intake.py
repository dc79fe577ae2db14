"""Rows with concepts out of Parquet files and data sets: read batch by batch and grouped into documents."""

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.document import Block, Document
from data.durable import hash_file
from data.end_of_text import end_of
from data.languages import language_of
from data.report import ReadReport
from data.split import SPLITS
from data.transfer.columns import Where, is_text, read_concepts, read_levels, read_numbers, read_roles, read_texts
from data.transfer.table_files import TableFile, open_tables
from data.transfer.taken import Rows, Taken
from encoders.text import clean_text

_KEY = re.compile("[0-9a-f]{64}")
_DESCRIBED = ("title", "source", "licence", "language")  # of a document, where there is such a column
_OWN = ("key", "split", "position")  # of a document, in what `export_store` wrote


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read.

    Attributes:
        text: sentences.
        concept: lists of D numbers.
        document: changes where the next document begins; None where each file is a document.
    """

    text: str = "text"
    concept: str = "concept"
    document: str | None = None


@dataclass(frozen=True)
class _Run:
    """Rows of one document that follow each other in a batch, or all its rows together.

    Attributes:
        document: value of its column, or number of the file.
        file: where its first row is.
        described: columns of its first row, by name.
        pieces: its rows.
    """

    document: Any
    file: TableFile
    described: dict[str, Any]
    pieces: list[tuple[Rows, np.ndarray]]


class Intake:
    """The rows of a Parquet file or folder, or of a data set, as documents.

    Attributes:
        own: what the export says of the store that it was; None for rows from elsewhere.
        num_rows: rows in all.
        settings: what a manifest says of the rows; complete when all documents went by.

    Args:
        path: of what is read.
        columns: names of the columns.
        report: takes what is not used, and what is missing of an export.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it holds no rows, lacks a column, or mixes what does not belong together.
    """

    def __init__(self, path: Path, columns: Columns, report: ReadReport) -> None:
        self.path, self.report = path, report
        self.streams = open_tables(path)
        files = list(chain.from_iterable(self.streams))
        self.num_rows = sum(file.num_rows for file in files)
        if not self.num_rows:
            raise ValueError(f"{path} holds no rows")
        self.own = files[0].own
        for file in files:
            if (file.own or {}).get("encoder") != (self.own or {}).get("encoder"):
                raise ValueError(f"{files[0].name} and {file.name} in {path} are not of one encoder; import them apart")
        if self.own is not None:
            if columns.document is not None:
                raise ValueError(f'{path} is an export of a store, whose column "document" is used; name no other')
            columns = replace(columns, document="document")
        self.columns = columns
        self._used = self._choose(files)
        self.settings: dict[str, Any] = {"splitter": "not known, imported", "max_chars": 0}
        if self.own is not None:
            self.settings = {name: self.own[name] for name in ("splitter", "max_chars")} | end_of(self.own)
            if len({file.own["num_sentences"] for file in files if file.own}) == 1 and (
                self.num_rows < self.own["num_sentences"]
            ):
                report.note(f"{path} holds {self.num_rows:,} of the {self.own['num_sentences']:,} rows of its store")

    def identify(self) -> list[Any]:
        """Returns names and checksums of all that is read, and the names of the columns."""
        files = [[[file.name, hash_file(file.path)] for file in stream] for stream in self.streams]
        return [self.path.name, files, self.columns.text, self.columns.concept, self.columns.document]

    def documents(self, dim: int) -> Iterator[Taken]:
        """Yields the documents in their order; memory holds the one that is read.

        Args:
            dim: width D of the concepts.

        Raises:
            ValueError: what is wrong with a row, by file and row; rows of a document that are not together.
        """
        streams = [self._group(stream, dim) for stream in self.streams]
        ordered = chain(*streams) if self.own is None else heapq.merge(*streams, key=attrgetter("document"))
        last: Any = None
        for number, found in enumerate(ordered):
            if self.own is not None:
                if last is not None and found.document <= last:
                    raise ValueError(self._torn(found))
                last = found.document
            yield Taken(number, self._describe(found), found.pieces)

    def _choose(self, files: Sequence[TableFile]) -> list[str]:
        """Returns the columns that are read; all files have them, or none."""
        needed = [self.columns.text, self.columns.concept, *([self.columns.document] if self.columns.document else [])]
        wanted = dict.fromkeys((*needed, "level", "role", *_DESCRIBED, *(_OWN if self.own is not None else ())))
        for file in files:
            for name in needed:
                if name not in file.schema.names:
                    raise ValueError(
                        f'{file.name} has no column "{name}", it has {", ".join(file.schema.names)}; name the columns '
                        "with --text-column, --concept-column and --document-column"
                    )
        found = files[0].schema
        used = [name for name in wanted if name in needed or (name in found.names and _fits(name, found.field(name)))]
        for file in files:
            for name in used:
                if name not in file.schema.names or not (name in needed or _fits(name, file.schema.field(name))):
                    raise ValueError(f'{file.name} has no column "{name}" like the one of {files[0].name}')
        for name in sorted(set(found.names) - set(used)):
            self.report.note(f'the column "{name}" is not used')
        return used

    def _group(self, files: Sequence[TableFile], dim: int) -> Iterator[_Run]:
        """Yields the documents of files that follow each other."""
        seen: set[Any] = set()
        for document, runs in groupby(self._runs(files, dim), key=attrgetter("document")):
            first, *others = runs
            found = replace(first, pieces=[piece for run in (first, *others) for piece in run.pieces])
            if self.own is None and self.columns.document is not None:
                if document in seen:
                    raise ValueError(self._torn(found))
                seen.add(document)
            yield found

    def _runs(self, files: Sequence[TableFile], dim: int) -> Iterator[_Run]:
        """Yields rows of a document that follow each other in a batch."""
        for number, file in enumerate(files):
            first = 0
            for batch in file.read(self._used):
                where = partial(_name_row, file, first)
                rows = self._check(batch, dim, where)
                ids = np.full(len(batch), number)
                if self.columns.document is not None:
                    ids = read_numbers(batch.column(self.columns.document), where)
                new = np.diff(ids, prepend=ids[:1] - 1) != 0
                _check_order(batch, new, where)
                starts = np.flatnonzero(new)
                stops = [*starts[1:].tolist(), len(batch)]
                said = batch.select([name for name in self._used if name not in ("level", "role")])
                heads = said.drop_columns([self.columns.text, self.columns.concept]).take(pa.array(starts)).to_pylist()
                for head, start, stop in zip(heads, starts.tolist(), stops, strict=True):
                    document = number if self.columns.document is None else head[self.columns.document]
                    yield _Run(document, file, head, [(rows, np.arange(start, stop))])
                first += len(batch)

    def _check(self, batch: pa.RecordBatch, dim: int, where: Where) -> Rows:
        texts = read_texts(batch.column(self.columns.text), where)
        if self.own is None:
            longest = max(map(len, texts.to_pylist()), default=0)
            self.settings["max_chars"] = max(self.settings["max_chars"], longest)
            self.report.count(
                "rows without a letter in their text", sum(not text.strip() for text in texts.to_pylist())
            )
        level, role = (batch.column(name) if name in self._used else None for name in ("level", "role"))
        return Rows(
            texts,
            read_concepts(batch.column(self.columns.concept), dim, where),
            read_levels(level, len(batch), where),
            read_roles(role, len(batch), where),
        )

    def _describe(self, found: _Run) -> dict[str, str]:
        """Returns what is said of a document; what the file does not say is told by its name and its text."""
        said: dict[str, Any] = {name: found.described.get(name) for name in (*_DESCRIBED, *_OWN)}
        name = Path(found.file.name).with_suffix("").as_posix()
        guessed = {
            "title": name if self.columns.document is None else f"{self.path.stem} {found.document}",
            "source": self.path.name,
            "licence": "unknown",
            "language": "auto",
        }
        empty = (None,) if self.own is not None else (None, "")
        described = {
            field: clean_text(guess if said[field] in empty else said[field]) for field, guess in guessed.items()
        }
        if not said["key"] or described["language"] == "auto":
            blocks = (Block(text) for rows, part in found.pieces for text in rows.take(part).texts.to_pylist())
            document = Document(blocks=tuple(blocks), **described)
            described |= {"language": language_of(document), "key": said["key"] or document.key}
        else:
            described["key"] = said["key"]
        if not _KEY.fullmatch(described["key"]):
            raise ValueError(f'{found.file.name}: the key of "{described["title"]}" is no sha256: {described["key"]!r}')
        if said["split"] is not None:
            if said["split"] not in SPLITS:
                raise ValueError(
                    f'{found.file.name}: "{described["title"]}" is in the split "{said["split"]}"; the splits are '
                    f"{', '.join(SPLITS)}"
                )
            described["split"] = said["split"]
        return described

    def _torn(self, found: _Run) -> str:
        return (
            f"the rows of document {found.document} are not together in {found.file.name}, or are a second time; sort "
            f'{self.path} by "{self.columns.document}"'
        )


def _fits(name: str, field: pa.Field) -> bool:
    return pa.types.is_integer(field.type) if name in ("level", "position") else is_text(field.type)


def _check_order(batch: pa.RecordBatch, new: np.ndarray, where: Where) -> None:
    """Raises ValueError where a row stands before one of the same document that had a lower position."""
    if "position" in batch.schema.names:
        positions = batch.column("position").to_numpy(zero_copy_only=False)
        wrong = ~new & (np.diff(positions, prepend=positions[:1]) <= 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f'{where(row)} stands out of its order; sort by "document" and "position"')


def _name_row(file: TableFile, first: int, row: int) -> str:
    return f"row {first + row:,} of {file.name}"
