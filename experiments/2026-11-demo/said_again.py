"""How much a written text says again, and how near its sentences are to their points and to each other.

python experiments/2026-11-demo/said_again.py TEXT.md [ENCODER]
"""

import sys
from pathlib import Path
from statistics import mean

from torch import from_numpy

from data.readers import read_documents
from data.rows import split_document
from data.splitters import make_splitter
from decoders.repetition import repeated_share
from encoders.encoder import load_encoder
from lcm.quiet import quiet


def main() -> None:
    """Print the three numbers."""
    quiet()
    path, encoder = Path(sys.argv[1]), load_encoder(*(sys.argv[2:3] or ["minilm"]))
    (document,) = read_documents(str(path), cut="never")
    rows = split_document(document, make_splitter("punkt", [document]))
    unit = from_numpy(encoder.encode([row.text for row in rows]))
    unit = unit / unit.norm(dim=-1, keepdim=True)
    texts: list[str] = []
    again, point, following = [], [], []
    heading = last = 0
    for i, row in enumerate(rows):
        if row.level:
            heading = last = i
            continue
        again.append(repeated_share(row.text, " ".join(texts)))
        point.append(float(unit[i] @ unit[heading]))
        if last != heading:
            following.append(float(unit[i] @ unit[last]))
        texts.append(row.text)
        last = i
    sys.stdout.write(
        f"{len(texts)} sentences: {mean(again):.3f} of their runs of three words come again; "
        f"cosine {mean(point):.3f} with the point, {mean(following):.3f} with the sentence before\n"
    )


if __name__ == "__main__":
    main()
