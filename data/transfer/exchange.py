"""Stores to the formats that others read, Parquet and data sets of `datasets`, and back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from data.catalog import TEXTS
from data.durable import hidden, lock, publish, read_json, sweep_hidden, sync_folder, told_when_full, write_json
from data.end_of_text import END_OF_TEXT, KEY, describe_end, end_of
from data.report import ReadReport
from data.split import SPLITS
from data.store import ConceptStore
from data.transfer.gather import SHARD_BYTES, Making, hash_json, refuse_inside, show_bar, write_store
from data.transfer.intake import Columns, Intake
from data.transfer.table_files import METADATA
from data.transfer.taken import StoreShard, bound_shards, identify, open_source
from encoders.encoder import load_encoder

MARK = ".export.json"  # hidden: `datasets` and pyarrow read what else is in the folder
_ROW_GROUP = 16_384  # rows
_BATCH = 1_000  # rows of a record batch of a data set, as `datasets` writes them
_REPEATING = ("document", "level", "role", "title", "source", "licence", "language", "key", "split")


def export_store(
    path: Path,
    out: Path,
    *,
    format: Literal["parquet", "dataset"] = "parquet",
    report: ReadReport | None = None,
    progress: bool = True,
) -> None:
    """Writes a store as Parquet, or as a data set that `datasets.load_from_disk` opens; safe to kill and to run again.

    One row a sentence: document (its number), position, text, concept (D float16), level, role, and of its document
    title, source, licence, language, key and split. Parquet has a file for each shard, zstd, page checksums, and says
    in the metadata of its schema, under "concept_store", of which encoder, splitter and width it is. A data set is a
    `DatasetDict` of the splits that hold documents, with the same in its `info.description`. `out` gets its name when
    all is written. `import_store` reads both.

    Args:
        path: of the store.
        out: folder to write.
        format: "parquet" or "dataset".
        report: takes what was left out.
        progress: show a bar on stderr.

    Raises:
        ValueError: `out` holds something else; the store is half-written or damaged.
        BlockingIOError: another process writes the same.
        OSError: the disk is full.
    """
    store, out = open_source(path), Path(out)
    refuse_inside(out, [store.path])
    mark = {"format": "concept-store-export", "version": 1, "as": format, "of": hash_json(identify(store))}
    if not store.lengths.any():
        raise ValueError(f"{store.path} holds no rows")
    if report is not None:
        empty = int((store.lengths == 0).sum())
        report.count("documents without a row left out, which have no place in a table of rows", empty)
    if _is_there(out, mark):
        return
    work = hidden(out)
    work.mkdir(parents=True, exist_ok=True)
    with lock(work), told_when_full(work):
        _begin(work, mark)
        with show_bar("exporting", int(store.lengths.sum(dtype=np.int64)), visible=progress) as advance:
            _WRITERS[format](store, work, advance)
        work.replace(out)
        (out / ".lock").unlink()
        sync_folder(out.parent)


def import_store(
    path: Path,
    out: Path,
    *,
    encoder: str | None = None,
    text_column: str = "text",
    concept_column: str = "concept",
    document_column: str | None = None,
    report: ReadReport | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> ConceptStore:
    """Writes rows that have their concepts already into a store and returns it; safe to kill and to run again.

    What `export_store` wrote comes back bit for bit, also where rows or documents were taken out of it since; documents
    stay in their split. Any other Parquet file, folder of them, or data set saved by `datasets` needs a column of
    texts, one of concepts, and the name of the encoder that made these; it may have columns document, level, role,
    title, source, licence and language.

    Args:
        path: of the Parquet file or folder, or of the data set.
        out: folder of the new store.
        encoder: as `load_encoder` takes it; its fingerprint and width are asked, and for the concept that ends a text,
            if the rows do not come with it; nothing else is encoded.
        text_column: name of the column of sentences.
        concept_column: name of the column of concepts, lists of numbers.
        document_column: name of the column, of numbers or texts, that changes where the next document begins; without
            one each file is a document.
        report: takes what was left out or guessed.
        shard_bytes: a shard ends with the document that reaches this size.
        progress: show a bar on stderr.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no encoder is named, or another one; a missing text, NaN or another width, by file and row.
    """
    path, out = Path(path), Path(out)
    report = ReadReport() if report is None else report
    refuse_inside(out, [path])
    intake = Intake(path, Columns(text_column, concept_column, document_column), report)
    own = intake.own
    if own is None and encoder is None:
        raise ValueError(f"{path} does not say which encoder its concepts are of; name it with --encoder")
    made_by = None if encoder is None else load_encoder(encoder)
    if own is None:
        assert made_by is not None
        fingerprint, name, dim = made_by.fingerprint, made_by.name, made_by.dim
    else:
        fingerprint, name, dim = own["encoder"], own["encoder_name"], own["dim"]
        if made_by is not None and made_by.fingerprint != fingerprint:
            raise ValueError(
                f"{path} holds concepts of {name} ({fingerprint}), not of {made_by.name} ({made_by.fingerprint})"
            )
    if made_by is not None and KEY not in intake.settings:
        intake.settings[KEY] = describe_end(made_by.encode([END_OF_TEXT])[0])
    making = Making(
        fingerprint,
        name,
        dim,
        hash_json(["import", fingerprint, intake.identify()]),
        keep_splits=own is not None,
        settings=intake.settings,
    )
    documents, total = intake.documents(dim), intake.num_rows
    return write_store(
        documents, out, making, verb="importing", total=total, shard_bytes=shard_bytes, progress=progress
    )


def _is_there(out: Path, mark: dict[str, Any]) -> bool:
    """Says whether the export is there already; raises ValueError if something else is."""
    if not out.exists():
        return False
    if out.is_dir() and (out / MARK).is_file() and read_json(out / MARK) == mark:
        return True
    if not out.is_dir() or any(out.iterdir()):
        raise ValueError(f"{out} is there already and is not this export; choose another name or delete it")
    return False


def _begin(work: Path, mark: dict[str, Any]) -> None:
    """Leaves in a folder what a killed run of the same export finished, and nothing else."""
    begun = (work / MARK).is_file()
    if not begun and (others := [file.name for file in work.iterdir() if not file.name.startswith(".")]):
        raise ValueError(f"{work}, where the export would be written first, holds {min(others)}; delete it")
    if not begun or read_json(work / MARK) != mark:
        for file in sorted(work.iterdir(), reverse=True):  # the mark goes last: it says that the others are ours
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name != ".lock":
                file.unlink()
        write_json(work / MARK, mark)
    for folder in (work, *(file for file in work.iterdir() if file.is_dir())):
        sweep_hidden(folder)


def _write_parquet(store: ConceptStore, work: Path, advance: Callable[[int], None]) -> None:
    import pyarrow.parquet as pq

    for index, (first, stop) in enumerate(bound_shards(store)):
        shard = _ShardTable(store, index, first, stop)
        file = work / f"{shard.index:05d}.parquet"
        if not file.exists():
            with told_when_full(work):
                table = shard.table(np.arange(len(shard.documents)))
                pq.write_table(
                    table.replace_schema_metadata({METADATA: _metadata(store)}),
                    hidden(file),
                    row_group_size=_ROW_GROUP,
                    compression="zstd",
                    use_dictionary=list(_REPEATING),
                    write_page_checksum=True,
                )
                publish(file)
        advance(len(shard.documents))


def _write_data_set(store: ConceptStore, work: Path, advance: Callable[[int], None]) -> None:
    """Writes the files that `DatasetDict.save_to_disk` would, which cannot write before it has all rows elsewhere."""
    from datasets import Features

    files = {name: _data_files(store, code) for code, name in enumerate(SPLITS)}
    features = None
    for index, (first, stop) in enumerate(bound_shards(store)):
        shard = _ShardTable(store, index, first, stop)
        codes = store.documents.splits[shard.documents]
        for code in np.unique(codes).tolist():
            file = work / SPLITS[code] / files[SPLITS[code]][shard.index]
            file.parent.mkdir(exist_ok=True)
            if file.exists() and features is not None:
                continue
            table = shard.table(np.flatnonzero(codes == code))
            features = features or Features.from_arrow_schema(table.schema)
            with (
                told_when_full(file.parent),
                pa.OSFile(str(hidden(file)), "wb") as sink,
                pa.ipc.new_stream(sink, features.arrow_schema) as writer,
            ):
                writer.write_table(table.cast(features.arrow_schema), max_chunksize=_BATCH)
            publish(file)
        advance(len(shard.documents))
    assert features is not None  # the store has rows
    for name, own in files.items():
        if own:
            _describe_split(work / name, name, list(own.values()), features.to_dict(), _metadata(store))
    write_json(work / "dataset_dict.json", {"splits": [name for name, own in files.items() if own]})


_WRITERS = {"parquet": _write_parquet, "dataset": _write_data_set}


def _data_files(store: ConceptStore, code: int) -> dict[int, str]:
    """Returns the file that holds the rows of a split, for each shard that has some."""
    chosen = (store.documents.splits == code) & (store.lengths > 0)
    shards = np.unique(store.documents.shards[chosen]).tolist()
    return {shard: f"data-{number:05d}-of-{len(shards):05d}.arrow" for number, shard in enumerate(shards)}


def _describe_split(folder: Path, name: str, files: list[str], features: dict[str, Any], description: str) -> None:
    """Writes what `datasets` reads beside the rows of a split."""
    about = {"description": description, "citation": "", "homepage": "", "license": "", "features": features}
    write_json(folder / "dataset_info.json", about)
    state: dict[str, Any] = {
        "_data_files": [{"filename": file} for file in files],
        "_fingerprint": hash_json([description, name])[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": name,
    }
    write_json(folder / "state.json", state)


def _metadata(store: ConceptStore) -> str:
    """Returns what an export says of its store, as JSON under the name that `data.transfer.intake` looks for."""
    names = ("encoder", "encoder_name", "dim", "dtype", "splitter", "max_chars", "num_documents", "num_sentences")
    said = {name: store.manifest[name] for name in names} | end_of(store.manifest)
    return json.dumps({METADATA: {"version": 1} | said}, ensure_ascii=False)


class _ShardTable:
    """The rows of a shard with all that is said of their documents.

    Attributes:
        index: number of the shard.
        documents: number of the document of each row, int32 (N,).
    """

    def __init__(self, store: ConceptStore, index: int, first: int, stop: int) -> None:
        self.store, self.index = store, index
        self._shard = StoreShard(store, index)
        self._first, self._lengths = first, store.lengths[first:stop]
        self.documents = np.repeat(np.arange(first, stop, dtype=np.int32), self._lengths)

    def table(self, rows: np.ndarray) -> pa.Table:
        """Returns these rows, int64 (N,) rising."""
        found = self._shard.take(rows)
        catalog, numbers = self.store.documents, self.documents[rows]
        positions = np.arange(len(self.documents)) - np.repeat(np.cumsum(self._lengths) - self._lengths, self._lengths)
        columns = {
            "document": pa.array(numbers),
            "position": pa.array(positions[rows].astype(np.int32)),
            "text": found.texts,
            "concept": pa.FixedSizeListArray.from_arrays(pa.array(found.concepts.reshape(-1)), self.store.dim),
            "level": pa.array(found.levels),
            "role": found.roles,
        }
        for name in TEXTS:
            described = catalog.column(name).slice(self._first, len(self._lengths)).combine_chunks()
            columns[name] = described.take(pa.array(numbers - self._first))
        columns["split"] = pa.array(SPLITS).take(pa.array(catalog.splits[numbers]))
        return pa.table(columns)
