"""Two Ray nodes on this machine, MiniLM, and SIGKILL in mid-run for an actor, for a node, and for the run itself.

Prints a line a case: what the run that was killed lost and doubled, and whether its store has the same bytes as that of
the one-process engine.
"""

import argparse
import csv
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "data"))
from ray_nodes import Nodes, wait_until

from data.encode import encode_corpus, encode_here
from data.ray_engine import RayEngine
from data.readers import read_documents
from data.store import ConceptStore
from encoders.encoder import load_encoder


def encode(corpus: str, out: Path, address: str = "") -> None:
    engine = RayEngine(address) if address else encode_here
    encode_corpus(read_documents(corpus), load_encoder(), out, shard_chars=10_000, engine=engine, progress=False)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


def sentences_of(path: Path) -> Counter[tuple[int, int, str]]:
    store = ConceptStore.open(path)
    store.verify()
    return Counter((n, row, text) for n in range(len(store)) for row, text in enumerate(store.sentences(n)))


def run(nodes: Nodes, case: str, corpus: str, out: Path, num_shards: int) -> float:
    """Encode on the cluster, kill what the case says when a third is done; return the seconds."""
    command = (__file__, "--run", nodes.address, "--corpus", corpus, "--folder", out)

    def is_on_the_way() -> bool:
        return len(list(out.glob("[0-9]*.json"))) >= num_shards // 3 or driver.poll() is not None

    began = time.perf_counter()
    driver = nodes.run(*command)
    wait_until(is_on_the_way, 600)
    if case == "an actor":
        nodes.kill_actor()
    elif case == "the second node":
        nodes.kill_second()
    elif case == "the run, then run again":
        driver.kill()
        driver.communicate()
        driver = nodes.run(*command)
    _, errors = driver.communicate()
    if driver.returncode:
        sys.exit(errors)
    sys.stderr.write(errors)
    return time.perf_counter() - began


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="grimm")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/concept-ray-kill"))
    parser.add_argument("--run", metavar="ADDRESS", help="of the script itself")
    options = parser.parse_args()
    if options.run:
        return encode(options.corpus, options.folder, options.run)
    os.environ["OMP_NUM_THREADS"] = "1"  # a core is what each node has
    shutil.rmtree(options.folder, ignore_errors=True)
    whole, killed = options.folder / "whole", options.folder / "killed"
    encode(options.corpus, whole)
    expected, sentences = files_of(whole), sentences_of(whole)
    num_shards = sum(name.endswith(".arrow") for name in expected) - 1
    nodes = Nodes()
    try:
        for case in ("nothing", "an actor", "the second node", "the run, then run again"):
            shutil.rmtree(killed, ignore_errors=True)
            seconds = run(nodes, case, options.corpus, killed, num_shards)
            found = sentences_of(killed)
            lost, doubled = (sentences - found).total(), (found - sentences).total()
            equal = "equal bytes" if files_of(killed) == expected else "OTHER BYTES"
            of = f"killed: {case}; {options.corpus}, {sentences.total():,} sentences, {num_shards} shards"
            unit = f"s; sentences lost; doubled; {equal}"
            csv.writer(sys.stdout).writerow(["ray kill", of, f"{seconds:.1f}", lost, doubled, unit, ""])
            sys.stdout.flush()
            if case == "the second node":
                nodes.restart_second()
    finally:
        nodes.close()
    return None


if __name__ == "__main__":
    main()
