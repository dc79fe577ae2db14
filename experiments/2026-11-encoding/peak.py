import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from encoders.packed.native_library import TILES, processor_flags

FLAGS = ("-O2", "-shared", "-fPIC", "-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16")
ROUNDS = 2_000_000


def compile_peak(clock: Callable[[], float] = time.process_time) -> Callable[[], float]:
    """Returns what measures the FLOP/s of one thread's bfloat16 products in registers, by AMX where it is."""
    tiles = ("-DTILES",) if processor_flags() >= TILES else ()
    source = Path(__file__).with_name("peak.cpp")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "peak.so"
        subprocess.run(["c++", *FLAGS, *tiles, source, "-o", made], check=True)
        kernel = ctypes.CDLL(str(made))
    kernel.peak.restype = ctypes.c_double
    kernel.peak.argtypes = [ctypes.c_void_p, ctypes.c_long]
    data = torch.randn(2048).bfloat16()

    def measure() -> float:
        start = clock()
        flop = kernel.peak(data.data_ptr(), ROUNDS) * ROUNDS
        return flop / (clock() - start)

    return measure
