"""Stores out of stores: merged, filtered and split, every concept copied bit for bit and none encoded again."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from data.at_least_one import at_least_one
from data.durable import lock
from data.end_of_text import end_of
from data.report import ReadReport
from data.split import SPLITS
from data.store import ConceptStore
from data.transfer.conditions import drop_rows, keep, on_columns, on_lengths, on_titles, some
from data.transfer.gather import SHARD_BYTES, Making, hash_json, refuse_inside, write_store
from data.transfer.taken import Taken, documents_of, identify, keeps_splits, open_source


def merge_stores(
    paths: Sequence[Path],
    out: Path,
    *,
    duplicates: Literal["drop", "keep"] = "drop",
    report: ReadReport | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> ConceptStore:
    """Writes the documents of several stores into one, in order, and returns it; safe to kill and to run again.

    A document's split follows its key, so that it stays in its split, whatever it is merged with; only one that a
    small store had moved, because a split was empty there, goes back. Where one of the stores keeps its splits (it is a
    part of a store), every document keeps the split it has, and equal documents that of the first.

    Args:
        paths: stores of one encoder.
        out: folder of the new store.
        duplicates: documents of equal title and text are kept once ("drop") or all ("keep").
        report: takes what was left out.
        shard_bytes: a shard ends with the document that reaches this size.
        progress: show a bar on stderr.

    Raises:
        ValueError: no stores, stores of different encoders, a half-written or damaged one, `out` is one of them.
    """
    report = ReadReport() if report is None else report
    if not paths:
        raise ValueError("there are no stores to merge")
    stores = [open_source(path) for path in paths]
    _refuse_other_encoder(stores)
    refuse_inside(out, [store.path for store in stores])
    originals, first_splits = _find_originals(stores)
    taken = originals if duplicates == "drop" else np.ones_like(originals)
    splits = np.concatenate([store.documents.splits for store in stores])
    lengths = np.concatenate([store.lengths for store in stores])
    keep_splits = any(keeps_splits(store) for store in stores)
    if not taken.all():
        gone = lengths[~taken]
        report.note(
            f"{len(gone):,} documents ({gone.sum(dtype=np.int64):,} rows) left out whose title and text came before"
        )
    if keep_splits:
        report.count("documents are in another split the first time, which holds", int((splits != first_splits).sum()))

    def documents() -> Iterator[Taken]:
        number = 0
        for store in stores:
            for document in documents_of(store):
                if taken[number]:
                    split = SPLITS[first_splits[number]]
                    yield replace(document, number=number, described={**document.described, "split": split})
                number += 1

    making = _make_like(stores, ["merge", duplicates], keep_splits)
    total = int(lengths[taken].sum(dtype=np.int64))
    return write_store(
        documents(), Path(out), making, verb="merging", total=total, shard_bytes=shard_bytes, progress=progress
    )


def filter_store(
    path: Path,
    out: Path,
    *,
    sources: Sequence[str] | None = None,
    titles: str | None = None,
    split: Literal["train", "validation", "test"] | None = None,
    licences: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    min_sentences: int | None = None,
    max_sentences: int | None = None,
    roles_out: Sequence[str] = (),
    levels_out: Sequence[int] = (),
    report: ReadReport | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> ConceptStore:
    """Writes the documents that fit all conditions into a new store and returns it; safe to kill and to run again.

    Splits follow the documents' keys, as if only these had been encoded. Taken out of one split, or out of a store that
    keeps its splits, the documents stay where they are. A document that loses rows keeps its key.

    Args:
        path: of the store.
        out: folder of the new store.
        sources: where documents come from, as "lcm info" shows it; "*" and "?" stand for others: "novels/*".
        titles: regular expression that is found in the title.
        split: of the documents.
        licences: of the documents; "*" as above.
        languages: of the documents.
        min_sentences: rows that a document has at least, after those of `roles_out` and `levels_out` went.
        max_sentences: rows that it has at most.
        roles_out: rows of these roles are left out.
        levels_out: rows of these levels are left out.
        report: takes what was left out, and why.
        shard_bytes: a shard ends with the document that reaches this size.
        progress: show a bar on stderr.

    Raises:
        ValueError: no condition, one that nothing in the store can meet, or nothing is left.
    """
    report = ReadReport() if report is None else report
    store = open_source(path)
    refuse_inside(out, [store.path])
    conditions = on_columns(store, split, sources=sources, licences=licences, languages=languages) | on_titles(titles)
    bounds = on_lengths(min_sentences, max_sentences)
    if not (conditions or bounds or roles_out or levels_out):
        raise ValueError("there is nothing to filter by; give a condition such as sources or min_sentences")
    if absent := set(map(str, levels_out)) - store.manifest["levels"].keys():
        raise ValueError(f"no row is of level {', '.join(sorted(absent))}; there are {some(store.manifest['levels'])}")
    selection: list[Any] = [sources, titles, split, licences, languages, min_sentences, max_sentences]
    selection += [sorted(roles_out), sorted(levels_out)]
    making = _make_like([store], ["filter", selection], keeps_splits(store) or split is not None)
    kept = keep(documents_of(store), conditions, report)
    if roles_out or levels_out:
        kept = drop_rows(kept, roles_out, levels_out, report)
    kept = at_least_one(keep(kept, bounds, report), f"nothing is left: no document of {store.path} fits all conditions")
    return write_store(kept, Path(out), making, verb="filtering", shard_bytes=shard_bytes, progress=progress)


def split_store(
    path: Path,
    out: Path,
    *,
    by: Literal["split"] | int = "split",
    report: ReadReport | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> dict[str, ConceptStore]:
    """Writes the documents of a store into several and returns these by name; safe to kill and to run again.

    Every document stays in the split it has, in these stores and in what is merged of them.

    Args:
        path: of the store.
        out: folder of the new stores.
        by: "split" makes "train", "validation" and "test"; a number makes as many parts, "0", "1" and so on, of about
            equally many rows, each of documents that follow each other.
        report: takes the splits that hold no document.
        shard_bytes: a shard ends with the document that reaches this size.
        progress: show a bar on stderr.

    Raises:
        ValueError: more parts than documents, or `out` holds something else.
    """
    store, out = open_source(path), Path(out)
    refuse_inside(out, [store.path])
    parts = _parts_by_split(store, report) if by == "split" else _parts_by_size(store, by)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; stores are folders")
    if out.is_dir() and (others := {file.name for file in out.iterdir()} - {*parts, ".lock"}):
        raise ValueError(f"{out} holds other files, such as {min(others)}; choose an empty or a new folder")
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, ConceptStore] = {}
    with lock(out):
        for name, chosen in parts.items():
            making = _make_like([store], ["split", by, name], keep_splits=True)
            documents = (document for document in documents_of(store) if chosen[document.number])
            total = int(store.lengths[chosen].sum(dtype=np.int64))
            made[name] = write_store(
                documents, out / name, making, verb=name, total=total, shard_bytes=shard_bytes, progress=progress
            )
    return made


def _make_like(stores: Sequence[ConceptStore], selection: list[Any], keep_splits: bool) -> Making:
    """Returns what a store is made as that takes its documents from others."""
    splitters = dict.fromkeys(str(store.manifest["splitter"]) for store in stores)
    ends = [end for store in stores if (end := end_of(store.manifest))]  # of one encoder, so any of them is that of all
    return Making(
        encoder=stores[0].encoder,
        encoder_name=stores[0].encoder_name,
        dim=stores[0].dim,
        recipe=hash_json([selection, [identify(store) for store in stores]]),
        keep_splits=keep_splits,
        settings={
            "splitter": " and ".join(splitters),
            "max_chars": max(store.manifest["max_chars"] for store in stores),
            **(ends[0] if ends else {}),
        },
    )


def _refuse_other_encoder(stores: Sequence[ConceptStore]) -> None:
    for store in stores[1:]:
        if store.encoder != stores[0].encoder:
            raise ValueError(
                f"{stores[0].path} was encoded by {stores[0].encoder_name} ({stores[0].encoder}), {store.path} by "
                f"{store.encoder_name} ({store.encoder}); only stores of one encoder can be merged"
            )


def _find_originals(stores: Sequence[ConceptStore]) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each document of all stores whether no one before has its key, and the split of the one that has.

    Returns:
        bool (N,) and indices in SPLITS, int8 (N,).
    """
    keys = pa.chunked_array([chunk for store in stores for chunk in store.documents.column("key").chunks])
    encoded = keys.cast(pa.large_string()).dictionary_encode()  # codes rise in the order in which keys come first
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    originals = np.concatenate([[True], codes[1:] > np.maximum.accumulate(codes)[:-1]])
    splits = np.concatenate([store.documents.splits for store in stores])
    return originals, splits[originals][codes]


def _parts_by_split(store: ConceptStore, report: ReadReport | None) -> dict[str, np.ndarray]:
    """Returns for each split that holds documents which they are, bool (N,)."""
    parts = {name: store.documents.splits == code for code, name in enumerate(SPLITS)}
    for name, chosen in parts.items():
        if report is not None and not chosen.any():
            report.note(f'no document is in the split "{name}"; there is no store of it')
    return {name: chosen for name, chosen in parts.items() if chosen.any()}


def _parts_by_size(store: ConceptStore, num_parts: int) -> dict[str, np.ndarray]:
    """Returns for each part which documents it holds, bool (N,): at least one, and the parts of about equal size."""
    if not 1 <= num_parts <= len(store):
        raise ValueError(f"{len(store)} documents cannot be split into {num_parts} parts, each of whole documents")
    ends = np.cumsum(store.lengths, dtype=np.int64)
    middles = ends - store.lengths / 2
    cuts = np.searchsorted(middles, ends[-1] * np.arange(1, num_parts) / num_parts)
    steps = np.arange(1, num_parts)
    cuts = np.maximum.accumulate(np.maximum(cuts, 1) - steps) + steps  # no two alike
    cuts = np.minimum(cuts, len(store) - num_parts + steps)
    numbers = np.searchsorted(cuts, np.arange(len(store)), side="right")
    return {str(part): numbers == part for part in range(num_parts)}
