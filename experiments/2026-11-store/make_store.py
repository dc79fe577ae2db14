"""Write a store of random concepts, as large as asked for: what is measured is reading, not what was read."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.durable import lock
from data.manifest import finish_store
from data.shards import Shard, write_shard

ROWS = 32_768  # a shard


def make_store(path: Path, num_rows: int, dim: int = 384, rows_a_document: int = 4096) -> None:
    """Write a store of documents of `rows_a_document` rows; does nothing where it is there."""
    if (path / "manifest.json").is_file():
        return
    path.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    concepts = random.standard_normal((ROWS, dim)).astype(np.float16)
    texts = pa.array([f"A sentence of about as many characters as a novel's, number {row}." for row in range(ROWS)])
    num_documents = ROWS // rows_a_document
    num_shards = -(-num_rows // ROWS)
    with lock(path):
        for index in range(num_shards):
            documents = [
                {
                    "title": f"{index}-{number}",
                    "source": "random",
                    "licence": "CC0",
                    "key": random.bytes(32).hex(),
                    "language": "english",
                    "num_sentences": rows_a_document,
                }
                for number in range(num_documents)
            ]
            levels, roles = np.zeros(ROWS, np.int8), pa.array(["sentence"] * ROWS)
            shard = Shard(index, index * num_documents, documents, texts, np.roll(concepts, index, 0), levels, roles)
            write_shard(path, shard, "random", str(index))
        finish_store(path, num_shards, "random", {"splitter": "none", "max_chars": 250})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("num_rows", type=int)
    options = parser.parse_args()
    make_store(options.path, options.num_rows)
