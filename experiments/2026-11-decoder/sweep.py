"""What sweep.sh asks of sweep.yaml: how each row is trained, and the table of what measure.py found.

python sweep.py options
python sweep.py table WORK sweep.csv
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lcm.table import to_markdown

ROWS = Path(__file__).with_name("sweep.yaml")


def mean_of(values: list[list[float]]) -> str:
    """Return the mean over corpora of [value, low, high], with the interval that independent ones have."""
    value, low, high = np.array(values).T
    return f"{value.mean():.3f} ± {np.sqrt(np.square((high - low) / 2).sum()) / len(value):.3f}"


def row_of(name: str, work: Path) -> dict[str, Any]:
    """Return the measures of a row, means over its corpora."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob(f"measured/{name}@*.json"))]
    decoded = [one["rows"]["decoder"] for one in found]
    num_names = sum(one["names"][1] for one in found)
    names = sum(one["names"][0] * one["names"][1] for one in found)
    return {
        "changed": name,
        "nats": mean_of([one["nll"]["true"] for one in found]),
        "without the concept": mean_of([one["nll"]["no"] for one in found]),
        "carried": mean_of([one["nats_carried"]["against no concept"] for one in found]),
        "cosine": mean_of([row["cosine"] for row in decoded]),
        "BLEU": mean_of([row["bleu"] for row in decoded]),
        "names": f"{names / max(num_names, 1):.2f} of {num_names}",
    }


def main() -> None:
    """Write the options of all rows, or the table of those that are measured."""
    rows: dict[str, str] = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["options"]:
        sys.stdout.writelines(f"{name}\t{options}\n" for name, options in rows.items())
        return
    _, work, target = sys.argv[1:]
    table = [row_of(name, Path(work)) for name in rows if list(Path(work).glob(f"measured/{name}@*.json"))]
    with Path(target).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    sys.stdout.write(to_markdown(table))


if __name__ == "__main__":
    main()
