"""One function in many processes: work that would keep the threads of this one waiting for each other.

Each process is a fresh Python at the other end of a pipe. `multiprocessing` would fork, which is not safe beside the
threads of torch, or run the user's script a second time.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

_TOLD = (ValueError, OSError, ImportError)  # what users can mend; another error ends the process, with its traceback


class Processes(Generic[Given, Made]):
    """Calls a function in processes of its own, which are started when they are needed.

    Leaving the `with` block waits for the calls in work, drops those that wait, and ends the processes.

    Args:
        function: is pickled, and so are its argument and its result.
        number: of processes.
    """

    def __init__(self, function: Callable[[Given], Made], number: int) -> None:
        pickled = pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
        self._processes = [_Process(pickled) for _ in range(number)]
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="process")  # each waits for one of them
        self._free: SimpleQueue[_Process] = SimpleQueue()
        for process in self._processes:
            self._free.put(process)

    def submit(self, item: Given) -> "Future[Made]":
        """Returns at once; the result comes when a process has made it.

        The future raises ValueError, OSError or ImportError as the function did, RuntimeError where a process died.
        """
        return self._threads.submit(self._call, item)

    def _call(self, item: Given) -> Made:
        process = self._free.get()
        try:
            made: Made = process.call(item)
        finally:
            self._free.put(process)
        return made

    def __enter__(self) -> "Processes[Given, Made]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.end()


class _Process:
    """A Python that runs `_serve`."""

    def __init__(self, function: bytes) -> None:
        self._function = function

    @cached_property
    def _running(self) -> "subprocess.Popen[bytes]":
        paths = os.pathsep.join(filter(None, sys.path))
        return subprocess.Popen(
            [sys.executable, "-m", "data.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            process_group=0,  # Ctrl-C is for the process that made this one
            close_fds=False,  # what is inheritable is inherited: the lock of a folder that is written to
        )

    def call(self, item: object) -> Any:
        is_new = "_running" not in self.__dict__
        process = self._running
        try:
            if is_new:
                _send(self._function, process.stdin)
            _send(pickle.dumps(item, pickle.HIGHEST_PROTOCOL), process.stdin)
            assert process.stdout is not None
            made, error = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"a process that helps this one ended with status {process.wait()}") from None
        if error is not None:
            raise error
        return made

    def end(self) -> None:
        if "_running" in self.__dict__:
            self._running.communicate()  # closes its input


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Takes a pickled function, and then answers each pickled item with a pickled (result, error)."""
    function = pickle.load(requests)
    while True:
        try:
            item = pickle.load(requests)
        except EOFError:
            return
        made = error = None
        try:
            made = function(item)
        except _TOLD as raised:
            error = raised
        _send(pickle.dumps((made, error), pickle.HIGHEST_PROTOCOL), replies)


def _send(pickled: bytes, pipe: IO[bytes] | None) -> None:
    assert pipe is not None
    pipe.write(pickled)
    pipe.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    try:
        _serve(sys.stdin.buffer, answers)
    except (EOFError, BrokenPipeError):  # it was killed
        os._exit(1)
