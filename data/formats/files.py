"""Read documents out of files of every kind, or out of a folder of them; one document is in memory at a time."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data.at_least_one import at_least_one
from data.document import Block, Document
from data.formats.records import WANTED
from data.formats.streams import is_saved, read_saved
from data.formats.tables import DAMAGED, MAX_RECORD, open_bytes, read_json, read_json_lines, read_parquet
from data.prose import read_prose
from data.report import ReadReport

_MAX_NOTED = 10  # files left out that are named; the rest is counted


def read_path(path: Path, report: ReadReport) -> Iterator[Document]:
    """Yields the documents of a file or of a folder, which is searched in order of path, hidden files left out.

    A folder may also be one that `datasets` saved. In a folder, a file that is damaged or no corpus is noted and left
    out.

    Raises:
        ValueError: an empty file, an ending that has no reader, a folder without anything that can be read.
    """
    if not path.is_dir():
        yield from _read_file(path, path.name, report)
        return
    documents = read_saved(path, path.name, report) if is_saved(path) else _read_folder(path, report)
    error = f"the folder {path} holds no readable text; a file may be {', '.join(ENDINGS)}"
    yield from at_least_one(documents, error)


def has_reader(name: str) -> bool:
    """Says whether a file of that name can be read, going by its ending."""
    return _ending(name) in _READERS


def _read_folder(path: Path, report: ReadReport) -> Iterator[Document]:
    num_failed = 0
    for name in _choose(_list_files(path, report), report):
        num_read = 0
        try:
            for document in _read_file(path / name, name, report):
                num_read += 1
                yield document
        except (ValueError, OSError) as error:
            num_failed += 1
            if num_failed <= _MAX_NOTED:
                part = f" behind its first {num_read:,} documents" if num_read else ""
                report.note(f"left out {name}{part}: {error}")
    report.count(f"more files left out, as the {_MAX_NOTED} named above", max(0, num_failed - _MAX_NOTED))


def _list_files(path: Path, report: ReadReport) -> list[str]:
    """Returns the files below a folder by their paths inside it, sorted; what is hidden is not entered."""
    found: list[tuple[str, ...]] = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        report.count("folders that are links left out", sum(Path(folder, name).is_symlink() for name in folders))
        parts = Path(folder).relative_to(path).parts
        found += [(*parts, name) for name in files if not name.startswith(".")]
    return ["/".join(parts) for parts in sorted(found)]


def _choose(names: Sequence[str], report: ReadReport) -> list[str]:
    """Returns the files that have a reader; a README beside records describes them and is no part of the corpus."""
    unknown = Counter(_ending(name) or "no ending" for name in names if _ending(name) not in _READERS)
    for ending, number in sorted(unknown.items()):
        report.count(f"files left out for which there is no reader ({ending})", number)
    known = [name for name in names if _ending(name) in _READERS]
    if not any(_ending(name) in _RECORDS for name in known):
        return known
    cards = [name for name in known if name.rpartition("/")[2].lower() == "readme.md"]
    report.count("README.md left out, which describes a data set", len(cards))
    return [name for name in known if name not in set(cards)]


def _read_file(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    ending = _ending(path.name)
    reader = _READERS.get(ending)
    if reader is None:
        raise ValueError(f"{path} ends in none of {', '.join(ENDINGS)}; convert it to one of them")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    yield from at_least_one(reader(path, name, report), f"{path} holds no {WANTED if ending in _RECORDS else 'text'}")


def _ending(name: str) -> str:
    """Returns the ending of a file in lower case, with what is packed inside: ".txt", ".jsonl.gz"."""
    suffixes = Path(name).suffixes
    return "".join(suffixes[-2 if suffixes[-1].lower() == ".gz" else -1 :]).lower() if suffixes else ""


def _read_text(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    from data.formats.transcripts import looks_like_transcript, read_transcript

    text = _read_all(path, name, report)
    if looks_like_transcript(text):
        return read_transcript(text, name, report)
    return _one_document(read_prose(text, report), name)


def _read_markdown(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    from data.formats.markdown import read_markdown

    return _one_document(read_markdown(_read_all(path, name, report), report), name)


def _read_html(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    from data.formats.hypertext import read_html

    return read_html(path, name, report)


def _read_epub(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    from data.formats.epub import read_epub

    return read_epub(path, name, report)


def _read_subtitles(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    from data.formats.transcripts import read_subtitles

    return read_subtitles(path, name, report)


def _read_scenes(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    from data.formats.scenes import read_scenes

    return read_scenes(path, name, report)


def _read_all(path: Path, name: str, report: ReadReport) -> str:
    """Returns a file's text, its encoding guessed if it is not UTF-8.

    Raises:
        ValueError: an archive that is damaged, or that unpacks to more than a text can be.
    """
    from data.formats.hypertext import decode_text

    try:
        with open_bytes(path) as file:
            content = file.read(MAX_RECORD)
            if path.suffix.lower() == ".gz" and len(content) == MAX_RECORD:
                raise ValueError(f"{path} unpacks to more than {MAX_RECORD >> 20} MiB; that is no text")
            return decode_text(content + file.read(), name, report)
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def _one_document(blocks: list[Block], name: str) -> Iterator[Document]:
    if blocks:
        title = blocks[0].text if blocks[0].level == 4 else Path(name.removesuffix(".gz")).stem
        yield Document(title, tuple(blocks), name)


_READERS: Mapping[str, Callable[[Path, str, ReadReport], Iterator[Document]]] = {
    ".txt": _read_text,
    ".txt.gz": _read_text,
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".xhtml": _read_html,
    ".epub": _read_epub,
    ".srt": _read_subtitles,
    ".vtt": _read_subtitles,
    ".yaml": _read_scenes,
    ".yml": _read_scenes,
    ".jsonl": read_json_lines,
    ".jsonl.gz": read_json_lines,
    ".ndjson": read_json_lines,
    ".ndjson.gz": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
}
_RECORDS = frozenset({".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".parquet"})
ENDINGS = tuple(_READERS)
