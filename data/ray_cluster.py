"""Ray on this machine alone, or the cluster that it is a part of."""

import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_OBJECT_STORE_BYTES = 100_000_000  # numbers of shards travel, no text and no concepts
_SECONDS_TO_ANSWER = 5.0
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MARK = "LCM_RAY"  # in the environment of all that Ray starts
_OPTIONS: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # pages about every process that is lost; the engine says what came of it
}


@contextmanager
def connected(address: str | None, num_cpus: int) -> Iterator[None]:
    """Starts Ray on this machine, or joins a cluster, and leaves it at the end; takes the caller's, if there is one.

    Args:
        address: of a cluster that this machine is part of, "auto" or "host:port"; None starts Ray.
        num_cpus: how many cores Ray is to count on this machine if it is started.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
        ValueError: the address is none.
    """
    if importlib.util.find_spec("ray") is None:
        raise ImportError('Ray is not installed; pip install "concept-lm[ray]"')
    host, _, port = (address or "").rpartition(":")
    if address not in (None, "auto") and ("/" in host or not host or not port.isdecimal()):
        raise ValueError(f'"{address}" is no address of a Ray cluster; write "host:port", or "auto"')
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if address is None or host in _LOCAL:  # else Ray puts the machine's outer address in the place of 127.0.0.1
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
    elif address is None:
        with _started(num_cpus):
            yield
    else:
        with _joined(address):
            yield


@contextmanager
def _started(num_cpus: int) -> Iterator[None]:
    """Starts Ray on this machine, heard at 127.0.0.1 alone; its logs go when it does."""
    import ray

    # Without a token Ray would leave one in ~/.ray, which clusters find. It stays: Ray reads it once a process.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = os.environ[_MARK] = tempfile.mkdtemp(prefix="lcm-ray-")
    try:
        with _hushed():
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **_OPTIONS,
            )
        yield
    finally:
        ray.shutdown()
        _end_marked(f"{_MARK}={folder}\0".encode())
        shutil.rmtree(folder, ignore_errors=True)


def _end_marked(mark: bytes) -> None:
    """Ends what Ray leaves running for a minute if Ctrl-C reached its processes as well, as it does in a terminal."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is not ours
            if b"ray" in (process / "cmdline").read_bytes() and mark in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Joins a cluster."""
    import ray

    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
        except OSError as error:
            raise ConnectionError(
                f'nothing answers at {address} ({error}); "ray start --head" starts a cluster'
            ) from None
    try:
        with _hushed():
            ray.init(address=address, **_OPTIONS)
    except (ConnectionError, RuntimeError) as error:
        said = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        raise ConnectionError(
            f'the Ray cluster at "{address}" cannot be joined ({said}); it must run on this machine too, with the same '
            "RAY_AUTH_MODE and token"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps off the terminal what the compiled part of Ray writes while it starts; what goes wrong is raised."""
    terminal = os.dup(2)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
