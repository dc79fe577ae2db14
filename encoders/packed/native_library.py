"""Compiles and loads the CPU kernel of `encoders.packed.native`, where a compiler and the instructions are."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_SOURCES = Path(__file__).with_name("native")
_FLAGS = (
    *("-O2", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden"),
    *("-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
)
_NEEDED = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512_bf16"})  # as Linux calls them
TILES = frozenset({"amx_tile", "amx_bf16"})


class NativeUnavailableError(RuntimeError):
    """The compiled kernel cannot be had here; the message says why."""


def native_reason() -> str | None:
    """Returns why the compiled kernel cannot be used here, None if it can; the first call compiles it in seconds."""
    try:
        load_kernel()
    except NativeUnavailableError as error:
        return str(error)
    return None


def compile_kernel() -> Path:
    """Returns the compiled kernel in the user's cache folder; it is compiled if it is not there.

    It is named after its sources, the flags and the compiler, and put in place at once, so that many processes may do
    this side by side.

    Raises:
        NativeUnavailableError: no compiler, it failed, or the folder cannot be written.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None or shutil.which(compiler) is None:
        raise NativeUnavailableError(f"no C++ compiler ({compiler or 'c++, g++ or clang++'} in PATH); install one")
    command = [compiler, *_FLAGS]
    digest = hashlib.sha256("\0".join([*command, _run([compiler, "--version"])]).encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(f"{source.name}\0{source.read_text()}\0".encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "concept-lm"
    path = folder / f"native-{digest.hexdigest()[:24]}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".native-", dir=folder) as hidden:
            made = Path(hidden) / path.name
            _run([*command, str(_SOURCES / "encoder.cpp"), "-o", str(made)])
            made.rename(path)
    except OSError as error:
        raise NativeUnavailableError(f"{folder} cannot be written ({error}); set XDG_CACHE_HOME") from error
    return path


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise NativeUnavailableError(f"{command[0]} failed: {lines[0] if lines else f'exit {done.returncode}'}")
    return done.stdout


def load_kernel() -> ctypes.CDLL:
    """Returns the kernel's functions; see encoder.cpp.

    Raises:
        NativeUnavailableError: it cannot be had here.
    """
    if os.environ.get("LCM_NATIVE") == "0":
        raise NativeUnavailableError("LCM_NATIVE is 0 in the environment")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise NativeUnavailableError(f"it is for Linux on x86-64, this is {platform.system()} on {platform.machine()}")
    missing = _NEEDED - processor_flags()
    if missing:
        raise NativeUnavailableError(f"the processor lacks {', '.join(sorted(missing))}")
    return _open_kernel(compile_kernel())


@cache
def _open_kernel(path: Path) -> ctypes.CDLL:
    try:
        kernel = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailableError(f"{path} cannot be loaded ({error}); delete it") from error
    kernel.packed_request_tiles.restype = ctypes.c_bool
    kernel.packed_new.restype = ctypes.c_void_p
    kernel.packed_new.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    kernel.packed_delete.argtypes = [ctypes.c_void_p]
    kernel.packed_delete.restype = None
    kernel.packed_encode.restype = ctypes.c_bool
    kernel.packed_encode.argtypes = [
        *(ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64),
        *(ctypes.c_int32, ctypes.c_bool, ctypes.c_int32, ctypes.c_void_p),
    ]
    return kernel


@cache
def processor_flags() -> frozenset[str]:
    """Returns the features of the processor by Linux's names."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
