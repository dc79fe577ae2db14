"""Which documents of a store are kept, and which of their rows."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from data.report import ReadReport
from data.store import ConceptStore
from data.transfer.taken import StoreShard, Taken

Condition = Callable[[Taken], bool]


def on_columns(store: ConceptStore, split: str | None, **wanted: Sequence[str] | None) -> dict[str, Condition]:
    """Returns the conditions on columns of the catalog, by what is said of a document that does not fit.

    Raises:
        ValueError: no document meets one of them.
    """
    conditions: dict[str, Condition] = {}
    for plural, patterns in wanted.items():
        if patterns is None:
            continue
        name = plural.removesuffix("s")
        there = store.documents.different(name)
        fitting = {value for value in there if any(value == p or fnmatchcase(value, p) for p in patterns)}
        for pattern in patterns:
            if not any(value == pattern or fnmatchcase(value, pattern) for value in there):
                raise ValueError(f'no document of {store.path} has the {name} "{pattern}"; there are {some(there)}')
        conditions[f"of another {name}"] = _is_one_of(name, fitting)
    if split is not None:
        if not len(store.split(split)):
            raise ValueError(f'no document of {store.path} is in the split "{split}"')
        conditions["of another split"] = lambda found: found.described["split"] == split
    return conditions


def _is_one_of(name: str, values: set[str]) -> Condition:
    return lambda found: found.described[name] in values


def on_titles(titles: str | None) -> dict[str, Condition]:
    """Returns the condition that a regular expression is found in the title, as `on_columns` does.

    Raises:
        ValueError: it is none.
    """
    if titles is None:
        return {}
    try:
        pattern = re.compile(titles)
    except re.error as error:
        raise ValueError(f"{titles!r} is no regular expression: {error}") from error
    return {"of another title": lambda found: pattern.search(found.described["title"]) is not None}


def on_lengths(at_least: int | None, at_most: int | None) -> dict[str, Condition]:
    """Returns the conditions on the number of rows, as `on_columns` does."""
    conditions: dict[str, Condition] = {}
    if at_least is not None:
        conditions[f"of fewer than {at_least} rows"] = lambda found: found.num_rows >= at_least
    if at_most is not None:
        conditions[f"of more than {at_most} rows"] = lambda found: found.num_rows <= at_most
    return conditions


def keep(documents: Iterator[Taken], conditions: dict[str, Condition], report: ReadReport) -> Iterator[Taken]:
    """Yields the documents that meet all conditions; of the others, the first one that they do not meet is noted."""
    num_documents: Counter[str] = Counter()
    num_rows: Counter[str] = Counter()
    for document in documents:
        for reason, fits in conditions.items():
            if not fits(document):
                num_documents[reason] += 1
                num_rows[reason] += document.num_rows
                break
        else:
            yield document
    for reason, number in num_documents.items():
        report.note(f"{number:,} documents {reason} ({num_rows[reason]:,} rows) left out")


def drop_rows(
    documents: Iterator[Taken], roles: Sequence[str], levels: Sequence[int], report: ReadReport
) -> Iterator[Taken]:
    """Yields documents without their rows of some roles and levels, and not at all where nothing is left of them."""
    shard: StoreShard | None = None
    out = np.zeros(0, np.bool_)
    found: Counter[str] = Counter()
    num_emptied = 0
    for document in documents:
        ((origin, rows),) = document.pieces
        assert isinstance(origin, StoreShard)
        if origin is not shard:
            shard = origin
            encoded = shard.rows.roles.dictionary_encode()
            codes = [code for code, role in enumerate(encoded.dictionary.to_pylist()) if role in roles]
            out = np.isin(encoded.indices.to_numpy(), codes) | np.isin(shard.rows.levels, levels)
        gone, left = rows[out[rows]], rows[~out[rows]]
        for role, level in zip(shard.rows.roles.take(gone).to_pylist(), shard.rows.levels[gone].tolist(), strict=True):
            found[f"rows of role {role} left out" if role in roles else f"rows of level {level} left out"] += 1
        if len(gone) and not len(left):
            num_emptied += 1
        else:
            yield replace(document, pieces=[(origin, left)])
    for what, number in found.items():
        report.count(what, number)
    for role in roles:
        if not found[f"rows of role {role} left out"]:
            report.note(f'no row has the role "{role}"')
    report.count("documents left out that lost all rows", num_emptied)


def some(values: Iterable[str]) -> str:
    """Returns values for a message, the first six of them."""
    shown = [f'"{value}"' for value in values]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
