"""Processes that train together end together: by one signal, or by one error that is said once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

FIRST_SPEAKS = 3.0  # seconds that a later process leaves the first one to say the same
PARENT = "LCM_FIRST_PROCESS"  # environment variable that children inherit
ENDING = 20.0  # seconds that a process has for ending by itself


class Together(Callback):
    """Ends all processes of a training where one is told to end or fails; has nothing to do in a single process.

    Lightning's own handler of SIGTERM talks to the other processes in the middle of whatever they are at, and its
    observer kills the first process while that one still saves. Here a signal (SIGTERM, or Ctrl-C) is only noted; at
    the end of the step all processes learn of it, and stop behind the same step. The same signal again ends at once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.children: list[subprocess.Popen[bytes]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the children over from Lightning's observer, which ends when it has none left to observe."""
        started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        if started:
            self.children = list(started)
            started.clear()
            threading.Thread(target=self._watch_children, daemon=True).start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note signals from now on; Lightning restores the handlers before at the end."""
        if trainer.world_size > 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree on whether to stop."""
        if trainer.world_size > 1:
            noted = torch.tensor(self.signal, device=trainer.strategy.root_device)
            dist.all_reduce(noted, op=dist.ReduceOp.MAX)
            if agreed := int(noted):  # a signal that came in the meantime stays noted for the next step
                self.signal = agreed
                # Lightning raises behind the step, when its counters are right; it has no public name.
                trainer._signal_connector.received_sigterm = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Run what is inside; an error ends the other processes, and only one of them tells of it."""
        if is_child():  # the parent may be gone by now, so it has left its number
            threading.Thread(
                target=_watch_parent, args=(int(os.environ.get(PARENT, os.getppid())),), daemon=True
            ).start()
        else:
            os.environ[PARENT] = str(os.getpid())
        try:
            yield
        except BaseException as error:
            if self.children:
                self._end_children(error)
            elif is_child() and isinstance(error, Exception):
                time.sleep(FIRST_SPEAKS)  # ended by now, if the first process has failed as well
            if self.signal == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise
        finally:
            os.environ.pop(PARENT, None)

    def _end_children(self, error: BaseException) -> None:
        """Let children end if they will; raise SystemExit if the error is only that one of them is gone."""
        if isinstance(error, RuntimeError):  # what gloo and NCCL raise when a connection is lost
            wait(lambda: self._failed() != 0)
        if isinstance(error, SIGTERMException):
            wait(lambda: all(child.poll() is not None for child in self.children))
        failed = self._failed()
        self._kill()
        if failed and isinstance(error, RuntimeError):
            sys.exit(failed)

    def _failed(self) -> int:
        """Return an exit code of a child that ended with an error, 0 if there is none."""
        return next((abs(code) for code in (child.poll() for child in self.children) if code), 0)

    def _kill(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()

    def _watch_children(self) -> None:
        """End this process if it hangs behind a child that has failed, as it may with NCCL."""
        while not self._failed():
            time.sleep(1)
        time.sleep(2 * ENDING)
        code = self._failed()
        self._kill()
        os._exit(code)


def wait(until: Callable[[], bool]) -> None:
    """Wait for something to become true, a while at most."""
    deadline = time.monotonic() + ENDING
    while time.monotonic() < deadline and not until():
        time.sleep(0.1)


def is_child() -> bool:
    """Return whether this process was started by another process of the training."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0


def _watch_parent(parent: int) -> None:
    """End this process when the one that started it is gone: nobody else would."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
