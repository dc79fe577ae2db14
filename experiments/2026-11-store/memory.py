"""Memory of a process that reads random windows all over a store that is larger than the memory it may have.

The process puts itself into a memory cgroup of `--limit-mb` (page cache counts there), or, where it may not, under
RLIMIT_DATA; then it reads `--seconds` long. Prints its own (anonymous) memory, before and at the end.
"""

import argparse
import csv
import os
import resource
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from make_store import make_store

from data.store import ConceptStore

CGROUP = Path("/sys/fs/cgroup/memory")


def limit_memory(group: Path, megabytes: int) -> str:
    """Limit this process, and return by what."""
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(megabytes << 20))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
        return "RLIMIT_DATA"
    return "memory cgroup"


def forget(path: Path) -> None:
    """Drop a store from the page cache, which would be another process's otherwise."""
    for file in path.iterdir():
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def anonymous_mb() -> float:
    """Return the memory that is this process's own, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024


def main() -> None:
    """Read and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--limit-mb", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/concept-store-bench"))
    options = parser.parse_args()
    path = options.folder / f"store-{options.rows}"
    make_store(path, options.rows)
    forget(path)
    group = CGROUP / f"concept-store-{os.getpid()}"
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if group.is_dir():
            group.rmdir()
        sys.exit(os.waitstatus_to_exitcode(status))
    by = limit_memory(group, options.limit_mb)
    before = anonymous_mb()
    store = ConceptStore.open(path)
    random, buffer, num = np.random.default_rng(0), np.zeros((2048, store.dim), np.float16), 0
    start = perf_counter()
    while perf_counter() - start < options.seconds:
        document = int(random.integers(len(store)))
        buffer[:] = store.window(document, 1000, 3048)
        num += len(buffer)
    size = sum(shard["bytes"] for shard in store.manifest["shards"]) / 2**20
    speed = num / (perf_counter() - start)
    csv.writer(sys.stdout).writerow(
        ["memory", f"store of {size:.0f} MB, limit {options.limit_mb} MB ({by})", f"{anonymous_mb():.0f}",
         f"{before:.0f}", "", f"MB of its own at the end, at the start; {speed:,.0f} concepts/s", ""]
    )  # fmt: skip


if __name__ == "__main__":
    main()
