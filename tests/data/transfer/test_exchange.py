import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.encode import encode_corpus
from data.report import ReadReport
from data.split import SPLITS
from data.store import ConceptStore
from data.transfer.exchange import export_store, import_store
from data.transfer.rewrite import split_store
from encoders.hashing import HashingEncoder

DIM = 8
FORMATS = ["parquet", "dataset"]


def tale(number: int) -> Document:
    text = " ".join(f"The fox saw {number} stones and {m} wells." for m in range(number % 7))
    blocks = (Block(f"Tale {number}", 2, "heading"), Block(text), Block("«Я здесь», — сказала она.", role="ЛИСА"))
    return Document(f"Tale {number}", blocks, f"corpus {number % 3}", "CC0", "english")


def encode(documents: Sequence[Document], path: Path, *, shard_chars: int = 900) -> ConceptStore:
    return encode_corpus(documents, HashingEncoder(DIM), path, progress=False, shard_chars=shard_chars)


def content(store: ConceptStore) -> list[tuple[Any, ...]]:
    """All that a store says of each document that has rows, and these."""
    return [
        (
            info,
            store.sentences(number),
            store[number].tobytes(),
            store.levels(number).tolist(),
            store.roles(number),
        )
        for number, info in enumerate(store.documents)
        if info.num_sentences
    ]


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def export(store: ConceptStore, out: Path, format: Any = "parquet", **options: Any) -> Path:
    export_store(store.path, out, format=format, progress=False, **options)
    return out


def read_back(path: Path, out: Path, **options: Any) -> ConceptStore:
    store = import_store(path, out, progress=False, shard_bytes=3000, **options)
    store.verify()
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    return encode([tale(n) for n in range(40)], tmp_path_factory.mktemp("stores") / "store")


@pytest.fixture(autouse=True)
def _cached_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_store_comes_back_bit_for_bit(tmp_path: Path, store: ConceptStore, format: str) -> None:
    report = ReadReport()
    path = export(store, tmp_path / format, format, report=report)
    back = read_back(path, tmp_path / "back", report=report)
    assert content(back) == content(store)
    assert report.lines() == []
    names = ("encoder", "encoder_name", "dim", "splitter", "max_chars", "levels", "num_sentences", "splits")
    assert [back.manifest[name] for name in names] == [store.manifest[name] for name in names]
    again = export(back, tmp_path / "again", format)
    assert content(read_back(again, tmp_path / "twice")) == content(store)


ODD = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)


@pytest.mark.filterwarnings("ignore:fewer than three different documents")
@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(ODD, st.lists(ODD, max_size=3)), min_size=1, max_size=5), st.sampled_from(FORMATS))
def test_odd_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, list[str]]], format: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    documents = [Document(title, tuple(Block(text, role=title) for text in blocks), title) for title, blocks in texts]
    documents.append(Document("The end", (Block("So they lived."),), "odd"))
    store = encode(documents, folder / "store", shard_chars=20)
    report = ReadReport()
    path = export(store, folder / "export", format, report=report)
    assert content(read_back(path, folder / "back")) == content(store)
    empty = int((store.lengths == 0).sum())
    assert report.counts["documents without a row left out, which have no place in a table of rows"] == empty


def test_parts_of_a_store_stay_in_their_split(tmp_path: Path, store: ConceptStore) -> None:
    part = split_store(store.path, tmp_path / "parts", progress=False)["test"]
    for format in FORMATS:
        back = read_back(export(part, tmp_path / format, format), tmp_path / f"from {format}")
        assert content(back) == content(part)
        assert {info.split for info in back.documents} == {"test"}


# --- what others read -------------------------------------------------------------------------------------------------

COLUMNS = {
    "document": pa.int32(),
    "position": pa.int32(),
    "text": pa.string(),
    "concept": pa.list_(pa.float16(), DIM),
    "level": pa.int8(),
    "role": pa.string(),
    **dict.fromkeys(("title", "source", "licence", "language", "key", "split"), pa.string()),
}


def test_parquet_says_what_it_is_and_pandas_and_datasets_read_it(tmp_path: Path, store: ConceptStore) -> None:
    import pandas
    from datasets import load_dataset

    path = export(store, tmp_path / "parquet")
    files = sorted(path.glob("*.parquet"))
    assert len(files) == len(store.manifest["shards"])
    found = pq.read_schema(files[0])
    assert dict(zip(found.names, found.types, strict=True)) == COLUMNS
    said = json.loads(found.metadata[b"concept_store"])["concept_store"]
    assert said.items() >= {
        "encoder": "hashing-1-8", "encoder_name": "hashing:8", "dim": 8, "splitter": store.manifest["splitter"]
    }.items()  # fmt: skip
    assert pq.ParquetFile(files[0]).metadata.row_group(0).column(2).compression == "ZSTD"
    table = pq.read_table(path)
    assert table["document"].to_pylist() == np.repeat(np.arange(40), store.lengths).tolist()
    np.testing.assert_array_equal(np.stack(pandas.read_parquet(path).concept[:2]), store[0][:2])
    rows = load_dataset(str(path), split="train")
    assert rows.num_rows == store.lengths.sum()
    np.testing.assert_array_equal(rows.with_format("numpy")[:2]["concept"], store[0][:2])


def test_a_data_set_is_one_that_datasets_itself_might_have_saved(tmp_path: Path, store: ConceptStore) -> None:
    from datasets import load_from_disk

    loaded = load_from_disk(str(export(store, tmp_path / "dataset", "dataset")))
    assert list(loaded) == list(SPLITS)
    for name, split in loaded.items():
        numbers = store.split(name)
        assert split.split == name and dict.fromkeys(split.unique("split")) == {name: None}
        assert split["text"][:] == [text for number in numbers for text in store.sentences(number)]
        np.testing.assert_array_equal(
            np.array(split.with_format("numpy")["concept"][:]), np.concatenate([store[n] for n in numbers])
        )
        assert {field.name: field.type for field in split.data.schema} == COLUMNS
    loaded.save_to_disk(str(tmp_path / "saved"))
    assert content(read_back(tmp_path / "saved", tmp_path / "back")) == content(store)


def test_rows_that_a_user_took_out_are_told(tmp_path: Path, store: ConceptStore) -> None:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(str(export(store, tmp_path / "dataset", "dataset")))
    chosen = DatasetDict({name: split.filter(lambda row: row["document"] % 2) for name, split in loaded.items()})
    chosen.save_to_disk(str(tmp_path / "odd"))
    report = ReadReport()
    back = read_back(tmp_path / "odd", tmp_path / "back", report=report)
    assert content(back) == content(store)[1::2]
    assert f"holds {back.lengths.sum()} of the {store.lengths.sum()} rows of its store" in report.lines()[0]
    loaded["test"].save_to_disk(str(tmp_path / "test"))
    assert {info.split for info in read_back(tmp_path / "test", tmp_path / "only").documents} == {"test"}


def test_rows_out_of_order_are_refused(tmp_path: Path, store: ConceptStore) -> None:
    from datasets import concatenate_datasets, load_from_disk

    loaded = load_from_disk(str(export(store, tmp_path / "dataset", "dataset")))
    train = loaded["train"]
    wrong = {
        "shuffled": train.shuffle(seed=0),
        "reversed": train.select([1, 0]),
        "torn": train.train_test_split(0.5, seed=0),
        "twice": concatenate_datasets([train, train]),
    }
    for name, rows in wrong.items():
        rows.save_to_disk(str(tmp_path / name))
        with pytest.raises(ValueError, match=r"not together|out of its order"):
            read_back(tmp_path / name, tmp_path / f"from {name}")


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_not_written_over(tmp_path: Path, store: ConceptStore, format: str) -> None:
    path = export(store, tmp_path / "out", format)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    export(store, path, format)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    with pytest.raises(ValueError, match="is there already and is not this export"):
        export(store, path, FORMATS[1 - FORMATS.index(format)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in (tmp_path / "mine", tmp_path / "mine" / "notes.txt", store.path):
        with pytest.raises(ValueError, match=r"is there already|is what is read"):
            export(store, out, format)
    hidden = tmp_path / ".new.tmp"
    hidden.mkdir()
    (hidden / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds notes\.txt"):
        export(store, tmp_path / "new", format)
    assert (hidden / "notes.txt").read_text() == (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_damage_is_not_exported(tmp_path: Path, store: ConceptStore) -> None:
    copy = encode([tale(n) for n in range(40)], tmp_path / "store")
    path = copy.path / "00001.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for format in FORMATS:
        with pytest.raises(ValueError, match=r"00001\.arrow is damaged"):
            export(copy, tmp_path / format, format)
        assert not (tmp_path / format).exists()


def test_a_damaged_parquet_file_is_refused(tmp_path: Path, store: ConceptStore) -> None:
    path = export(store, tmp_path / "parquet")
    file = sorted(path.glob("*.parquet"))[1]
    whole = file.read_bytes()
    for cut in (
        whole[: len(whole) // 3] + bytes([whole[len(whole) // 3] ^ 4]) + whole[len(whole) // 3 + 1 :],
        whole[:99],
    ):
        file.write_bytes(cut)
        with pytest.raises(ValueError, match=r"00001\.parquet is damaged"):
            import_store(path, tmp_path / "back", progress=False)
    file.unlink()
    report = ReadReport()
    read_back(path, tmp_path / "rest", report=report)
    assert "rows of its store" in report.lines()[0]


FAULTS = """
import os, resource, signal, sys
from pathlib import Path
import data.catalog, data.durable, data.transfer.exchange, data.shards
from data.transfer.exchange import export_store, import_store

def run(out):
    if sys.argv[1] == "import":
        import_store(Path("export"), Path(out), shard_bytes=3000, progress=False)
    else:
        export_store(Path("store"), Path(out), format=sys.argv[1], progress=False)

def dying(function, left):
    def wrapped(*args):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return wrapped

def fork(out, step, limit):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [step]
    for module in (data.catalog, data.durable, data.transfer.exchange, data.shards):
        module.publish = dying(module.publish, left)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        run(out)
    except OSError as error:
        print(error, flush=True)
        os._exit(3)
    os._exit(0)

for step in range(1, 99):
    code = fork(f"killed{step}", step, -1)
    assert Path(f"killed{step}").exists() == (code == 0 or sys.argv[1] == "import"), step
    if code == 0:
        break
    run(f"killed{step}")
print(step)
assert fork("full", -1, 2000) == 3
assert not list(Path(".").rglob(".0*.tmp")) + list(Path(".").rglob(".data-*.tmp"))
run("full")
run("whole")
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["parquet", "dataset", "import"])
def test_a_killed_run_leaves_nothing_half_written_and_the_next_one_ends_it(tmp_path: Path, what: str) -> None:
    encode([tale(n) for n in range(30)], tmp_path / "store", shard_chars=1500)
    export_store(tmp_path / "store", tmp_path / "export", progress=False)
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, what],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    num_steps, said = done.stdout.splitlines()
    assert int(num_steps) > 4 and "there is no space left to write" in said
    for out in (*(f"killed{step}" for step in range(1, int(num_steps))), "full"):
        assert files_of(tmp_path / out) == files_of(tmp_path / "whole")
    assert not list(tmp_path.glob(".*.tmp"))
