"""Files that are on the disk whole, or not at all."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def hidden(path: Path) -> Path:
    """Returns the name under which a file is written before it is whole; `sweep_hidden` finds it."""
    return path.with_name(f".{path.name}.tmp")


def sweep_hidden(folder: Path) -> None:
    """Removes what a killed run left unfinished."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def publish(path: Path) -> None:
    """Brings the hidden file to the disk and then to its name, so that a crash leaves the old file or the new one."""
    with hidden(path).open("rb") as file:
        os.fsync(file.fileno())
    hidden(path).replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into, which gets the name when all is written, and so to the disk.

    What stood under the name is replaced; for an instant there is neither.
    """
    staged, old = hidden(folder), folder.with_name(f".{folder.name}.old")
    for left in (staged, old):
        shutil.rmtree(left, ignore_errors=True)
    staged.mkdir(parents=True)
    yield staged
    for file in (path for path in staged.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if folder.exists():
        folder.rename(old)
    staged.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that is there whole or not at all."""
    hidden(path).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    publish(path)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON file of a store; raises ValueError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run the command that wrote it again") from None
    return content if isinstance(content, dict) else {}


def hash_file(path: Path) -> str:
    """Returns the hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds a folder for one writer.

    Raises:
        BlockingIOError: another process writes there.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process is writing to {folder}; wait for it, or choose another folder"
            ) from None
        os.set_inheritable(file.fileno(), True)  # a process that writes for this one holds the folder too
        yield


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Turns a full disk into one sentence, and gives back the space of what is unfinished."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        sweep_hidden(folder)
        raise OSError(
            f"there is no space left to write {folder}; make some and run the same command again, "
            "it goes on behind the last finished shard"
        ) from error
