import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.encode import encode_corpus
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


def encode(documents: Sequence[Document], path: Path, **options: Any) -> ConceptStore:
    return encode_corpus(documents, HashingEncoder(DIM), path, progress=False, **options)


def test_a_store_gives_back_what_was_encoded(tmp_path: Path) -> None:
    documents = make_documents()
    store = encode(documents, tmp_path / "store", shard_chars=900)
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
        assert [store.text(number, row) for row in range(20)] == sentences
        assert store.text_lengths(number).tolist() == [len(sentence.encode()) for sentence in sentences]
        assert store.rows(number).column("document").unique().to_pylist() == [number]
    assert store.lengths.tolist() == [20] * len(documents) and store.heading_levels == [2]
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
    assert all(part.dtype == np.int64 and len(part) for part in parts)
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


@pytest.mark.filterwarnings("ignore:fewer than three different documents")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(ODD, st.lists(ODD, max_size=4)), min_size=3, max_size=5))
def test_odd_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, list[str]]]) -> None:
    documents = [Document(title, tuple(Block(text, role=title) for text in blocks), "odd") for title, blocks in texts]
    store = encode(documents, tmp_path_factory.mktemp("odd"), max_chars=20, shard_chars=40)
    for number, document in enumerate(documents):
        written = "".join(clean_text(block.text) for block in document.blocks)
        assert "".join("".join(store.sentences(number)).split()) == "".join(written.split())
        assert store[number].shape == (len(store.sentences(number)), DIM)
    store.verify()


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


def test_a_store_may_be_moved(tmp_path: Path) -> None:
    store = encode(make_documents(), tmp_path / "a place with ünicode")
    shutil.move(store.path, tmp_path / "b")
    ConceptStore.open(tmp_path / "b").verify()


def test_few_shards_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.store._OPEN_SHARDS", 2)
    store = encode(make_documents(), tmp_path, shard_chars=1)
    first = store[0]
    assert len(store.manifest["shards"]) == 6
    for number in (5, 4, 3, 2, 1, 0):
        assert store.sentences(number)[0] == f"Tale {number}"
    assert len(store._shards) == 2
    np.testing.assert_array_equal(first, store[0])  # a view outlives the shard that was closed
