import json
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.encode import encode_corpus
from data.shards import shard_path
from data.store import ConceptStore
from encoders.hashing import HashingEncoder
from encoders.text import clean_text

DIM = 16


def make_documents(number: int = 6, sentences: int = 9) -> list[Document]:
    return [
        Document(
            f"Tale {n}",
            (
                Block(f"Tale {n}", 2, "heading"),
                *(Block(f"The king {n} went out {m} times. ‘Who is there?’ asked he.") for m in range(sentences)),
                Block("I am here.", role="FROG"),
            ),
            "test",
            "CC0",
        )
        for n in range(number)
    ]


def encode(documents: Sequence[Document], path: Path, **options: int) -> ConceptStore:
    return encode_corpus(documents, HashingEncoder(DIM), path, progress=False, **options)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name != ".lock"}


def test_a_store_gives_back_what_was_encoded(tmp_path: Path) -> None:
    documents = make_documents()
    store = encode(documents, tmp_path / "store", shard_sentences=30)
    assert len(store) == len(documents) == store.manifest["num_documents"]
    assert len(store.manifest["shards"]) == 3
    for number, document in enumerate(documents):
        info = store.documents[number]
        assert (info.title, info.source, info.licence, info.key) == (document.title, "test", "CC0", document.key)
        sentences = store.sentences(number)
        assert info.num_sentences == len(sentences) == 20
        assert sentences[:3] == [f"Tale {number}", f"The king {number} went out 0 times.", "‘Who is there?’ asked he."]
        assert store.levels(number).tolist() == [2] + [0] * 19
        assert store.roles(number) == ["heading"] + ["sentence"] * 18 + ["FROG"]
        np.testing.assert_array_equal(store[number], HashingEncoder(DIM).encode(sentences).astype(np.float16))
    assert (store.dim, store.encoder, store.encoder_name) == (DIM, HashingEncoder(DIM).fingerprint, "hashing:16")
    store.verify()


def test_a_window_is_a_view_of_the_file(tmp_path: Path) -> None:
    store = encode(make_documents(), tmp_path)
    window = store.window(3, 2, 7)
    assert window.shape == (5, DIM) and window.dtype == np.float16
    assert not window.flags.owndata and not window.flags.writeable
    assert np.shares_memory(window, store[3])
    np.testing.assert_array_equal(window, store[3][2:7])


def test_splits_part_the_documents(tmp_path: Path) -> None:
    store = encode(make_documents(40), tmp_path)
    parts = [store.split(name) for name in ("train", "validation", "test")]
    assert sorted(index for part in parts for index in part) == list(range(40))
    assert all(parts)
    with pytest.raises(ValueError, match="there is no split"):
        store.split("dev")


def test_a_store_survives_pickling(tmp_path: Path) -> None:
    store = encode(make_documents(), tmp_path)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store))[2], store[2])


ODD = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)


def test_a_lone_surrogate_in_a_title_is_cleaned(tmp_path: Path) -> None:
    documents = [Document(f"\ud800{n}", (Block("\udfff \0", role="\ud800"),), "\ud800") for n in range(4)]
    store = encode(documents, tmp_path)
    assert store.documents[1].title == "?1" and store.sentences(1) == ["? \ufffd"] and store.roles(1) == ["?"]


@pytest.mark.filterwarnings("ignore:fewer than 3 different documents")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(ODD, st.lists(ODD, max_size=4)), min_size=3, max_size=5))
def test_odd_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, list[str]]]) -> None:
    documents = [Document(title, tuple(Block(text, role=title) for text in blocks), "odd") for title, blocks in texts]
    store = encode(documents, tmp_path_factory.mktemp("odd"), max_chars=20, shard_sentences=3)
    for number, document in enumerate(documents):
        written = "".join(clean_text(block.text) for block in document.blocks)
        assert "".join("".join(store.sentences(number)).split()) == "".join(written.split())
        assert store[number].shape == (len(store.sentences(number)), DIM)
    store.verify()


def test_the_second_call_encodes_nothing(tmp_path: Path) -> None:
    class Counting(HashingEncoder):
        calls = 0

        def encode(self, sentences: Sequence[str]) -> np.ndarray:
            self.calls += 1
            return super().encode(sentences)

    documents, encoder = make_documents(), Counting(DIM)
    first = encode_corpus(documents, encoder, tmp_path, progress=False, shard_sentences=30)
    before, calls = files_of(tmp_path), encoder.calls
    encode_corpus(documents, encoder, tmp_path, progress=False, shard_sentences=30)
    assert encoder.calls == calls and files_of(tmp_path) == before

    added = [*documents, *make_documents(7)[6:]]  # at the end: only the last shard differs
    store = encode_corpus(added, encoder, tmp_path, progress=False, shard_sentences=30)
    assert encoder.calls == calls + 1 and len(store) == len(first) + 1

    fewer = encode_corpus(documents[:3], encoder, tmp_path, progress=False, shard_sentences=30)
    assert len(fewer) == 3 and not shard_path(tmp_path, 2).exists()


KILLED = """
import os, pickle, signal, sys
import data.encode, data.shards
from encoders.hashing import HashingEncoder
from data.encode import encode_corpus

path, step, documents = sys.argv[1], int(sys.argv[2]), pickle.load(open(sys.argv[3], "rb"))

def die_after(function):
    def wrapped(*args):
        global step
        step -= 1
        if step == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return wrapped

data.shards.publish = die_after(data.shards.publish)
HashingEncoder.encode = die_after(HashingEncoder.encode)
encode_corpus(documents, HashingEncoder(16), path, progress=False, shard_sentences=30)
"""


@pytest.mark.parametrize("step", [1, 2, 3, 8, 10])
def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path: Path, step: int) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    (tmp_path / "documents").write_bytes(pickle.dumps(make_documents()))
    command = [sys.executable, "-c", KILLED, str(killed), str(step), str(tmp_path / "documents")]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    if step > 3:
        with pytest.raises(ValueError, match="half-written; run the same"):
            ConceptStore.open(killed)
    encode(make_documents(), killed, shard_sentences=30)
    encode(make_documents(), whole, shard_sentences=30)
    assert files_of(killed) == files_of(whole)


def test_a_damaged_shard_is_found_and_made_anew(tmp_path: Path) -> None:
    store = encode(make_documents(), tmp_path, shard_sentences=30)
    before = files_of(tmp_path)
    path = shard_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"00001.arrow is damaged"):
        store.verify()
    path.unlink()
    with pytest.raises(ValueError, match=r"00001.arrow is missing"):
        ConceptStore.open(tmp_path)
    encode(make_documents(), tmp_path, shard_sentences=30)
    assert files_of(tmp_path) == before


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
    encode(make_documents(), tmp_path)
    with pytest.raises(ValueError, match="was encoded by hashing-1-16, not by hashing:8"):
        encode_corpus(make_documents(), HashingEncoder(8), tmp_path, progress=False)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another process is writing"):
            encode(make_documents(), tmp_path)


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no store at .*lcm encode"):
        ConceptStore.open(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no manifest.json"):
        ConceptStore.open(tmp_path)
    manifest = tmp_path / "manifest.json"
    for content, message in (("{", "damaged"), ('{"a": 1}', "belongs to something else"), ("[]", "something else")):
        manifest.write_text(content)
        with pytest.raises(ValueError, match=message):
            ConceptStore.open(tmp_path)
    store = encode(make_documents(), tmp_path / "old")
    path = store.path / "manifest.json"
    path.write_text(json.dumps(store.manifest | {"version": 99}))
    with pytest.raises(ValueError, match="format version 99"):
        ConceptStore.open(store.path)


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files and no store"):
        encode(make_documents(), tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds a manifest\.json that is not of a store"):
        encode(make_documents(), tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        encode(make_documents(), tmp_path / "notes.txt")


def test_few_documents_are_all_for_training(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="nothing is held out"):
        store = encode(make_documents(2), tmp_path)
    assert store.split("train") == [0, 1]
    with pytest.raises(ValueError, match="no documents"):
        encode([], tmp_path)


def test_a_store_may_be_moved(tmp_path: Path) -> None:
    store = encode(make_documents(), tmp_path / "a place with ünicode")
    shutil.move(store.path, tmp_path / "b")
    ConceptStore.open(tmp_path / "b").verify()
