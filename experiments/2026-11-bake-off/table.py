"""Make results.csv and Markdown tables of what measure.py measured: python table.py MEASURED OUT.csv [SPEED.json]."""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from ground import RANGES
from torch import Tensor

from lcm.metrics import Interval, mean_interval
from lcm.table import Row, to_markdown

BY_POSITION = ("CA", "R@10", "energy score")
NO_RIVAL = ("the true concept",)
NOT_RUN = "not run"
HEAD = ["row", "kind", "answer", "column", "positions", "mean", "half_width", "sd_seeds", "seeds", "count", "documents"]


@dataclass
class Entry:
    """One row of the table: a model asked in one way, or a baseline.

    Attributes:
        name: of the row.
        answer: how it was asked.
        runs: what was measured of each seed.
        model: whether it is a model.
    """

    name: str
    answer: str
    model: bool
    runs: list[dict[str, Any]] = field(default_factory=list)

    def values(self, column: str) -> Tensor:
        """Return a column of every seed (seeds, P), NaN where a position has no measure."""
        rows = [[math.nan if v is None else v for v in run["columns"][column]] for run in self.runs]
        return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True)
class Cell:
    """A mean over seeds and positions, with its 95 % interval over documents and its deviation over seeds."""

    interval: Interval
    deviation: float
    num_seeds: int

    def __str__(self) -> str:
        sign = f"{self.interval}"
        return sign if math.isnan(self.deviation) else f"{sign} [{self.deviation:.3f}]"


Found = Mapping[tuple[str, str], Cell]  # (column, positions) -> cell; positions are "all" or a range of rows


def read(folder: Path) -> tuple[dict[str, Any], list[Entry]]:
    """Return the positions and the rows that are there."""
    positions = json.loads((folder / "positions.json").read_text(encoding="utf-8"))
    entries: dict[tuple[str, str], Entry] = {}

    def add(name: str, found: Mapping[str, Any], model: bool) -> None:
        for answer, run in found["answers"].items():
            if answer.startswith("mean of") and not model:
                continue
            entry = entries.setdefault((name, answer), Entry(name, answer, model))
            entry.runs.append({**run, "context": found.get("context"), "costs": found.get("costs")})

    for name, found in json.loads((folder / "baselines.json").read_text(encoding="utf-8")).items():
        add(name, found, False)
    for path in sorted(folder.glob("*-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        add(found["row"], found, True)
    return positions, list(entries.values())


def by_document(values: Tensor, document: Tensor, chosen: Tensor) -> list[Tensor]:
    """Return the chosen values (P,) of each document."""
    return [values[chosen & (document == number)] for number in document.unique()]


def cell(values: Tensor, document: Tensor, chosen: Tensor) -> Cell | None:
    """Return the cell of values (seeds, P) at the chosen positions (P,); None where there is none."""
    if values[:, chosen].isnan().all():
        return None
    means = values[:, chosen].nanmean(1).tolist()
    interval = mean_interval(by_document(values.mean(0), document, chosen))
    return Cell(interval, stdev(means) if len(means) > 1 else math.nan, len(means))


def text_cells(entry: Entry, document: Tensor) -> dict[str, Cell]:
    """Return l2-r and MI of an entry whose predictions were decoded; a token counts once in MI."""
    runs = [run["text"] for run in entry.runs if "text" in run]
    if not runs:
        return {}
    whole = torch.ones(len(document), dtype=torch.bool)
    information, means = [], []
    for run in runs:
        nats, tokens = torch.tensor(run["nats"], dtype=torch.float64), torch.tensor(run["tokens"])
        each = torch.where(tokens > 0, nats / tokens, 0.0)
        information.append([each[document == d].repeat_interleave(tokens[document == d]) for d in document.unique()])
        means.append(float(nats.sum() / tokens.sum()))
    together = [torch.cat(parts) for parts in zip(*information, strict=True)]
    distance = torch.tensor([run["l2-r"] for run in runs], dtype=torch.float64)
    deviation = stdev(means) if len(means) > 1 else math.nan
    found = cell(distance, document, whole)
    assert found is not None
    return {"l2-r": found, "MI": Cell(mean_interval(together), deviation, len(runs))}


def cells(entry: Entry, positions: Mapping[str, Any]) -> Found:
    """Return the cells of an entry."""
    document, row = torch.tensor(positions["document"]), torch.tensor(positions["row"])
    drawn, found = torch.tensor(positions["drawn"]), {}
    for column in entry.runs[0]["columns"]:
        values = entry.values(column)
        chosen = {"all": drawn}
        if column in BY_POSITION:
            chosen |= {f"{first}-{last}": (row >= first) & (row <= last) for first, last in RANGES}
        for name, some in chosen.items():
            if (one := cell(values, document, some)) is not None:
                found[column, name] = one
    if positions["true text"]:
        text = text_cells(entry, torch.tensor(positions["true text"]["document"]))
        found |= {(column, "all"): one for column, one in text.items()}
    return found


def gaps(entry: Entry, rivals: Sequence[Entry], positions: Mapping[str, Any]) -> Row:
    """Return how far an entry is ahead of the best rival: points of CA, paired, and the factor of R@10."""
    document, drawn = torch.tensor(positions["document"]), torch.tensor(positions["drawn"])

    def average(one: Entry, column: str) -> float:
        return float(one.values(column)[:, drawn].nanmean())

    best, recalled = (max(rivals, key=lambda one: average(one, column)) for column in ("CA", "R@10"))
    ahead = entry.values("CA").mean(0) - best.values("CA").mean(0)
    return {
        "row": entry.name,
        "answer": entry.answer,
        "CA, points": mean_interval(by_document(100 * ahead, document, drawn)),
        "ahead of": best.name,
        "R@10, factor": average(entry, "R@10") / max(average(recalled, "R@10"), 1e-9),
        "of that of": recalled.name,
    }


def main_row(entry: Entry, found: Found) -> Row:
    """Return a line of the main table."""
    columns = ("CA", "R@1", "R@10", "energy score", "l2", "l2-r", "PAR", "MI")
    row: dict[str, str] = {"row": entry.name, "answer": entry.answer}
    row |= {column: str(found.get((column, "all"), NOT_RUN)) for column in columns}
    worth = [run["context"]["difference"] / run["context"]["true context"] for run in entry.runs if run["context"]]
    return row | {"context": f"{100 * mean(worth):.1f} %" if worth else "no loss"}


def cost_row(name: str, runs: Sequence[Mapping[str, Any]], speed: Mapping[str, Any]) -> Row:
    """Return what a model cost, a mean over its seeds."""
    row: dict[str, str | int | float] = {"row": name, "parameters": runs[0]["costs"]["parameters"]}
    for key in ("steps", "concepts", "seconds"):
        known = [run["costs"][key] for run in runs if not isinstance(run["costs"][key], str)]
        row[key] = round(mean(known)) if known else "not known"
    return row | {"sampled concepts/s": speed.get(name, NOT_RUN)}


def write_results(path: Path, entries: Sequence[Entry], table: Sequence[Found]) -> None:
    """Write every cell, one a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        for entry, found in zip(entries, table, strict=True):
            for (column, where), one in found.items():
                interval = one.interval
                numbers = [f"{v:.5g}" for v in (interval.mean, interval.half_width, one.deviation)]
                counts = [one.num_seeds, interval.num_positions, interval.num_documents]
                kind = "model" if entry.model else "baseline"
                writer.writerow([entry.name, kind, entry.answer, column, where, *numbers, *counts])


def main(folder: str, out: str, speed: str = "") -> None:
    positions, entries = read(Path(folder))
    table = [cells(entry, positions) for entry in entries]
    write_results(Path(out), entries, table)
    print(to_markdown([main_row(entry, found) for entry, found in zip(entries, table, strict=True)]))
    names = [f"{first}-{last}" for first, last in RANGES]
    for column in BY_POSITION:
        print(f"{column} by row of the document:\n")
        rows = [
            {"row": entry.name, "answer": entry.answer}
            | {where: str(found.get((column, where), "no rows")) for where in names}
            for entry, found in zip(entries, table, strict=True)
        ]
        print(to_markdown(rows))
    rivals = [entry for entry in entries if not entry.model and entry.name not in NO_RIVAL]
    models = [entry for entry in entries if entry.model]
    if models:
        print("Ahead of the best baseline:\n")
        print(to_markdown([gaps(entry, rivals, positions) for entry in models]))
        speeds = json.loads(Path(speed).read_text(encoding="utf-8")) if speed else {}
        print(to_markdown([cost_row(one.name, one.runs, speeds) for one in {e.name: e for e in models}.values()]))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: table.py MEASURED RESULTS.csv [SPEED.json]")
    main(*sys.argv[1:])
