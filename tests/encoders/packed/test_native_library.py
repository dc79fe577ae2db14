import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from encoders.packed import native_library
from encoders.packed.native_library import compile_kernel, native_reason

can_compile = pytest.mark.skipif(native_reason() is not None, reason=f"no compiled kernel: {native_reason()}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "concept-lm"


@can_compile
def test_two_processes_compile_at_once(folder: Path) -> None:
    script = "from encoders.packed.native_library import *; print(native_reason(), compile_kernel())"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0] for process in both}
    (path,) = folder.iterdir()
    assert said == {f"None {path}\n"}
    modified = path.stat().st_mtime_ns
    assert compile_kernel() == path and path.stat().st_mtime_ns == modified


@pytest.mark.parametrize("compiler", [None, "no-such-compiler"])
def test_without_a_compiler_it_says_so(compiler: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_any_processor(monkeypatch)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(folder))
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    reason = native_reason()
    assert reason is not None and "no C++ compiler" in reason and (compiler or "g++") in reason


def allow_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "processor_flags", lambda: native_library._NEEDED)


def test_a_compiler_that_fails_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_any_processor(monkeypatch)
    compiler = folder.parent / "old-compiler"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "x: error: unknown -march" >&2; exit 1; }\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    reason = native_reason()
    assert reason is not None and "old-compiler failed: x: error: unknown -march" in reason
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_any_processor(monkeypatch)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("CXX", shutil.which("true") or "/bin/true")
    reason = native_reason()
    assert reason is not None and "set XDG_CACHE_HOME" in reason


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCM_NATIVE", "0")
    assert native_reason() == "LCM_NATIVE is 0 in the environment"


def test_a_processor_without_the_instructions_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "processor_flags", lambda: native_library._NEEDED - {"avx512_bf16"})
    assert native_reason() == "the processor lacks avx512_bf16"
    monkeypatch.setattr(native_library.platform, "machine", lambda: "aarch64")
    assert "aarch64" in str(native_reason())
