"""A Ray cluster of two nodes on this machine, and the run on it that tests kill.

As a program, `ray_nodes.py STORE ADDRESS` encodes the documents below on the cluster; without an address Ray is
started for it. Interrupted, it says what is left running and begins again.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from data.document import Block, Document
from data.encode import Engine, encode_corpus, encode_here
from data.store import ConceptStore
from encoders.hashing import HashingEncoder

SHARD_CHARS = 1_500
# Ray puts the machine's outer address in the place of 127.0.0.1, and would then listen to the network.
_RAY = (
    "from ray._private import services; services.resolve_ip_for_localhost = lambda host: host; "
    "from ray.scripts.scripts import main; main()"
)
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_initial_delay_ms": "1000",  # a node that is gone is noticed in seconds, not in half a minute
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class SlowEncoder(HashingEncoder):
    """A hashing encoder that leaves time to kill it."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        time.sleep(0.4)
        return super().encode(sentences)


def make_documents(number: int = 24) -> list[Document]:
    return [
        Document(
            f"Tale {tale}",
            (
                Block(f"Tale {tale}", 2, "heading"),
                *(Block(f"The king {tale} rode out {day} times. «Кто там, {day}?» — спросил он.") for day in range(36)),
                Block("I am here.", role="FROG"),
            ),
            "test",
            "CC0",
        )
        for tale in range(number)
    ]


def encode(path: Path, engine: Engine = encode_here) -> ConceptStore:
    encoder = HashingEncoder(16) if engine is encode_here else SlowEncoder(16)
    return encode_corpus(make_documents(), encoder, path, shard_chars=SHARD_CHARS, engine=engine, progress=False)


class Nodes:
    """A head and a second node with a core each, both heard at 127.0.0.1 alone, each in a session of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lcm-nodes-"))  # short: the path of a socket has 107 characters
        self.mark = secrets.token_hex(32)  # lets this cluster's processes be found, and keeps others out
        self.environment = os.environ | _SETTINGS | {"RAY_AUTH_TOKEN": self.mark}
        port, unused = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        dashboard = ("--include-dashboard=false", f"--dashboard-port={unused}")  # it looks whether the port is free
        self.head = self._start("head", "--head", f"--port={port}", *dashboard)
        self.second = self._start("second", f"--address={self.address}")

    def run(self, *command: str | Path) -> subprocess.Popen[str]:
        """Starts a Python program that knows the cluster's token."""
        return subprocess.Popen([sys.executable, *command], env=self.environment, stderr=subprocess.PIPE, text=True)

    def kill_actor(self) -> None:
        """Kills the process of one of the actors that make shards."""
        kill(self._find(r"ray::MapWorker\(MapBatches\(_EmbedShard\)\)", self.head, self.second)[0])

    def kill_second(self) -> None:
        """Kills the raylet of the second node: its actors go with it, and the cluster loses the node."""
        kill(self._find(r"\S*/raylet ", self.second)[0])

    def restart_second(self) -> None:
        kill_session(self.second.pid)
        self.second.wait()
        self.second = self._start("second", f"--address={self.address}")

    def close(self) -> None:
        """Kills all of it; raises AssertionError if a process is left."""
        for node in (self.second, self.head):
            kill_session(node.pid)
            node.wait()
        wait_until(lambda: not find_marked(self.mark), 20)
        shutil.rmtree(self.folder)

    def _find(self, command: str, *nodes: subprocess.Popen[bytes]) -> list[int]:
        """Returns the processes of nodes whose command line begins like a regular expression."""
        sessions = [node.pid for node in nodes]
        found = processes().items()
        return [process for process, (session, line) in found if session in sessions and re.match(command, line)]

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                [
                    *(sys.executable, "-c", _RAY, "start", *options, "--block", "--disable-usage-stats"),
                    *("--num-cpus=1", "--num-gpus=0", "--node-ip-address=127.0.0.1", "--object-store-memory=80000000"),
                    *("--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={self.folder / name}"),
                ],
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        wait_until(lambda: "runtime started" in log.read_text() or node.poll() is not None, 90)
        if node.poll() is not None:
            raise RuntimeError(log.read_text())
        return node


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes() -> dict[int, tuple[int, str]]:
    """Returns the processes of this machine: number -> (session, command line)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state != "Z":
                    found[int(folder.name)] = int(session), command
    return found


def find_marked(mark: str) -> list[str]:
    """Returns the command lines of the other processes that have a text in their environment."""
    found = []
    for process, (_, command) in processes().items():
        with suppress(OSError):
            if process != os.getpid() and mark.encode() in Path(f"/proc/{process}/environ").read_bytes():
                found.append(command)
    return found


def kill_session(session: int) -> None:
    """Kills all processes of a session, and those that they start meanwhile."""
    while members := [process for process, (of, _) in processes().items() if of == session]:
        for process in members:
            kill(process)
        time.sleep(0.05)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


if __name__ == "__main__":
    from data.ray_engine import RayEngine

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored for what runs in the background
    engine = RayEngine(*sys.argv[2:], num_actors=None if sys.argv[2:] else 2)
    try:
        encode(Path(sys.argv[1]), engine)
    except KeyboardInterrupt:
        files = sorted(file.name for file in Path(sys.argv[1]).iterdir())
        sys.stderr.write(f"left: {find_marked(tempfile.gettempdir())} {files}\n")
        encode(Path(sys.argv[1]), engine)
