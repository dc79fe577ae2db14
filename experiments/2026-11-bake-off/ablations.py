"""What ablations.sh asks of ablations.yaml: how each row is trained, and tables of what was measured of them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from re import search
from typing import Any

import yaml
from jsonargparse import auto_cli
from table import Entry, Row, cells, cost_row, gaps, main_row, read, write_results

from lcm.table import to_markdown

NO_TEXT = ("l2-r", "MI")  # columns of the bake-off that are not measured here


def read_rows(path: Path) -> dict[str, Any]:
    """Return the rows of a file; end where one is compared with a row that is not there."""
    rows: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, row in rows.items():
        if row.get("of", name) not in rows:
            sys.exit(f"{path}: {name} is compared with {row['of']}, which is no row there; name one in `of`")
    return rows


def options(rows: Path, only: str = "") -> None:
    """Write a line for each row: its name, and the overlays and options that it is trained with.

    Args:
        rows: YAML of rows.
        only: regular expression; rows whose name has it, and no others.
    """
    for name, row in read_rows(rows).items():
        if search(only, name):
            sys.stdout.write(f"{name} {row['fit']}\n")


def worth(entries: Sequence[Entry], rows: Mapping[str, Any], positions: Mapping[str, Any]) -> list[Row]:
    """Return what each change is worth: against the same answer of the row that it changes, at the same positions."""
    there = {(entry.name, entry.answer): entry for entry in entries}
    found = []
    for entry in entries:
        base = there.get((rows.get(entry.name, {}).get("of", ""), entry.answer))
        if base is not None:
            row = gaps(entry, [base], positions)
            if not base.values("R@10").nansum():
                row["R@10, factor"] = "of 0"
            found.append({key: row[key] for key in ("row", "answer", "ahead of", "CA, points", "R@10, factor")})
    return found


def tables(rows: Path, measured: Path, out: Path) -> None:
    """Write every cell to a CSV file, and as Markdown the measures, what each change is worth, and the costs.

    Args:
        rows: YAML of rows.
        measured: folder that measure.py filled.
        out: CSV file.
    """
    settings = read_rows(rows)
    positions, entries = read(measured)
    names = [*settings, *(entry.name for entry in entries if not entry.model)]
    entries = sorted((entry for entry in entries if entry.name in names), key=lambda entry: names.index(entry.name))
    if not entries:
        sys.exit(f"nothing in {measured} is of a row of {rows}; let measure.py measure one")
    found = [cells(entry, positions) for entry in entries]
    write_results(out, entries, found)
    models = [entry for entry in entries if entry.model]
    most = max(len(entry.runs) for entry in entries)
    lines = [main_row(entry, some, most) for entry, some in zip(entries, found, strict=True)]
    told = [to_markdown([{key: row[key] for key in row if key not in NO_TEXT} for row in lines])]
    if changes := worth(models, settings, positions):
        told += ["What each change is worth, paired over positions:\n", to_markdown(changes)]
    if models:
        costs = [cost_row(one, {}, most) for one in {entry.name: entry for entry in models}.values()]
        told += ["What the trainings cost:\n", to_markdown([{k: row[k] for k in list(row)[:-1]} for row in costs])]
    if missing := [name for name in settings if name not in {entry.name for entry in models}]:
        told.append(f"Not measured: {', '.join(missing)}.\n")
    sys.stdout.write("\n".join(told))


if __name__ == "__main__":
    auto_cli({"options": options, "tables": tables}, as_positional=False)
