"""Tables of results: rows of plain values and intervals to Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from lcm.metrics import Interval

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


def _plain(value: Value) -> object:
    if isinstance(value, Interval):
        return {name: _plain(part) for name, part in asdict(value).items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
