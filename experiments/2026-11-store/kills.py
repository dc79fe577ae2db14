"""Kill `encode_corpus` with SIGKILL at random moments, again and again, and count what was lost, doubled or made twice.

The real encoder on a real corpus, a process of its own each time. When a run gets to its end, the store is compared
with one that was never killed and removed, and it begins anew, until there were as many kills as asked for.
"""

import argparse
import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from data.store import ConceptStore

WORKER = """
import sys
import numpy as np
import torch
torch.set_num_threads(1)
from data.encode import encode_corpus
from data.readers import read_documents
from encoders.encoder import load_encoder
corpus, encoder, out, counted = sys.argv[1:]
made = load_encoder(encoder)
encode = type(made).encode
def counting(self, sentences):
    with open(counted, "a") as file:
        file.write(f"{len(sentences)}\\n")
    return encode(self, sentences)
type(made).encode = counting
encode_corpus(read_documents(corpus), made, out, shard_chars=20_000, progress=False)
"""


def files_of(path: Path) -> dict[str, bytes]:
    """Return the content of a store."""
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


def main() -> None:
    """Kill, run again, compare; print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--corpus", default="grimm")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/concept-store-kills"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    whole, killed, counted = options.folder / "whole", options.folder / "killed", options.folder / "counted"

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WORKER, options.corpus, options.encoder, str(out), str(counted)])

    began = time.perf_counter()
    if start(whole).wait():
        sys.exit("the run without kills failed")
    seconds = time.perf_counter() - began
    expected, store = files_of(whole), ConceptStore.open(whole)
    largest = max(shard["rows"] for shard in store.manifest["shards"])
    counted.unlink()
    num_kills = lost = doubled = finished = since = 0
    worst = 0  # sentences encoded more than once, a kill
    generator = random.Random(0)
    while num_kills < options.kills or since:
        process = start(killed)
        try:
            process.wait(timeout=generator.uniform(0.2, seconds) if num_kills < options.kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            num_kills += 1
            since += 1
            continue
        assert process.returncode == 0, process.returncode
        finished += 1
        ConceptStore.open(killed).verify()
        found = files_of(killed)
        rows = sum(shard["rows"] for shard in ConceptStore.open(killed).manifest["shards"])
        lost += max(0, len(store.lengths) and int(store.lengths.sum()) - rows)
        doubled += max(0, rows - int(store.lengths.sum()))
        if found != expected:
            sys.exit("a store of a killed run differs")
        encoded = sum(map(int, counted.read_text().split()))
        worst = max(worst, (encoded - rows) // max(1, since))
        shutil.rmtree(killed)
        counted.unlink()
        since = 0
    of = f"{options.corpus}, {options.encoder}, {len(store.manifest['shards'])} shards of up to {largest} rows"
    unit = f"kills; lost; doubled; {finished} finished runs equal; {worst} sentences encoded again a kill"
    csv.writer(sys.stdout).writerow(["kills", of, num_kills, lost, doubled, unit, ""])


if __name__ == "__main__":
    main()
