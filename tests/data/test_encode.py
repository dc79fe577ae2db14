import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.embed
import data.encode
from data.document import Block, Document
from data.durable import hidden
from data.embed import Advance, Recipe, embed_shard
from data.encode import encode_corpus, encode_here
from data.end_of_text import END_OF_TEXT
from data.plan import SHARD_CHARS, ShardPlan, plan_shards
from data.shards import list_sidecars, shard_path
from data.store import ConceptStore
from data.transfer.rewrite import merge_stores
from encoders.hashing import HashingEncoder

DIM = 16


def make_documents(number: int = 6, sentences: int = 9) -> list[Document]:
    return [
        Document(
            f"Tale {n}",
            (
                Block(f"Tale {n}", 2, "heading"),
                *(Block(f"The king {n} went out {m} times. ‘Who is there?’ asked he.") for m in range(sentences)),
            ),
            "test",
        )
        for n in range(number)
    ]


def encode(path: Path, documents: Iterable[Document] | None = None, **options: Any) -> ConceptStore:
    documents = make_documents() if documents is None else documents
    return encode_corpus(documents, HashingEncoder(DIM), path, progress=False, shard_chars=900, **options)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name != ".lock"}


class Counting(HashingEncoder):
    calls = 0  # for shards

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        self.calls += sentences != [END_OF_TEXT]
        return super().encode(sentences)


def test_the_second_call_encodes_nothing(tmp_path: Path) -> None:
    documents, encoder = make_documents(), Counting(DIM)
    first = encode_corpus(documents, encoder, tmp_path, progress=False, shard_chars=900)
    before, calls = files_of(tmp_path), encoder.calls
    encode_corpus(documents, encoder, tmp_path, progress=False, shard_chars=900)
    assert encoder.calls == calls and files_of(tmp_path) == before

    added = [*documents, *make_documents(7)[6:]]  # at the end: only the last shard differs
    store = encode_corpus(added, encoder, tmp_path, progress=False, shard_chars=900)
    assert encoder.calls == calls + 1 and len(store) == len(first) + 1

    fewer = encode_corpus(documents[:4], encoder, tmp_path, progress=False, shard_chars=900)
    assert encoder.calls == calls + 1
    assert len(fewer) == 4 and not shard_path(tmp_path, 2).exists()
    fewer.verify()


def test_documents_stream_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.encode, "SAMPLE_CHARS", 2000)
    read: list[int] = []
    made: list[int] = []

    def documents() -> Iterator[Document]:
        for number, document in enumerate(make_documents(40)):
            read.append(number)
            yield document

    class Watching(HashingEncoder):
        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            made.append(len(read))
            return super().encode(sentences)

    store = encode_corpus(documents(), Watching(DIM), tmp_path, progress=False, shard_chars=900)
    assert len(store) == 40 and made[0] < 8 and made == sorted(made) and len(set(made)) > 12


def one_after_the_other(plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance) -> None:
    """The road without threads: what an actor of Ray does."""
    for plan in plans:
        embed_shard(plan, recipe, folder, nullcontext())


@pytest.mark.parametrize("num_splitters", [0, 3])
def test_threads_and_processes_write_the_same_bytes(tmp_path: Path, num_splitters: int) -> None:
    documents = make_documents(30)
    encode(tmp_path / "plain", documents, engine=one_after_the_other)
    encode(tmp_path / "road", documents, engine=partial(encode_here, num_splitters=num_splitters))
    assert files_of(tmp_path / "road") == files_of(tmp_path / "plain")


class Waiting(HashingEncoder):
    """Does not return before the former shard is on the disk and a later one was read."""

    def __init__(self, folder: Path, read: list[int]) -> None:
        super().__init__(DIM)
        self.folder, self.read, self.shards = folder, read, 0

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        if sentences == [END_OF_TEXT]:
            return super().encode(sentences)
        titles = [int(sentence[5:]) for sentence in sentences if sentence.startswith("Tale ")]
        deadline = time.monotonic() + 20
        while len(list_sidecars(self.folder)) < self.shards or self.read[-1] == max(titles) < 29:
            assert time.monotonic() < deadline, (self.shards, self.read[-1], titles)
            time.sleep(0.001)
        assert [int(file.stem) for file in list_sidecars(self.folder)] == list(range(self.shards))  # in order
        assert self.read[-1] - max(titles) < 8  # no more than a few shards are held
        self.shards += 1
        return super().encode(sentences)


def test_shards_are_read_before_and_written_behind_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.encode, "SAMPLE_CHARS", 100)
    read: list[int] = []

    def documents() -> Iterator[Document]:
        for number, document in enumerate(make_documents(30)):
            read.append(number)
            yield document

    encoder = Waiting(tmp_path, read)
    encode_corpus(documents(), encoder, tmp_path, progress=False, shard_chars=900)
    assert encoder.shards == len(list_sidecars(tmp_path)) > 10


class Failing(HashingEncoder):
    """Fails at one tale, in one of the ways in which an encoder ends."""

    def __init__(self, fail: Callable[[], object]) -> None:
        super().__init__(DIM)
        self.fail, self.calls = fail, 0

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        self.calls += sentences != [END_OF_TEXT]
        if "Tale 17" in sentences:
            self.fail()
        return super().encode(sentences)


def press_control_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    signal.raise_signal(signal.SIGINT)


def run_out() -> None:
    raise MemoryError("no memory is left")


@pytest.mark.parametrize("num_splitters", [0, 1])
@pytest.mark.parametrize(("fail", "expected"), [(press_control_c, KeyboardInterrupt), (run_out, MemoryError)])
def test_an_encoder_that_fails_leaves_the_shards_before(
    tmp_path: Path, fail: Callable[[], object], expected: type[BaseException], num_splitters: int
) -> None:
    documents, failing = make_documents(30), Failing(fail)
    engine = partial(encode_here, num_splitters=num_splitters)
    with pytest.raises(expected):
        encode_corpus(documents, failing, tmp_path / "store", progress=False, shard_chars=900, engine=engine)
    done = len(list_sidecars(tmp_path / "store"))
    assert done == failing.calls - 1 > 5
    check_continues(tmp_path, documents, done)


@pytest.mark.parametrize("num_splitters", [0, 1])
def test_documents_that_end_in_an_error_leave_the_shards_before(
    tmp_path: Path, num_splitters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.encode, "SAMPLE_CHARS", 1000)
    documents = make_documents(30)

    def broken() -> Iterator[Document]:
        yield from documents[:20]
        raise FileNotFoundError("the disk with the texts is gone")

    engine = partial(encode_here, num_splitters=num_splitters)
    with pytest.raises(FileNotFoundError, match="the disk with the texts is gone"):
        encode(tmp_path / "store", broken(), engine=engine)
    check_continues(tmp_path, documents, len(list_sidecars(tmp_path / "store")), at_least=9)


@pytest.mark.parametrize("num_splitters", [0, 1])
def test_a_shard_that_cannot_be_written_stops_the_encoder(tmp_path: Path, num_splitters: int) -> None:
    documents, encoder = make_documents(60), Counting(DIM)
    in_the_way = tmp_path / "store" / "00004.arrow"
    (in_the_way / "x").mkdir(parents=True)
    with pytest.raises(OSError, match=r"Is a directory|not empty"):
        encode_corpus(
            documents,
            encoder,
            tmp_path / "store",
            progress=False,
            shard_chars=900,
            engine=partial(encode_here, num_splitters=num_splitters),
        )
    assert len(list_sidecars(tmp_path / "store")) == 4 and encoder.calls < 12
    (in_the_way / "x").rmdir()
    in_the_way.rmdir()
    check_continues(tmp_path, documents, 4)


def test_the_encoder_is_stopped_within_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.embed, "_STEP", 1)
    (tmp_path / "00000.arrow" / "x").mkdir(parents=True)
    called: list[float] = []

    class Late(HashingEncoder):
        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            called.append(time.monotonic())
            time.sleep(0.01)
            return super().encode(sentences)

    documents = [*make_documents(1, 20), *make_documents(1, 600)]  # the first one fails while the other is encoded
    with pytest.raises(OSError, match=r"Is a directory|not empty"):
        encode_corpus(documents, Late(DIM), tmp_path, progress=False, shard_chars=900)
    assert len(called) < 1000 < 20 + 2 * 600


def test_a_shard_is_encoded_a_few_sentences_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "whole")
    monkeypatch.setattr(data.embed, "_STEP", 7)
    encode(tmp_path / "steps")
    assert files_of(tmp_path / "steps") == files_of(tmp_path / "whole")


def check_continues(folder: Path, documents: Sequence[Document], done: int, *, at_least: int = 1) -> None:
    """Checks that a run which failed left whole shards and no threads, and that the next one only makes the others."""
    assert done >= at_least
    assert not [
        thread.name for thread in threading.enumerate() if thread.name.startswith(("ahead", "behind", "process"))
    ]
    encode(folder / "whole", documents)
    expected = files_of(folder / "whole")
    left = {name: content for name, content in files_of(folder / "store").items() if not name.startswith(".")}
    assert all(expected[name] == content for name, content in left.items()) and len(left) >= 2 * done
    encoder = Counting(DIM)
    encode_corpus(documents, encoder, folder / "store", progress=False, shard_chars=900)
    assert files_of(folder / "store") == expected
    assert encoder.calls == len(list_sidecars(folder / "whole")) - done


def test_shards_grow_with_the_corpus() -> None:
    documents = [Document(str(n), (Block("x" * 100),), "test") for n in range(30_000)]
    plans = list(plan_shards(documents, 1000))
    assert [document for plan in plans for document in plan.documents] == documents
    assert [plan.first for plan in plans] == np.cumsum([0, *(len(plan.documents) for plan in plans)])[:-1].tolist()
    sizes = [plan.num_chars for plan in plans[:-1]]
    assert sizes == sorted(sizes) and sizes[0] == 1000 and sizes[-1] == 16_000
    assert SHARD_CHARS * 16 / 75 < 65_536  # rows of the largest shard: a few dozen megabytes


def test_shards_are_listed_by_number_however_many(tmp_path: Path) -> None:
    for name in ("100000.json", "00002.json", "99999.json", "manifest.json"):
        (tmp_path / name).touch()
    assert [file.name for file in list_sidecars(tmp_path)] == ["00002.json", "99999.json", "100000.json"]


def test_what_a_killed_run_with_ray_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "00000.json").touch()
    encode(tmp_path)
    assert not (tmp_path / ".work").exists()


def test_a_plan_goes_through_json() -> None:
    (plan,) = plan_shards(make_documents(2))
    again = ShardPlan.from_json(plan.index, plan.first, plan.to_json())
    assert again == plan and again.digest("x") == plan.digest("x") != plan.digest("y")


class Slow(HashingEncoder):
    """Takes its time, so that a signal from outside hits it somewhere."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        signal.pause() if not sentences else signal.sigtimedwait([], 0.004)
        return super().encode(sentences)


def in_child(action: Callable[[], object]) -> int:
    """Runs an action in a fork and returns its wait status."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError:
            os._exit(1)
        else:
            os._exit(0)
        finally:
            os._exit(2)  # never back into pytest
    return os.waitpid(child, 0)[1]


def die_at(step: int) -> None:
    """Kills this process before the step-th durable step or encoder call."""
    left = step

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return wrapped

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
    Path.write_text = counted(Path.write_text)  # type: ignore[method-assign]
    HashingEncoder.encode = counted(HashingEncoder.encode)  # type: ignore[method-assign]


def encode_until(step: int, path: Path) -> None:
    die_at(step)
    encode(path)


def test_a_run_killed_before_any_step_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed, step = tmp_path / "whole", tmp_path / "killed", 0
    encode(whole)
    expected = files_of(whole)
    while True:
        step += 1
        shutil.rmtree(killed, ignore_errors=True)
        status = in_child(partial(encode_until, step, killed))
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, step
        done = len(list(killed.glob("*.json"))) - (killed / "manifest.json").exists()
        encoder = Counting(DIM)
        encode_corpus(make_documents(), encoder, killed, progress=False, shard_chars=900)
        assert files_of(killed) == expected, step
        assert encoder.calls == 3 - done, step  # nothing is encoded twice but the shard in work
    assert step > 30


@pytest.mark.slow
@pytest.mark.parametrize(("num_splitters", "kills", "seconds"), [(0, 20, 0.15), (1, 8, 2.0)])
def test_a_run_killed_at_random_again_and_again_loses_nothing(
    tmp_path: Path, num_splitters: int, kills: int, seconds: float
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    documents, engine = make_documents(60), partial(encode_here, num_splitters=num_splitters)
    encode(whole, documents)
    random, num_kills = np.random.default_rng(0), 0
    while num_kills < kills:
        child = os.fork()
        if child == 0:
            try:  # what a killed run left may still be writing, and holds the folder until it has ended
                encode_corpus(documents, Slow(DIM), killed, progress=False, shard_chars=900, engine=engine)
            finally:
                os._exit(0)
        signal.sigtimedwait([], float(random.uniform(0.002, seconds)))
        os.kill(child, signal.SIGKILL)
        num_kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if not (killed / "manifest.json").exists():
            continue
        shutil.rmtree(killed)
    signal.sigtimedwait([], 1.0 if num_splitters else 0.0)
    encode(killed, documents)
    assert files_of(killed) == files_of(whole)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    code = "import sys, fcntl; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError, match=r"another process is writing to .*; wait for it"):
        encode(tmp_path)
    holder.communicate(b"\n")
    assert len(encode(tmp_path)) == 6


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_store_goes_on_after_space_was_made(tmpfs: Path, tmp_path: Path) -> None:
    documents = make_documents(30, 30)
    encode(tmp_path / "whole", documents)
    expected, done, size = files_of(tmp_path / "whole"), 0, 16
    while True:  # a little more space each time: the disk is full in another file each time
        try:
            encode(tmpfs / "store", documents)
            break
        except OSError as error:
            assert error.errno is None and "there is no space left to write" in str(error)
            assert not list(tmpfs.glob("**/.*.tmp"))
        assert len(list(tmpfs.glob("**/*.arrow"))) >= done
        done, size = len(list(tmpfs.glob("**/*.arrow"))), size + 12
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(tmpfs)], check=True)
    assert size > 100 and files_of(tmpfs / "store") == expected


def test_a_limit_of_file_size_is_told_as_well(tmp_path: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            encode(tmp_path)
        except OSError as error:
            os._exit(7 if "there is no space left to write" in str(error) else 8)

    assert os.waitstatus_to_exitcode(in_child(limited)) == 7
    assert not any(hidden(tmp_path / "x").parent.glob(".*.tmp"))


def test_nan_is_refused_by_document_and_sentence(tmp_path: Path) -> None:
    class Broken(HashingEncoder):
        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            concepts = super().encode(sentences)
            concepts[[sentence == "The king 2 went out 3 times." for sentence in sentences]] = np.nan
            return concepts

    with pytest.raises(ValueError, match=r'sentence 7 of "Tale 2": .The king 2 went out 3'):
        encode_corpus(make_documents(), Broken(DIM), tmp_path, progress=False)
    assert not list(tmp_path.glob("*.arrow"))


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    encode(tmp_path)
    with pytest.raises(ValueError, match="was encoded by hashing-1-16, not by hashing:8"):
        encode_corpus(make_documents(), HashingEncoder(8), tmp_path, progress=False)


def test_a_store_that_was_merged_is_not_written_over(tmp_path: Path) -> None:
    encode(tmp_path / "a")
    merge_stores([tmp_path / "a"], tmp_path / "b", progress=False)
    with pytest.raises(ValueError, match='was not written by "lcm encode"; choose another folder'):
        encode(tmp_path / "b")


def test_a_damaged_catalog_is_mended(tmp_path: Path) -> None:
    encode(tmp_path)
    expected = files_of(tmp_path)
    (tmp_path / "documents.arrow").write_bytes(expected["documents.arrow"][:-1] + b"x")
    encode(tmp_path)
    assert files_of(tmp_path) == expected


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files and no store"):
        encode(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds a manifest\.json that is not of a store"):
        encode(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        encode(tmp_path / "notes.txt")


def test_few_documents_are_all_for_training(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="nothing is held out"):
        store = encode(tmp_path, make_documents(2))
    assert store.split("train").tolist() == [0, 1]
    with pytest.raises(ValueError, match="no documents"):
        encode(tmp_path, [])


PIECES = st.sampled_from(
    ["", " \n\t ", "\0", "\ud800", "\u200b", "\u202e", "שלום.", "👩‍👩‍👧", "e\u0301" * 9, "A b. ", "\ufeff"]
)


@pytest.mark.filterwarnings("ignore:fewer than three different documents")
@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(PIECES | st.text(max_size=20), max_size=5).map("".join), min_size=1, max_size=6))
def test_any_text_becomes_a_store_that_verifies(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    documents = [Document(f"T{n}", (Block(text),), "odd") for n, text in enumerate(texts)]
    store = encode(tmp_path_factory.mktemp("odd"), documents)
    store.verify()
    assert len(store) == len(texts)
    assert [len(store[i]) for i in range(len(texts))] == store.lengths.tolist()


def test_a_million_characters_without_a_full_stop_are_cut(tmp_path: Path) -> None:
    documents = [*make_documents(3), Document("long", (Block("word " * 100_000 + "x" * 500_000),), "test")]
    store = encode(tmp_path, documents)
    assert max(map(len, store.sentences(3))) <= 250
    assert "".join("".join(store.sentences(3)).split()) == "word" * 100_000 + "x" * 500_000
