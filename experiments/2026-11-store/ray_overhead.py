"""What Ray costs: the same sentences by one process with two threads, and by Ray with as many in its actors.

The real encoder on the named corpora; each run is a process of its own, the pairs are interleaved and turned round.
Prints a line a run and the ratio of the seconds; a store of other bytes is an error.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from data.document import Document
from data.encode import encode_corpus, encode_here
from data.manifest import MANIFEST
from data.plan import SHARD_CHARS
from data.ray_engine import RayEngine
from data.readers import read_documents
from data.rows import split_document
from data.splitters import make_splitter
from data.store import ConceptStore
from encoders.hashing import HashingEncoder
from encoders.sentence_transformer import SentenceTransformerEncoder

CORPORA = ("shakespeare", "austen", "sotu", "moby-dick", "grimm")
CORES = 2
ENGINES = ("here", "ray")


class StampedMiniLM(SentenceTransformerEncoder):
    """MiniLM that leaves a file when it is loaded, before its first sentence."""

    def __init__(self, stamps: Path) -> None:
        super().__init__()
        self.stamps = stamps

    def encode(self, sentences: list[str]) -> np.ndarray:
        stamp = self.stamps / str(os.getpid())
        if not stamp.exists():
            _ = self.dim  # loads the model
            stamp.touch()
        return super().encode(sentences)


class StampedHashing(HashingEncoder):
    """Thirty times as fast as MiniLM on a core, so that what an engine costs does not vanish behind the model."""

    def __init__(self, stamps: Path) -> None:
        super().__init__(384)
        self.stamps = stamps

    def encode(self, sentences: list[str]) -> np.ndarray:
        stamp = self.stamps / str(os.getpid())
        if not stamp.exists():
            stamp.touch()
        return super().encode(sentences)


ENCODERS = {"minilm": StampedMiniLM, "hashing": StampedHashing}


def all_documents() -> list[Document]:
    return [document for corpus in CORPORA for document in read_documents(corpus)]


def count_documents(num_sentences: int) -> int:
    """Return how many documents, in a cycle, hold so many sentences."""
    documents = all_documents()
    splitter = make_splitter("punkt", documents)
    rows = [len(split_document(document, splitter)) for document in documents]
    whole, rest = divmod(num_sentences, sum(rows))
    return whole * len(rows) + int(np.searchsorted(np.cumsum(rows), rest)) + (rest > 0)


def describe(engine: str, threads: int) -> str:
    actors = CORES // threads
    if engine == "here":
        return f"one process of {CORES} threads"
    return f"Ray, {actors} actor{'s' * (actors > 1)} of {threads} thread{'s' * (threads > 1)}"


def encode(engine: str, encoder_name: str, num_documents: int, folder: Path, shard_chars: int, threads: int) -> None:
    documents = islice(cycle(all_documents()), num_documents)
    ray = RayEngine(num_actors=CORES // threads, cpus_per_actor=threads)
    chosen = ray if engine == "ray" else encode_here
    encoder = ENCODERS[encoder_name](folder / "stamps")
    encode_corpus(documents, encoder, folder / "store", engine=chosen, shard_chars=shard_chars, progress=False)


def watch(process: subprocess.Popen[bytes]) -> tuple[int, int, float]:
    """Wait for a process; return the peak of its tree's resident and proportional memory in MB, and its CPU seconds."""
    resident = proportional = 0
    seconds: dict[int, float] = {}
    while process.poll() is None:
        sums = [0, 0]
        for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            try:
                info, times = member.memory_full_info(), member.cpu_times()
            except psutil.Error:  # it ended
                continue
            sums[0] += info.rss
            sums[1] += info.pss
            seconds[member.pid] = times.user + times.system
        resident, proportional = max(resident, sums[0]), max(proportional, sums[1])
        time.sleep(1)
    return resident >> 20, proportional >> 20, sum(seconds.values())


def measure(engine: str, encoder: str, folder: Path, threads: int, *arguments: int) -> dict[str, float]:
    """Run an engine in a process of its own; return what is printed of it."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "stamps").mkdir(parents=True)
    available = str(CORES if engine == "here" else threads)
    command = [sys.executable, __file__, "--run", engine, *map(str, arguments), "--folder", str(folder)]
    command += ["--encoder", encoder, "--threads", str(threads)]
    began = time.time()
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": available, "MKL_NUM_THREADS": available})
    resident, proportional, processor = watch(process)
    seconds = time.time() - began
    if process.returncode:
        sys.exit(f"{describe(engine, threads)} failed")
    first = min(stamp.stat().st_mtime for stamp in (folder / "stamps").iterdir())
    last = max(sidecar.stat().st_mtime for sidecar in (folder / "store").glob("[0-9]*.json"))
    rows = ConceptStore.open(folder / "store").manifest["num_sentences"]
    return {
        "sentences": rows,
        "seconds": seconds,
        "start": first - began,
        "rate": rows / (last - first),
        "resident": resident,
        "proportional": proportional,
        "processor": processor,
    }


def main() -> None:
    """Measure pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, choices=(1, CORES), help="of an actor of Ray")
    parser.add_argument("--smoke", action="store_true", help="600 sentences")
    parser.add_argument("--shard-chars", type=int, default=SHARD_CHARS, help="smaller, so that few sentences fill some")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/concept-ray-overhead"))
    parser.add_argument("--encoder", choices=sorted(ENCODERS), default="minilm")
    parser.add_argument("--run", nargs=3, metavar=("ENGINE", "DOCUMENTS", "CHARS"), help="of the script itself")
    options = parser.parse_args()
    if options.run:
        engine, documents, chars = options.run
        return encode(engine, options.encoder, int(documents), options.folder, int(chars), options.threads)
    num_documents = count_documents(600 if options.smoke else options.sentences)
    writer = csv.writer(sys.stdout)
    runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for pair in range(options.pairs):
        manifests = set()
        for engine in list(ENGINES)[:: -1 if pair % 2 else 1]:
            folder, threads = options.folder / engine, options.threads
            run = measure(engine, options.encoder, folder, threads, num_documents, options.shard_chars)
            runs[engine].append(run)
            manifests.add((options.folder / engine / "store" / MANIFEST).read_bytes())
            writer.writerow(
                [
                    "ray",
                    f"{describe(engine, threads)}, {options.encoder}, {run['sentences']:,} sentences",
                    *(f"{run['seconds']:.1f}", f"{run['start']:.1f}", f"{run['rate']:.0f}"),
                    "s in all; s before the first sentence; sentences/s from there to the last; peak "
                    f"{run['resident']:,} MB resident, {run['proportional']:,} MB proportional; "
                    f"{run['processor']:.0f} CPU s",
                    "",
                ]
            )
            sys.stdout.flush()
        if len(manifests) > 1:
            sys.exit("the two engines wrote different stores")
    pairs = list(zip(runs["ray"], runs["here"], strict=True))
    ratios = [ray["seconds"] / here["seconds"] for ray, here in pairs]
    steady = median(here["rate"] / ray["rate"] for ray, here in pairs)
    unit = f"times the seconds of one process, in all, median and range of {len(pairs)}; {steady:.3f} without the start"
    ratio = median(ratios)
    writer.writerow(
        [
            "ray",
            f"overhead, {options.encoder}",
            f"{ratio:.3f}",
            f"{min(ratios):.3f}",
            f"{max(ratios):.3f}",
            unit,
            f"{ratio:.3f}",
        ]
    )
    return None


if __name__ == "__main__":
    main()
