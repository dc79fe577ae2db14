"""`lcm encode --engine ray`: the corpus is read here, its shards are made by many actors, on many machines."""

import os
import pickle
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from data.embed import Advance, Recipe, embed_shard
from data.plan import ShardPlan
from data.ray_cluster import connected
from data.shards import is_committed, read_sidecar
from data.splitters import splitter_from_json
from data.spool import Spool

_AHEAD = 4  # plans an actor, waiting or in work: the corpus is read no faster than it is embedded
_IN_FLIGHT = 3  # of these, at the actor: those in work and one to go on with
_IN_WORK = 2  # of these, at a time
_SECONDS_TO_SEE = 90.0  # what another machine wrote: NFS believes for up to a minute that a file is not there


@dataclass(frozen=True)
class RayEngine:
    """Makes shards with Ray Data, one a task; needs the extra [ray].

    A shard is a function of its plan, and an actor commits it by itself. So an actor or a machine may be lost at any
    moment: its shard is made again elsewhere, with the same bytes.

    Args:
        address: of a Ray cluster that this machine is part of, "auto" or "host:port"; None starts Ray on this machine
            alone, and stops it at the end.
        num_actors: encoders at work; None takes as many as there is room for.
        cpus_per_actor: cores, and torch threads, of each.
        gpus_per_actor: GPUs of each; 0.5 lets two share one.
    """

    address: str | None = None
    num_actors: int | None = None
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0

    def __post_init__(self) -> None:
        if self.num_actors is not None and self.num_actors < 1:
            raise ValueError(f"Ray needs at least one actor, got {self.num_actors}")
        if self.cpus_per_actor < 1:
            raise ValueError(f"an actor of Ray needs at least one core, got {self.cpus_per_actor}")
        if self.gpus_per_actor < 0:
            raise ValueError(f"an actor of Ray cannot have {self.gpus_per_actor:g} GPUs")

    def __call__(self, plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance) -> None:
        """Commits a shard for each plan, in any order.

        Raises:
            ImportError: Ray is not installed.
            ConnectionError: there is no cluster at the address.
            ValueError: no room for an actor, NaN out of the encoder, another model or other code on another machine.
            OSError: the disk is full.
        """
        plans = iter(plans)
        first = next(plans, None)
        if first is None:  # all is there: Ray need not be started
            return
        cores = self.num_actors * self.cpus_per_actor if self.num_actors else len(os.sched_getaffinity(0))
        spool = Spool(folder.resolve())
        try:
            with connected(self.address, cores):
                spool.begin(_describe(recipe))
                self._make(chain([first], plans), recipe, spool, advance)
        finally:
            spool.remove()

    def _make(self, plans: Iterator[ShardPlan], recipe: Recipe, spool: Spool, advance: Advance) -> None:
        """Hands plans to the actors, no more at a time than keep them busy, until each is a shard."""
        num_actors = self._count_actors()
        num_chars: dict[int, int] = {}  # of the plans that are not shards yet
        made: dict[int, str] = {}
        num_lost = 0

        def feed(number: int) -> None:
            full = len(num_chars) + number
            for plan in islice(plans, number):
                num_chars[plan.index] = plan.num_chars
                spool.put(plan)
            if len(num_chars) < full:
                spool.end()

        feed(_AHEAD * num_actors)
        with closing(self._results(min(num_actors, len(num_chars)), recipe, spool)) as results:
            for result in results:
                index = int(result["index"][0])
                _raise_error(str(result["error"][0]), int(result["errno"][0]))
                made[index] = str(result["inputs"][0])
                num_lost += spool.discard(index)
                advance(int(result["sentences"][0]), num_chars.pop(index))
                feed(1)
        if num_chars:
            raise ValueError(f"Ray ended without {len(num_chars)} of the shards; run the same command again")
        if num_lost:
            warnings.warn(f"shards were begun again {num_lost} times: a process or a machine was lost", stacklevel=3)
        _wait_to_see(spool.folder, made)

    def _results(self, num_actors: int, recipe: Recipe, spool: Spool) -> Generator[dict[str, np.ndarray]]:
        """Yields what became of each plan, as `_EmbedShard` returns it."""
        import ray
        from ray import cloudpickle

        here = ray.get_runtime_context().get_node_id()
        dataset = ray.data.from_items([{"index": -1}])
        dataset.context.enable_progress_bars = False
        dataset.context.print_on_execution_start = False
        dataset.context.target_max_block_size = 1  # byte: each number goes on as soon as it is there
        numbers = dataset.map_batches(_Follow(spool), num_cpus=0, label_selector={"ray.io/node-id": here})
        # From Ray 2.60 on it is the default that lost actors and lost tasks come again without end.
        shards = numbers.map_batches(
            _EmbedShard,
            fn_constructor_args=(spool, cloudpickle.dumps(recipe.encoder), self.cpus_per_actor),
            batch_size=1,
            num_cpus=self.cpus_per_actor,
            num_gpus=self.gpus_per_actor or None,
            compute=ray.data.ActorPoolStrategy(
                size=num_actors,
                max_tasks_in_flight_per_actor=_IN_FLIGHT,
                max_concurrent_calls_per_actor=_IN_WORK,
                enable_true_multi_threading=True,
            ),
        )
        yield from shards.iter_batches(batch_size=1, prefetch_batches=0)

    def _count_actors(self) -> int:
        """Returns how many actors are to be started; warns where fewer can be, and where a GPU is idle."""
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        num_gpus = sum(machine.get("GPU", 0) for machine in machines)
        room = 0
        for machine in machines:
            fitting = machine.get("CPU", 0) / self.cpus_per_actor
            if self.gpus_per_actor:
                fitting = min(fitting, machine.get("GPU", 0) / self.gpus_per_actor)
            room += int(fitting)
        wanted = f"{self.cpus_per_actor} CPU and {self.gpus_per_actor:g} GPU"
        if self.num_actors is None and not room:
            raise ValueError(f"no machine of the Ray cluster has room for an actor of {wanted}")
        if self.num_actors and self.num_actors > room:
            warnings.warn(
                f"Ray has room for {room} of {self.num_actors} actors of {wanted}; the others wait for more machines",
                stacklevel=4,
            )
        if num_gpus and not self.gpus_per_actor:
            warnings.warn(f"{num_gpus:g} GPUs of the Ray cluster stay idle; give gpus_per_actor", stacklevel=4)
        return self.num_actors or room


class _Follow:
    """Yields the numbers of the plans while the corpus is read."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for number in self.spool.numbers():
            yield {"index": np.array([number])}


class _EmbedShard:
    """Makes the shards of the plans whose numbers it is given; the encoder is loaded with the first one.

    What users can mend comes back as a sentence: raised here, it would reach them as a traceback of Ray's.
    """

    def __init__(self, spool: Spool, encoder: bytes, num_threads: int) -> None:
        self.spool, self.encoder = spool, encoder
        self._turn = Lock()  # of the two calls that are in work one encodes, the other splits or writes
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
            os.environ[name] = str(num_threads)  # torch and the tokenizers look when they are imported

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        index = int(batch["index"][0])
        result: dict[str, int | str] = {"index": index, "sentences": 0, "inputs": "", "error": "", "errno": 0}
        try:
            result |= self._make(index)
        except (ValueError, OSError, ImportError) as error:
            result |= {"error": str(error) or type(error).__name__, "errno": getattr(error, "errno", None) or 0}
        return {name: np.array([value]) for name, value in result.items()}

    def _make(self, index: int) -> dict[str, Any]:
        """Commits a shard, unless an attempt that was cut short after its end has done so."""
        with self.spool.attempt(index) as folder:
            plan = self.spool.plan(index)
            with self._turn:
                recipe = self._recipe
            inputs = plan.digest(recipe.digest)
            if not is_committed(self.spool.folder, index, inputs):
                embed_shard(plan, recipe, folder, self._turn)
                self.spool.move(folder, index)
        sidecar = read_sidecar(self.spool.folder, index)
        assert sidecar is not None, index
        return {"sentences": sidecar["rows"], "inputs": inputs}

    @cached_property
    def _recipe(self) -> Recipe:
        described = self.spool.recipe()
        encoder = pickle.loads(self.encoder)
        here = os.uname().nodename
        if encoder.fingerprint != described["fingerprint"]:
            raise ValueError(
                f'encoder "{encoder.name}" is {encoder.fingerprint} on {here} and {described["fingerprint"]} where the '
                "corpus is read; install the same model on all machines"
            )
        recipe = Recipe(splitter_from_json(described["splitter"]), encoder, described["max_chars"])
        if recipe.digest != described["digest"]:
            raise ValueError(
                f"{here} splits or stores in another way than the machine that reads the corpus; install one version "
                "of concept-lm on all machines"
            )
        return recipe


def _describe(recipe: Recipe) -> dict[str, Any]:
    return {
        "fingerprint": recipe.encoder.fingerprint,
        "splitter": recipe.splitter.to_json(),
        "max_chars": recipe.max_chars,
        "digest": recipe.digest,
    }


def _raise_error(text: str, errno: int) -> None:
    """Raises what an actor reported, if it did."""
    if not text:
        return
    if not errno:
        raise ValueError(text)
    error = OSError(text)
    error.errno = errno  # a full disk is told by it
    raise error


def _wait_to_see(folder: Path, made: dict[int, str]) -> None:
    """Waits until the shards that other machines committed are there for this one too."""
    deadline = time.monotonic() + _SECONDS_TO_SEE
    for index, inputs in made.items():
        while (read_sidecar(folder, index) or {}).get("inputs") != inputs:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"shard {index} was made but is not in {folder}; the store must be on storage that all machines "
                    "share"
                )
            time.sleep(0.5)
