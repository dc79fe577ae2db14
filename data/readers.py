from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.at_least_one import at_least_one
from data.corpora import CORPORA, find_corpus
from data.cut import Cut, cut_documents
from data.document import Document
from data.formats.files import has_reader, read_path
from data.formats.records import punkt_language
from data.formats.streams import read_data_set
from data.report import ReadReport

if TYPE_CHECKING:
    from data.clean import Cleaning


def read_documents(
    source: str,
    *,
    cut: Cut = "auto",
    language: str = "auto",
    cleaning: "Cleaning | None" = None,
    report: ReadReport | None = None,
) -> Iterator[Document]:
    """Yields the documents of a corpus, which may be larger than memory and, from the hub, than the disk.

    Args:
        source: a named corpus ("grimm", "shakespeare", ...), a path to a file (text, Markdown, HTML, EPUB, subtitles,
            YAML scenes, JSON lines, JSON, Parquet) or to a folder of them, or a Hugging Face data set ("owner/name", or
            "owner/name:configuration"), which is streamed, split after split.
        cut: whether books are cut at their chapters: "auto" does so below ten documents, "chapter" always, "never" not.
        language: of every document ("russian" or "ru"); "auto" takes what the document says, and else its script.
        cleaning: what is done to texts before they are cut; None is the default `Cleaning()`.
        report: takes what was left out, repaired or cut; it is complete when the last document was read.

    Raises:
        FileNotFoundError: no such file or data set, or no network to look for it.
        ValueError: no such corpus, or nothing in it that can be read.
        data.named.packages.FetchError: a named corpus cannot be fetched.
    """
    from data.clean import Cleaning, clean_documents

    report = ReadReport() if report is None else report
    documents = _read_source(source, report)
    if language != "auto":
        documents = (replace(document, language=punkt_language(language)) for document in documents)
    documents = clean_documents(documents, Cleaning() if cleaning is None else cleaning, report)
    error = f"nothing is left of {source} after cleaning; clean it less"
    yield from at_least_one(cut_documents(documents, cut, report), error)


def _read_source(source: str, report: ReadReport) -> Iterator[Document]:
    path = Path(source)
    if source in CORPORA:
        return iter(find_corpus(source).documents(report))
    if path.exists():
        return read_path(path, report)
    if has_reader(source) or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no file or folder {source}")
    if "/" in source:
        return read_data_set(source, report)
    return iter(find_corpus(source).documents(report))  # raises, and names the corpora that there are
