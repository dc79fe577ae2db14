"""Concepts a second that come out of a store, against numpy.memmap and `datasets`, in one process, the cache warm.

Every reader fills the same float16 buffer with the same random windows, so that each byte is really read; all take
turns, several times over, and the table has medians and the range.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from make_store import make_store

from data.store import ConceptStore

Reader = Callable[[int, int, int], np.ndarray]  # document, start, stop -> concepts


def open_memmap(store: ConceptStore, path: Path) -> Reader:
    """Read from one .npy file with the documents behind one another."""
    if not path.is_file():
        np.save(path, np.concatenate([store[i] for i in range(len(store))]))
    concepts = np.load(path, mmap_mode="r")
    offsets = np.concatenate([[0], np.cumsum(store.lengths)])
    return lambda document, start, stop: concepts[offsets[document] + start : offsets[document] + stop]


def open_datasets(store: ConceptStore, path: Path) -> dict[str, Reader]:
    """Read a slice of rows of a `datasets` data set that holds a row a sentence, float16 as in the store."""
    from datasets import Dataset, Features, List, Value, disable_progress_bars, load_from_disk

    disable_progress_bars()

    if not path.is_dir():
        features = Features({"text": Value("string"), "concept": List(Value("float16"), length=store.dim)})

        def rows():
            for i in range(len(store)):
                for text, concept in zip(store.sentences(i), store[i], strict=True):
                    yield {"text": text, "concept": concept}

        Dataset.from_generator(rows, features=features, cache_dir=str(path) + ".cache").save_to_disk(str(path))
    plain = load_from_disk(str(path))
    numpy = plain.with_format("numpy")
    shuffled = numpy.select(np.random.default_rng(0).permutation(len(numpy)))  # what .shuffle() and .filter() give
    offsets = np.concatenate([[0], np.cumsum(store.lengths)])

    def reader(rows: Dataset) -> Reader:
        return lambda document, start, stop: np.asarray(
            rows[int(offsets[document] + start) : int(offsets[document] + stop)]["concept"], dtype=np.float16
        )

    return {
        "datasets, numpy format": reader(numpy),
        "datasets, numpy format, after shuffle": reader(shuffled),
        "datasets, plain rows": reader(plain),
    }


def measure(read: Reader, windows: list[tuple[int, int, int]], buffer: np.ndarray) -> float:
    """Return the concepts a second."""
    start = perf_counter()
    for window in windows:
        buffer[:] = read(*window)
    return len(windows) * len(buffer) / (perf_counter() - start)


def main() -> None:
    """Measure and print a line a reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/concept-store-bench"))
    options = parser.parse_args()
    make_store(options.folder / f"store-{options.rows}", options.rows)
    store = ConceptStore.open(options.folder / f"store-{options.rows}")
    readers: dict[str, Reader] = {
        "concept store": store.window,
        "numpy.memmap": open_memmap(store, options.folder / f"{options.rows}.npy"),
        **open_datasets(store, options.folder / f"datasets-{options.rows}"),
    }
    random = np.random.default_rng(1)
    buffer = np.zeros((options.length, store.dim), np.float16)
    found: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(options.rounds + 1):  # the first round warms the cache
        windows = [
            (int(i), int(s), int(s) + options.length)
            for i, s in zip(
                random.integers(0, len(store), 400),
                random.integers(0, int(store.lengths.min()) - options.length + 1, 400),
                strict=True,
            )
        ]
        for name, read in readers.items():
            few = windows if "datasets" not in name else windows[:12] if "plain" not in name else windows[:2]
            speed = measure(read, few, buffer)
            if turn:
                found[name].append(speed)
    ours = median(found["concept store"])
    writer = csv.writer(sys.stdout)
    for name, speeds in found.items():
        ratio = ours / median(speeds)
        writer.writerow(
            [
                "read",
                name,
                f"{median(speeds):.0f}",
                f"{min(speeds):.0f}",
                f"{max(speeds):.0f}",
                "concepts/s",
                f"{ratio:.2f}",
            ]
        )


if __name__ == "__main__":
    main()
