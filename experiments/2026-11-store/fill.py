"""How much of a batch is sentences and not padding, with packing and without, on named corpora.

The concepts are hashed: a fill depends on the lengths of the documents alone.
"""

import argparse
import csv
import sys
from pathlib import Path

from data.encode import encode_corpus
from data.module import ConceptDataModule
from data.readers import read_documents
from encoders.hashing import HashingEncoder

LENGTHS = {"grimm": (64, 256, 1024), "austen": (256, 1024, 4096), "sotu": (512, 2048, 8192), "shakespeare": (256, 1024)}


def main() -> None:
    """Print a line for each corpus and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/concept-store-bench"))
    options = parser.parse_args()
    writer = csv.writer(sys.stdout)
    for corpus, lengths in LENGTHS.items():
        store = encode_corpus(read_documents(corpus), HashingEncoder(8), options.folder / corpus, progress=False)
        for length in lengths:
            packed, padded = (
                ConceptDataModule(str(store.path), length=length, stride=length // 2, packing=packing).fill("train")
                for packing in (True, False)
            )
            of = f"{corpus}, rows of {length}, batches of 16"
            writer.writerow(["fill", of, f"{packed:.3f}", f"{padded:.3f}", "", "packed; one window a row", ""])


if __name__ == "__main__":
    main()
