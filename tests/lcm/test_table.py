import json
import math
from pathlib import Path

import pytest

from lcm.metrics import Interval
from lcm.table import Row, to_markdown, write_json

ROWS: list[Row] = [
    {"model": "copy | last", "CA": Interval(0.71234, 0.0129, 4000, 30), "positions": 4000, "won": True},
    {"model": "[bold]corpus mean", "CA": Interval(0.5, math.nan, 20, 1), "positions": 20, "loss": 0.25},
]


def test_markdown_is_aligned() -> None:
    assert to_markdown(ROWS) == (
        "| model             |            CA | positions | won  |  loss |\n"
        "| ----------------- | ------------: | --------: | ---- | ----: |\n"
        "| copy \\| last      | 0.712 ± 0.013 |     4,000 | True |     - |\n"
        "| [bold]corpus mean |         0.500 |        20 | -    | 0.250 |\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (1e-5, "1.00e-05"), (12.34567, "12.346"), (math.nan, "nan"), (2.5e9, "2.50e+09")],
)
def test_fractions(value: float, text: str) -> None:
    assert f"| {text} |" in to_markdown([{"x": value}]).replace("  ", " ")


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(ROWS, tmp_path / "rows.json")
    first, second = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert first["CA"] == {"mean": 0.71234, "half_width": 0.0129, "num_positions": 4000, "num_documents": 30}
    assert second["CA"]["half_width"] is None and second["model"] == "[bold]corpus mean"


def test_an_empty_table_is_an_error() -> None:
    for rows in ([], [{}]):
        with pytest.raises(ValueError, match="the table is empty"):
            to_markdown(rows)
