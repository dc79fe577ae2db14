"""The verbs of the command line that turn stores into stores, and into what others read; heavy imports inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from lcm.console import say


def merge(stores: list[str], *, out: Path, duplicates: Literal["drop", "keep"] = "drop") -> None:
    """Write the documents of several stores into one, without encoding them again; run it again to finish it.

    Documents stay in their split: it follows their text, whatever they are merged with.

    Args:
        stores: folders of stores of one encoder, as in "lcm merge A B C --out OUT".
        out: folder of the new store.
        duplicates: whether documents of equal title and text are kept once ("drop") or as often as they come ("keep").
    """
    from data.report import ReadReport
    from data.transfer.rewrite import merge_stores

    report = ReadReport()
    merged = merge_stores([Path(store) for store in stores], out, duplicates=duplicates, report=report)
    say(report.lines())
    _show(merged.path)


def filter_documents(
    store: Path,
    *,
    out: Path,
    sources: list[str] | None = None,
    titles: str | None = None,
    split: Literal["train", "validation", "test"] | None = None,
    licences: list[str] | None = None,
    languages: list[str] | None = None,
    min_sentences: int | None = None,
    max_sentences: int | None = None,
    roles_out: list[str] | None = None,
    levels_out: list[int] | None = None,
) -> None:
    """Write the documents that fit all conditions into a new store, without encoding them again.

    Args:
        store: folder of a store.
        out: folder of the new store.
        sources: where documents come from, as "lcm info" shows it; one or several, "*" stands for anything: "novels/*".
        titles: regular expression that is found in the title.
        split: split that documents are in; they stay there.
        licences: licences of documents, one or several, "*" as above.
        languages: languages of documents, one or several.
        min_sentences: rows that a document has at least, after those of --roles-out and --levels-out went.
        max_sentences: rows that it has at most.
        roles_out: roles whose rows are left out, one or several, such as summary.
        levels_out: levels whose rows are left out, one or several (1 scene, 2 chapter, 3 part, 4 book).
    """
    from data.report import ReadReport
    from data.transfer.rewrite import filter_store

    report = ReadReport()
    try:
        made = filter_store(
            store,
            out,
            sources=sources,
            titles=titles,
            split=split,
            licences=licences,
            languages=languages,
            min_sentences=min_sentences,
            max_sentences=max_sentences,
            roles_out=roles_out or (),
            levels_out=levels_out or (),
            report=report,
        )
    finally:
        say(report.lines())  # also where nothing is left: it says why
    _show(made.path)


def split(store: Path, *, out: Path, parts: int | None = None) -> None:
    """Write a store as several, one a split (train, validation, test) or in parts for several machines.

    Documents stay in the split they have; "lcm merge" puts the stores together again.

    Args:
        store: folder of a store.
        out: folder of the new stores: OUT/train, OUT/validation, OUT/test, or OUT/0, OUT/1 and so on.
        parts: number of parts of about equally many rows; one store a split if not given.
    """
    from data.report import ReadReport
    from data.transfer.rewrite import split_store

    report = ReadReport()
    made = split_store(store, out, by="split" if parts is None else parts, report=report)
    say(report.lines())
    for number, part in enumerate(made.values()):
        sys.stdout.write("\n" if number else "")
        _show(part.path)


def export(store: Path, *, out: Path, format: Literal["parquet", "dataset"] = "parquet") -> None:
    """Write a store as Parquet files or as a data set of `datasets`, a row for each sentence.

    Args:
        store: folder of a store.
        out: folder to write; it gets its name when all is written.
        format: "parquet", or "dataset", which `datasets.load_from_disk` opens.
    """
    from data.report import ReadReport
    from data.store import ConceptStore
    from data.transfer.exchange import export_store

    report = ReadReport()
    export_store(store, out, format=format, report=report)
    say(report.lines())
    manifest = ConceptStore.open(store).manifest
    num_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    sys.stdout.write(
        f"{out}: {manifest['num_sentences']:,} rows of {manifest['num_documents']:,} documents as {format}, "
        f"{num_bytes / 1e6:.1f} MB\n"
    )


def import_rows(
    path: Path,
    *,
    out: Path,
    encoder: str | None = None,
    text_column: str = "text",
    concept_column: str = "concept",
    document_column: str | None = None,
) -> None:
    """Write rows that have their concepts already, from "lcm export" or from elsewhere, into a store.

    Args:
        path: Parquet file, folder of such, or data set saved by `datasets`.
        out: folder of the new store.
        encoder: name of the encoder that made the concepts, as for "lcm encode"; what "lcm export" wrote says it
            itself. Nothing is encoded.
        text_column: name of the column of sentences.
        concept_column: name of the column of concepts, lists of numbers.
        document_column: name of the column that changes where the next document begins; without one each file is a
            document.
    """
    from data.report import ReadReport
    from data.transfer.exchange import import_store

    report = ReadReport()
    made = import_store(
        path,
        out,
        encoder=encoder,
        text_column=text_column,
        concept_column=concept_column,
        document_column=document_column,
        report=report,
    )
    say(report.lines())
    _show(made.path)


def foretell(
    store: Path,
    *,
    model: Path,
    out: Path,
    splits: list[Literal["train", "validation", "test"]] | None = None,
    precision: Literal["bf16", "32"] = "bf16",
    seed: int = 0,
    sampling: dict[str, int | float | str] | None = None,
) -> None:
    """Write what a model predicts for every sentence from the true ones before it, for a decoder to be trained on.

    Give the folder to "lcm fit -c configs/decoder.yaml -c configs/predicted.yaml" as --data.predicted. It gets its name
    when it is whole; a run that was cut short goes on when it is run again.

    Args:
        store: folder that "lcm encode" wrote.
        model: checkpoint of a concept model.
        out: folder to write, the size of the store's concepts.
        splits: documents that are predicted, one or several of train, validation, test; all if not given.
        precision: "bf16" computes as most models are trained, "32" in float32, as "lcm generate" does.
        seed: of the draws, where the model draws.
        sampling: options of the model's head, as of "lcm generate"; give the same to both.
    """
    import torch

    from data.split import SPLITS
    from data.store import ConceptStore
    from lcm.predict_store import Asked, predict_store
    from lcm.quiet import quiet

    quiet()
    asked = Asked(model, splits or SPLITS, sampling or {}, seed, precision == "bf16")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = predict_store(ConceptStore.open(store), out, asked, device=device).manifest
    sys.stdout.write(
        f"{out}: {found['predicted']:,} sentences of {', '.join(found['splits'])} predicted, {found['without']:,} with "
        f"nothing before them keep their concept; {found['level']:.1%} of a prediction's variance is noise\n"
    )


def _show(path: Path) -> None:
    from data.describe import describe_store
    from data.store import ConceptStore

    sys.stdout.write(describe_store(ConceptStore.open(path)) + "\n")


STORE_TOOLS: dict[str, Any] = {
    "merge": merge,
    "filter": filter_documents,
    "split": split,
    "export": export,
    "import": import_rows,
    "foretell": foretell,
}
