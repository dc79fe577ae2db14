"""Tables of results: rows of plain values and intervals to Markdown, the terminal, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lcm.metrics import Interval

if TYPE_CHECKING:
    from rich.table import Table

Value: TypeAlias = str | int | float | bool | Interval | None
Row: TypeAlias = Mapping[str, Value]


def to_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table, columns padded so that it reads well as plain text, numbers to the right."""
    names = columns(rows)
    cells = [[format_value(row.get(name)).replace("|", "\\|") for name in names] for row in rows]
    heads = [name.replace("|", "\\|") for name in names]
    right = [_is_numeric(rows, name) for name in names]
    widths = [max(3, *map(len, column)) for column in zip(heads, *cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(texts, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + ":" if to_right else "-" * width for width, to_right in zip(widths, right, strict=True)]
    return "\n".join([line(heads), line(rule), *map(line, cells)]) + "\n"


def to_rich(rows: Sequence[Row], title: str | None = None) -> Table:
    """A rich table to print on a console."""
    from rich.table import Table
    from rich.text import Text

    names = columns(rows)
    table = Table(title=title)
    for name in names:
        table.add_column(Text(name), justify="right" if _is_numeric(rows, name) else "left")
    for row in rows:
        table.add_row(*(Text(format_value(row.get(name))) for name in names))
    return table


def write_csv(rows: Sequence[Row], path: Path | str) -> None:
    """Write rows as CSV in full precision; an interval fills four columns: mean, half width, positions, documents."""
    flat = [_flatten(row) for row in rows]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns(flat), restval="")
        writer.writeheader()
        writer.writerows(flat)


def write_json(rows: Sequence[Row], path: Path | str) -> None:
    """Write rows as a JSON list; an interval becomes an object, NaN and infinity become null."""
    records = [{name: _plain(value) for name, value in row.items()} for row in rows]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of all columns, in the order in which they first appear.

    Raises:
        ValueError: there are no rows, or none has a column.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise ValueError("the table is empty; give at least one row with a column")
    return names


def format_value(value: Value) -> str:
    """Text of a cell: `0.712 ± 0.013`, three decimals for other fractions, 2,000 for whole numbers, `-` for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool | str | Interval):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value and math.isfinite(value) and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.3f}"


def _is_numeric(rows: Sequence[Row], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and not any(isinstance(value, str | bool) for value in values)


def _flatten(row: Row) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, Interval):
            flat[name] = value.mean
            flat[f"{name}_half_width"] = "" if math.isnan(value.half_width) else value.half_width
            flat[f"{name}_positions"], flat[f"{name}_documents"] = value.num_positions, value.num_documents
        else:
            flat[name] = "" if value is None else value
    return flat


def _plain(value: Value) -> object:
    if isinstance(value, Interval):
        return {name: _plain(part) for name, part in asdict(value).items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
