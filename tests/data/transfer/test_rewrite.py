import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.encode import encode_corpus
from data.report import ReadReport
from data.shards import shard_path
from data.split import SPLITS, split_of
from data.store import ConceptStore
from data.transfer.rewrite import filter_store, merge_stores, split_store
from encoders.hashing import HashingEncoder

DIM = 8
SMALL = 3000  # bytes: some twenty rows a shard


def tale(number: int, **more: str) -> Document:
    sentences = " ".join(f"The fox saw {number} stones and {m} wells." for m in range(number % 7))
    blocks = (Block(f"Tale {number}", 2, "heading"), Block(sentences), Block("I am here.", role="FROG"))
    return Document(
        f"Tale {number}", blocks, more.get("source", f"corpus {number % 3}"), more.get("licence", "CC0"), "english"
    )


def encode(documents: Sequence[Document], path: Path, *, dim: int = DIM, shard_chars: int = 400) -> ConceptStore:
    return encode_corpus(documents, HashingEncoder(dim), path, progress=False, shard_chars=shard_chars)


def content(store: ConceptStore, *, splits: bool = True) -> list[tuple[Any, ...]]:
    """All that a store says of each document and its rows."""
    return [
        (
            (info.title, info.source, info.licence, info.language, info.key, info.split if splits else ""),
            store.sentences(number),
            store[number].tobytes(),
            store.levels(number).tolist(),
            store.roles(number),
        )
        for number, info in enumerate(store.documents)
    ]


def arrows(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.glob("*.arrow"))}


def files_of(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    return encode([tale(n) for n in range(40)], tmp_path_factory.mktemp("stores") / "store")


def merge(paths: Sequence[Path], out: Path, **options: Any) -> ConceptStore:
    return merge_stores(paths, out, progress=False, shard_bytes=SMALL, **options)


def keep(path: Path, out: Path, **conditions: Any) -> ConceptStore:
    return filter_store(path, out, progress=False, shard_bytes=SMALL, **conditions)


# --- merge ------------------------------------------------------------------------------------------------------------


def test_a_merged_store_equals_one_that_was_encoded_at_once(tmp_path: Path, store: ConceptStore) -> None:
    parts = [
        encode([tale(n) for n in numbers], tmp_path / str(numbers)).path
        for numbers in (range(13), range(13, 16), range(16, 40))
    ]
    merged = merge(parts, tmp_path / "merged")
    assert content(merged) == content(store)
    assert len(merged.manifest["shards"]) > 3
    assert merged.manifest["max_chars"] == store.manifest["max_chars"]
    merged.verify()
    assert arrows(merge([merged.path], tmp_path / "again").path) == arrows(merged.path)


def test_merging_is_associative(tmp_path: Path) -> None:
    paths = [encode([tale(n) for n in range(first, first + 9)], tmp_path / str(first)).path for first in (0, 6, 12)]
    left = merge([merge(paths[:2], tmp_path / "m01").path, paths[2]], tmp_path / "left")
    right = merge([paths[0], merge(paths[1:], tmp_path / "m12").path], tmp_path / "right")
    assert arrows(left.path) == arrows(right.path) == arrows(merge(paths, tmp_path / "all").path)


def test_equal_documents_are_kept_once_and_counted(tmp_path: Path) -> None:
    first = encode([tale(n) for n in (0, 1, 2, 1)], tmp_path / "a")
    second = encode([tale(n, source="other") for n in (3, 2, 4)], tmp_path / "b")
    report = ReadReport()
    merged = merge([first.path, second.path], tmp_path / "dropped", report=report)
    assert [info.title for info in merged.documents] == [f"Tale {n}" for n in (0, 1, 2, 3, 4)]
    assert {info.source for info in merged.documents[2:3]} == {"corpus 2"}  # of the first
    assert report.lines() == ["2 documents (7 rows) left out whose title and text came before"]
    kept = merge([first.path, second.path], tmp_path / "kept", duplicates="keep")
    assert content(kept, splits=False) == content(first, splits=False) + content(second, splits=False)


def test_a_document_keeps_its_split(tmp_path: Path, store: ConceptStore) -> None:
    other = encode([tale(n) for n in range(40, 70)], tmp_path / "other")
    merged = merge([other.path, store.path], tmp_path / "merged")
    assert [info.split for info in merged.documents] == [split_of(tale(n)) for n in (*range(40, 70), *range(40))]


def test_what_was_held_out_of_one_store_stays_held_out(tmp_path: Path) -> None:
    few = encode([tale(n) for n in range(4)], tmp_path / "few")  # where documents had to move
    assert few.manifest["moved"]
    parts = split_store(few.path, tmp_path / "parts", progress=False)
    report = ReadReport()
    merged = merge([parts["test"].path, parts["train"].path, few.path], tmp_path / "merged", report=report)
    known = {info.key: info.split for info in few.documents}
    assert {info.key: info.split for info in merged.documents} == known
    assert not any("another split" in line for line in report.lines())
    other = keep(few.path, tmp_path / "other", split="test")
    wrong = [{**info, "split": "train"} for info in _sidecar_documents(other)]
    _rewrite_splits(other, wrong)
    merged = merge([other.path, few.path], tmp_path / "conflict", report=report)
    assert "1 documents are in another split the first time, which holds" in report.lines()
    assert merged.documents[0].split == "train"


def _sidecar_documents(store: ConceptStore) -> list[dict[str, Any]]:
    from data.shards import read_sidecar

    sidecar = read_sidecar(store.path, 0)
    assert sidecar is not None
    return sidecar["documents"]


def _rewrite_splits(store: ConceptStore, documents: list[dict[str, Any]]) -> None:
    from data.durable import write_json
    from data.manifest import MANIFEST, finish_store
    from data.shards import read_sidecar

    sidecar = read_sidecar(store.path, 0)
    assert sidecar is not None
    write_json(store.path / "00000.json", sidecar | {"documents": documents})
    settings = {name: store.manifest[name] for name in ("splitter", "max_chars", "keep_splits")}
    (store.path / MANIFEST).unlink()  # else the store is finished
    finish_store(store.path, 1, store.encoder_name, settings)


def test_stores_of_different_encoders_are_refused_by_name(tmp_path: Path, store: ConceptStore) -> None:
    other = encode([tale(n) for n in range(3)], tmp_path / "other", dim=4)
    with pytest.raises(ValueError, match=r"hashing:8 \(hashing-1-8\).*hashing:4 \(hashing-1-4\)"):
        merge([store.path, other.path], tmp_path / "merged")
    with pytest.raises(ValueError, match="no stores to merge"):
        merge([], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


# --- split ------------------------------------------------------------------------------------------------------------


def test_a_store_a_split(tmp_path: Path, store: ConceptStore) -> None:
    parts = split_store(store.path, tmp_path / "parts", progress=False)
    assert list(parts) == list(SPLITS)
    every = content(store)
    for name, part in parts.items():
        assert part.path == tmp_path / "parts" / name
        assert content(part) == [every[n] for n in store.split(name)]
        part.verify()
    merged = merge([part.path for part in parts.values()], tmp_path / "merged")
    assert sorted(content(merged)) == sorted(every)
    only = split_store(parts["test"].path, tmp_path / "only", report=(report := ReadReport()), progress=False)
    assert list(only) == ["test"] and content(only["test"]) == content(parts["test"])
    assert report.lines()[0] == 'no document is in the split "train"; there is no store of it'


@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 39, 40])
def test_parts_are_about_equal_and_make_the_store_again(tmp_path: Path, store: ConceptStore, num_parts: int) -> None:
    parts = split_store(store.path, tmp_path / "parts", by=num_parts, progress=False)
    assert list(parts) == [str(n) for n in range(num_parts)]
    sizes = [int(part.lengths.sum()) for part in parts.values()]
    assert all(abs(size - store.lengths.sum() / num_parts) <= store.lengths.max() for size in sizes) or num_parts > 30
    merged = merge([part.path for part in parts.values()], tmp_path / "merged")
    assert content(merged) == content(store)
    assert (
        arrows(merged.path).items()
        >= {
            name: data for name, data in arrows(merge([store.path], tmp_path / "same").path).items() if name[0] == "0"
        }.items()
    )


def test_a_folder_of_other_parts_is_refused(tmp_path: Path, store: ConceptStore) -> None:
    for wrong in (0, 41):
        with pytest.raises(ValueError, match=f"40 documents cannot be split into {wrong} parts"):
            split_store(store.path, tmp_path / "parts", by=wrong)
    split_store(store.path, tmp_path / "parts", by=3, progress=False)
    for by in (2, 4):
        with pytest.raises(ValueError, match=r"holds other files|holds another store"):
            split_store(store.path, tmp_path / "parts", by=by, progress=False)
    with pytest.raises(ValueError, match=r"holds other files, such as 0"):
        split_store(store.path, tmp_path / "parts", progress=False)


# --- faults -----------------------------------------------------------------------------------------------------------

FAULTS = """
import os, resource, signal, sys
from pathlib import Path
import data.catalog, data.durable, data.transfer.gather, data.shards
from data.transfer.rewrite import filter_store, merge_stores, split_store

def run(verb, out):
    if verb == "merge":
        merge_stores([Path("a"), Path("b")], Path(out), shard_bytes=3000, progress=False)
    elif verb == "filter":
        filter_store(Path("a"), Path(out), min_sentences=3, shard_bytes=3000, progress=False)
    else:
        split_store(Path("a"), Path(out), shard_bytes=3000, progress=False)

def dying(function, left):
    def wrapped(*args):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return wrapped

def fork(verb, out, step, limit):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [step]
    for module in (data.catalog, data.durable, data.shards):
        module.publish = dying(module.publish, left)
    data.transfer.gather.write_shard = dying(data.transfer.gather.write_shard, left)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        run(verb, out)
    except OSError as error:
        print(error, flush=True)
        os._exit(3)
    os._exit(0)

verb = sys.argv[1]
if sys.argv[2] == "kill":
    for step in range(1, 99):
        if fork(verb, f"killed{step}", step, -1) == 0:
            break
        assert fork(verb, f"killed{step}", 2, -1) in (0, -9)  # once more, early
        run(verb, f"killed{step}")
    print(step)
else:
    assert fork(verb, "full", -1, 3000) == 3
    assert not list(Path("full").rglob(".*.tmp"))
    run(verb, "full")
run(verb, "whole")
"""


def run(folder: Path, *args: str) -> str:
    """Runs the script in a folder; its children are killed, or may write small files only."""
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def two(tmp_path: Path) -> Path:
    encode([tale(n) for n in range(12)], tmp_path / "a")
    encode([tale(n) for n in range(10, 25)], tmp_path / "b")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["merge", "filter", "split"])
def test_a_run_killed_anywhere_ends_like_an_uninterrupted_one(two: Path, verb: str) -> None:
    num_steps = int(run(two, verb, "kill"))
    assert num_steps > 8
    for step in range(1, num_steps):
        assert files_of(two / f"killed{step}") == files_of(two / "whole")


@pytest.mark.parametrize("verb", ["merge", "filter", "split"])
def test_a_full_disk_is_told_and_the_next_run_goes_on(two: Path, verb: str) -> None:
    assert "there is no space left to write full" in run(two, verb, "full")
    assert files_of(two / "full") == files_of(two / "whole")


def test_a_second_run_writes_nothing_and_mends_what_is_damaged(two: Path) -> None:
    merged = merge([two / "a", two / "b"], two / "merged")
    before = {file: file.stat().st_mtime_ns for file in merged.path.iterdir() if file.name != ".lock"}
    whole = files_of(merged.path)
    merge([two / "a", two / "b"], two / "merged")
    assert {file: file.stat().st_mtime_ns for file in merged.path.iterdir() if file.name != ".lock"} == before
    for name in ("00001.arrow", "documents.arrow"):
        data = bytearray(whole[name])
        data[len(data) // 2] ^= 1
        (merged.path / name).write_bytes(data)
        merge([two / "a", two / "b"], two / "merged")
        assert files_of(merged.path) == whole


def test_what_is_damaged_is_not_copied(two: Path) -> None:
    for name in ("00001.arrow", "documents.arrow"):
        path = two / "a" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            merge([two / "a", two / "b"], two / "merged")
        path.write_bytes(whole)
    shard_path(two / "b", 0).with_suffix(".arrow").rename(two / "b" / "gone")
    with pytest.raises(ValueError, match="is missing"):
        merge([two / "a", two / "b"], two / "merged")
    (two / "b" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="half-written"):
        merge([two / "a", two / "b"], two / "merged")


def test_nothing_else_is_written_over(two: Path) -> None:
    (two / "notes").mkdir()
    (two / "notes" / "mine.txt").write_text("mine")
    before = files_of(two)
    refused = {
        two / "a": "is what is read",
        two / "a" / "inside": "lies inside",
        two: "lies inside",
        two / "notes": "holds other files and no store",
        two / "notes" / "mine.txt": "is a file",
    }
    for out, message in refused.items():
        with pytest.raises(ValueError, match=message):
            keep(two / "a", out, min_sentences=2)
        with pytest.raises(ValueError, match=message.replace(" and no store", "")):
            split_store(two / "a", out, progress=False)
    with pytest.raises(ValueError, match="is what is read"):
        merge([two / "b", two / "a"], two / "a")
    with pytest.raises(ValueError, match="holds another store"):
        keep(two / "a", two / "b", min_sentences=2)
    with pytest.raises(ValueError, match="holds another store"):
        keep(two / "a", keep(two / "a", two / "c", min_sentences=2).path, min_sentences=3)
    encode([tale(n) for n in range(3)], two / "other", dim=4)
    with pytest.raises(ValueError, match="was encoded by hashing-1-4"):
        keep(two / "a", two / "other", min_sentences=2)
    assert before.items() <= files_of(two).items()


ODD = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)


@pytest.mark.filterwarnings("ignore:fewer than three different documents")
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(ODD, st.lists(ODD, max_size=3)), min_size=3, max_size=6), st.integers(500, 3000))
def test_odd_text_and_empty_documents_are_copied(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, list[str]]], shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    documents = [Document(title, tuple(Block(text, role=title) for text in blocks), title) for title, blocks in texts]
    store = encode(documents, folder / "store", shard_chars=20)
    merged = merge_stores([store.path], folder / "merged", duplicates="keep", shard_bytes=shard_bytes, progress=False)
    assert content(merged) == content(store)
    merged.verify()
    parts = split_store(store.path, folder / "parts", by=2, shard_bytes=shard_bytes, progress=False)
    assert content(parts["0"]) + content(parts["1"]) == content(store)
