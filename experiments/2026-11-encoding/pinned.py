"""One or more cores for this process, and as many threads."""

import os

import torch


def pin(threads: int) -> None:
    """Keeps the process on its first cores; engines count the cores when they are made, so call it before."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
