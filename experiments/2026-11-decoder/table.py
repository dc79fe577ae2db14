"""The measures of decoders as results.csv, a row a decoder and corpus, and as tables on stdout.

python table.py MEASURED FORETOLD.json results.csv [CORPORA]   with commas between, for means of these alone
"""

import csv
import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from lcm.table import to_markdown

KEYS = ("bleu", "cosine", "exact")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that measure.py wrote."""
    decoder, _, corpus = path.stem.partition("@")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, values in found["rows"].items():
        row: dict[str, Any] = {"decoder": decoder, "corpus": corpus, "text": name}
        for key in KEYS:
            low_high = values.get(key, [float("nan")] * 3)
            row |= {key: low_high[0], f"{key} low": low_high[1], f"{key} high": low_high[2]}
        if name == "decoder":
            carried = found["nats_carried"]
            row |= {"nats": found["nll"]["true"][0], "carried": carried["against no concept"][0]}
            row |= {"names": found["names"][0], "num names": found["names"][1]}
        if name in found["sentences_per_second"]:
            row["sentences/s"] = found["sentences_per_second"][name]
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over corpora, and in how many the nearest training sentence is beaten on BLEU and on cosine."""
    found: list[dict[str, Any]] = []
    for decoder, text in dict.fromkeys((row["decoder"], row["text"]) for row in rows):
        own = [row for row in rows if (row["decoder"], row["text"]) == (decoder, text)]
        near = {
            row["corpus"]: row
            for row in rows
            if row["decoder"] == decoder and row["text"] == "nearest training sentence"
        }
        line: dict[str, Any] = {"decoder": decoder, "text": text, "corpora": len(own)}
        line |= {key: round(mean(row[key] for row in own), 3) for key in KEYS}
        won = [all(row[key] > near[row["corpus"]][key] for key in KEYS[:2]) for row in own]
        line["beats the nearest on both"] = f"{sum(won)} of {len(own)}"
        if "carried" in own[0]:
            line |= {key: round(mean(row[key] for row in own), 3) for key in ("nats", "carried")}
            names = sum(row["num names"] for row in own)
            kept = sum(row["names"] * row["num names"] for row in own)
            line["names"] = f"{kept / max(names, 1):.2f} of {names}"
        found.append(line)
    return found


def main() -> None:
    """Write the table and print what it comes to."""
    measured, foretold, target = map(Path, sys.argv[1:4])
    rows = [row for path in sorted(measured.glob("*.json")) for row in rows_of(path)]
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    only = sys.argv[4].split(",") if sys.argv[4:] else [row["corpus"] for row in rows]
    lines = summary([row for row in rows if row["corpus"] in only])
    sys.stdout.write(to_markdown([{key: line.get(key, "") for key in lines[0]} for line in lines]))
    if foretold.is_file():
        found = json.loads(foretold.read_text(encoding="utf-8"))["rows"]
        table = [
            {"text": name, **{k: "{:.3f} [{:.3f}, {:.3f}]".format(*v) for k, v in row.items()}}
            for name, row in found.items()
        ]
        sys.stdout.write("\n" + to_markdown(table))


if __name__ == "__main__":
    main()
