"""Print results.csv as a Markdown table."""

import csv
import sys
from pathlib import Path

with Path(sys.argv[1]).open(encoding="utf-8") as file:
    header, *rows = csv.reader(file)
for row in (header, ["---"] * len(header), *rows):
    print("| " + " | ".join(row) + " |")
