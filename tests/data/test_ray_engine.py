import errno
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import ray_nodes
from ray_nodes import Nodes, find_marked, make_documents, wait_until

import data.ray_engine
from data.encode import Recipe
from data.plan import ShardPlan, plan_shards
from data.ray_engine import RayEngine, _describe, _EmbedShard
from data.splitters import make_splitter
from data.spool import Spool
from data.store import ConceptStore
from encoders.hashing import HashingEncoder

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra [ray] is not installed")


class Nan(HashingEncoder):
    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        concepts = super().encode(sentences)
        concepts[3] = np.nan
        return concepts


class Other(HashingEncoder):
    """An encoder whose model is another one where it is unpickled."""

    def __reduce__(self) -> Any:
        return HashingEncoder, (self.dim + 1,)


class Full(HashingEncoder):
    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("here")
    ray_nodes.encode(folder)
    return files_of(folder)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name != ".lock"}


def committed(path: Path) -> list[Path]:
    return sorted(path.glob("[0-9]*.json"))


def check(path: Path, expected: dict[str, bytes]) -> None:
    """Every sentence once, in its place; no temporaries; the bytes of the one-process engine."""
    store = ConceptStore.open(path)
    store.verify()
    found = Counter((n, text) for n in range(len(store)) for text in store.sentences(n))
    assert len(store) == len(make_documents()) and max(found.values()) == 1
    assert files_of(path) == expected


def make_one(tmp_path: Path, encoder: HashingEncoder, **changes: Any) -> dict[str, np.ndarray]:
    """Does what an actor does with the first shard, here."""
    documents = make_documents(2)
    recipe = Recipe(make_splitter("punkt", documents), encoder)
    spool = Spool(tmp_path)
    spool.begin(_describe(recipe) | changes)
    for plan in plan_shards(documents):
        spool.put(plan)
    return _EmbedShard(spool, pickle.dumps(encoder), 1)({"index": np.array([0])})


# --- without Ray ------------------------------------------------------------------------------------------------------


def test_an_actor_commits_its_shard_and_not_twice(tmp_path: Path) -> None:
    result = make_one(tmp_path, HashingEncoder(16))
    assert (result["index"], result["sentences"], result["error"]) == ([0], [148], [""])
    written = (tmp_path / "00000.arrow").stat().st_ino
    assert make_one(tmp_path, HashingEncoder(16)) == result
    assert (tmp_path / "00000.arrow").stat().st_ino == written
    make_one(tmp_path, HashingEncoder(16), max_chars=30)
    assert sorted(file.name for file in tmp_path.glob(".work/*")) == ["00000.json", "queue", "recipe.json"]


@pytest.mark.parametrize(
    ("encoder", "changes", "message"),
    [
        (Nan(16), {}, 'NaN or infinity for sentence 3 of "Tale 0"'),
        (Other(16), {}, 'encoder "hashing:17" is hashing-1-17 on .* and hashing-1-16 where the corpus is read'),
        (HashingEncoder(16), {"max_chars": 99}, "install one version of concept-lm"),
        (Full(16), {}, "No space left"),
    ],
)
def test_what_a_user_can_mend_comes_back_as_a_sentence(
    tmp_path: Path, encoder: HashingEncoder, changes: dict[str, Any], message: str
) -> None:
    result = make_one(tmp_path, encoder, **changes)
    assert not committed(tmp_path) and not list(tmp_path.glob(".work/0*-*"))
    with pytest.raises((ValueError, OSError), match=message) as raised:
        data.ray_engine._raise_error(result["error"][0], int(result["errno"][0]))
    assert getattr(raised.value, "errno", None) == (errno.ENOSPC if isinstance(encoder, Full) else None)


def test_another_machine_without_the_folder_is_told(tmp_path: Path) -> None:
    result = _EmbedShard(Spool(tmp_path / "elsewhere"), b"", 1)({"index": np.array([0])})
    assert "storage that all machines share" in result["error"][0]


@pytest.mark.parametrize("options", [{"num_actors": 0}, {"cpus_per_actor": 0}, {"gpus_per_actor": -0.5}])
def test_impossible_actors_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="actor"):
        RayEngine(**options)


def run(engine: RayEngine, folder: Path, plans: Sequence[ShardPlan]) -> None:
    recipe = Recipe(make_splitter("punkt", make_documents(1)), HashingEncoder(16))
    engine(plans, recipe, folder, lambda sentences, chars: None)


def test_ray_is_not_started_for_nothing(tmp_path: Path) -> None:
    run(RayEngine("nowhere:1"), tmp_path, [])


def test_a_missing_ray_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"concept-lm\[ray\]"):
        run(RayEngine(), tmp_path, [*plan_shards(make_documents(1))])


@needs_ray
@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1", ":6379", "head:port"])
def test_a_wrong_address_is_told(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="is no address of a Ray cluster"):
        run(RayEngine(address), tmp_path, [*plan_shards(make_documents(1))])


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told_in_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"nothing answers at 127\.0\.0\.1:1 "):
        run(RayEngine("127.0.0.1:1"), tmp_path, [*plan_shards(make_documents(1))])
    assert time.monotonic() - started < 30
    assert not list(tmp_path.iterdir())


# --- on two nodes -----------------------------------------------------------------------------------------------------


@needs_ray
@pytest.mark.slow
def test_a_process_and_a_machine_may_be_lost(nodes: Nodes, tmp_path: Path, expected: dict[str, bytes]) -> None:
    store = tmp_path / "store"
    driver = nodes.run(ray_nodes.__file__, store, nodes.address)
    wait_until(lambda: len(committed(store)) >= 4 or driver.poll() is not None, 90)
    nodes.kill_actor()
    wait_until(lambda: len(committed(store)) >= 9 or driver.poll() is not None, 90)
    nodes.kill_second()
    assert len(committed(store)) < len([name for name in expected if name.endswith(".arrow")]) - 4
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors
    assert "begun again" in errors and len(errors.splitlines()) == 2  # one warning and its place
    check(store, expected)
    nodes.restart_second()


@needs_ray
@pytest.mark.slow
def test_the_run_itself_may_be_killed(nodes: Nodes, tmp_path: Path, expected: dict[str, bytes]) -> None:
    driver = nodes.run(ray_nodes.__file__, tmp_path, nodes.address)
    wait_until(lambda: len(committed(tmp_path)) >= 6 or driver.poll() is not None, 90)
    finished = {file: file.stat().st_mtime_ns for file in committed(tmp_path)}
    driver.kill()
    driver.communicate()
    assert (tmp_path / ".work").is_dir()
    again = nodes.run(ray_nodes.__file__, tmp_path, nodes.address)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0 and not errors, errors
    check(tmp_path, expected)
    assert finished == {file: file.stat().st_mtime_ns for file in finished}  # encoded once


# --- on this machine --------------------------------------------------------------------------------------------------


@needs_ray
@pytest.mark.slow
def test_ctrl_c_leaves_nothing_running_and_the_store_goes_on(tmp_path: Path, expected: dict[str, bytes]) -> None:
    store = tmp_path / "store"
    temporary = Path(tempfile.mkdtemp())  # a short path, and a mark on its processes
    driver = subprocess.Popen(
        [sys.executable, ray_nodes.__file__, str(store)],
        env=os.environ | {"TMPDIR": str(temporary), "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(committed(store)) >= 2 or driver.poll() is not None, 90)
    os.killpg(driver.pid, signal.SIGINT)  # all of the terminal's processes get it
    _, errors = driver.communicate(timeout=180)
    assert driver.returncode == 0, errors
    assert re.fullmatch(r"left: \[\] \[('\.lock'|'0....\.(arrow|json)'|, )+\]\n", errors)
    check(store, expected)
    wait_until(lambda: not find_marked(str(temporary)), 20)
    assert sorted(tmp_path.iterdir()) == [store]  # and no ~/.ray
    temporary.rmdir()
