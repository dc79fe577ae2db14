"""The plans of shards on their way to other machines: a folder beside the shards, where all of the machines see it."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.plan import ShardPlan
from data.shards import shard_path

_WORK = ".work"
_RECIPE = "recipe.json"
_QUEUE = "queue"
_END = "end"
_POLL_SECONDS = 0.05
_MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class Spool:
    """Plans of shards between the process that reads the corpus and those that make the shards.

    Only numbers travel through Ray; a plan is a file that is there while its shard is not. A shard is made in a folder
    of its own, one for each attempt, and moved to its place when it is whole: a machine that was given up for lost may
    still be writing while another does its work, and neither gets in the way of the other.

    Args:
        folder: of the store, on storage that all machines share.
    """

    folder: Path

    # --- where the corpus is read -------------------------------------------------------------------------------------

    def begin(self, recipe: dict[str, Any]) -> None:
        """Makes the spool anew; what a killed run left in it is gone."""
        self.remove()
        self._work.mkdir(exist_ok=True)
        (self._work / _RECIPE).write_text(json.dumps(recipe))
        (self._work / _QUEUE).write_text("")

    def put(self, plan: ShardPlan) -> None:
        """Adds a plan to the queue."""
        self._plan_path(plan.index).write_text(json.dumps([plan.first, plan.to_json()]))
        self._append(str(plan.index))

    def end(self) -> None:
        """Says that no more plans will come."""
        self._append(_END)

    def discard(self, index: int) -> int:
        """Removes the plan of a shard that is made, and what attempts at it left; returns how many were cut short."""
        self._plan_path(index).unlink(missing_ok=True)
        attempts = self._attempts(index)
        for attempt in attempts:
            shutil.rmtree(attempt, ignore_errors=True)
        return len(attempts)

    def remove(self) -> None:
        """Removes the spool."""
        shutil.rmtree(self._work, ignore_errors=True)

    # --- where shards are made ----------------------------------------------------------------------------------------

    def recipe(self) -> dict[str, Any]:
        """Returns what `begin` was given."""
        recipe: dict[str, Any] = json.loads((self._work / _RECIPE).read_text())
        return recipe

    def numbers(self) -> Iterator[int]:
        """Yields the numbers of all plans, the first one first, and waits for the next until there is an end."""
        line = ""
        with (self._work / _QUEUE).open() as queue:
            while line != f"{_END}\n" and self._work.exists():
                line += queue.readline()
                if not line.endswith("\n"):  # nothing new, or a line that is still being written
                    time.sleep(_POLL_SECONDS)
                elif line != f"{_END}\n":
                    yield int(line)
                    line = ""

    def plan(self, index: int) -> ShardPlan:
        """Returns a plan."""
        first, documents = json.loads(self._plan_path(index).read_text())
        return ShardPlan.from_json(index, first, documents)

    @contextmanager
    def attempt(self, index: int) -> Iterator[Path]:
        """Gives a folder to make a shard in, from where `move` brings it to its place.

        Raises:
            FileNotFoundError: the folder is not shared with this machine.
            ValueError: too many attempts at this shard were cut short.
        """
        if not self._work.is_dir():
            raise FileNotFoundError(
                f"{os.uname().nodename} does not see {self._work}; the store must be on storage that all machines share"
            )
        if len(self._attempts(index)) >= _MAX_ATTEMPTS:
            raise ValueError(
                f"whatever process makes shard {index} of {self.folder} is killed, {_MAX_ATTEMPTS} times now; is there "
                f"enough memory on {os.uname().nodename}?"
            )
        folder = Path(tempfile.mkdtemp(prefix=f"{index:05d}-", dir=self._work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def move(self, attempt: Path, index: int) -> None:
        """Moves a shard that is made to its place, the sidecar last: it commits."""
        made, place = shard_path(attempt, index), shard_path(self.folder, index)
        place.with_suffix(".json").unlink(missing_ok=True)  # a sidecar must never describe other bytes
        for suffix in (".arrow", ".json"):
            made.with_suffix(suffix).replace(place.with_suffix(suffix))
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @property
    def _work(self) -> Path:
        return self.folder / _WORK

    def _plan_path(self, index: int) -> Path:
        return self._work / f"{index:05d}.json"

    def _attempts(self, index: int) -> list[Path]:
        return list(self._work.glob(f"{index:05d}-*"))

    def _append(self, line: str) -> None:
        with (self._work / _QUEUE).open("a") as queue:
            queue.write(f"{line}\n")
