import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data.document import Block, Document
from data.encode import encode_corpus
from data.end_of_text import END_OF_TEXT, describe_end, end_of, read_end
from data.store import ConceptStore
from data.transfer.exchange import export_store, import_store
from data.transfer.rewrite import filter_store, merge_stores, split_store
from data.verify import find_faults
from encoders.hashing import HashingEncoder

DIM = 8


class Listening(HashingEncoder):
    """Notes what it encodes."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.heard: list[str] = []

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        self.heard += sentences
        return super().encode(sentences)


def tales(first: int, stop: int) -> list[Document]:
    texts = (f"The fox saw {n} stones. It slept." for n in range(first, stop))
    return [Document(f"Tale {n}", (Block(text),), "test") for n, text in enumerate(texts, first)]


def encode(path: Path, first: int = 0, stop: int = 12, encoder: HashingEncoder | None = None) -> ConceptStore:
    return encode_corpus(tales(first, stop), encoder or HashingEncoder(DIM), path, progress=False)


def change(store: Path, **entries: object) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    manifest |= entries
    (store / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


EXPECTED = HashingEncoder(DIM).encode([END_OF_TEXT])[0].astype(np.float16).astype(np.float32)


def test_a_manifest_gives_back_what_it_was_told() -> None:
    concept = np.random.default_rng(0).normal(size=DIM).astype(np.float32)
    manifest = {"dim": DIM, "end_of_text": describe_end(concept)}
    found = read_end(json.loads(json.dumps(manifest)))
    assert found is not None and found.dtype == np.float32
    np.testing.assert_array_equal(found, concept.astype(np.float16))
    assert end_of(manifest) == {"end_of_text": manifest["end_of_text"]}
    assert read_end({"dim": DIM}) is None and end_of({"dim": DIM}) == {}
    with pytest.raises(ValueError, match="gave NaN or infinity"):
        describe_end(np.full(DIM, 1e6, dtype=np.float32))


def test_a_store_has_the_encoders_end_of_text_and_encodes_it_once(tmp_path: Path) -> None:
    encoder = Listening(DIM)
    store = encode(tmp_path, encoder=encoder)
    assert store.end_of_text is not None
    np.testing.assert_array_equal(store.end_of_text, EXPECTED)
    store.verify()
    heard = len(encoder.heard)
    assert encoder.heard.count(END_OF_TEXT) == 1
    encode(tmp_path, encoder=encoder)
    assert len(encoder.heard) == heard


def test_a_store_without_one_opens_and_the_next_run_adds_it_and_encodes_nothing_else(tmp_path: Path) -> None:
    before = encode(tmp_path).manifest
    change(tmp_path, end_of_text=None)
    old = ConceptStore.open(tmp_path)
    assert old.end_of_text is None
    old.verify()
    encoder = Listening(DIM)
    assert encode(tmp_path, encoder=encoder).manifest == before
    assert encoder.heard == [END_OF_TEXT]


@pytest.mark.parametrize("damage", ["crc", "width", "letters", "entry"])
def test_damage_is_named_and_mended(tmp_path: Path, damage: str) -> None:
    store = encode(tmp_path)
    entry = store.manifest["end_of_text"]
    changes = {
        "crc": entry | {"crc32": entry["crc32"] ^ 1},
        "width": describe_end(np.zeros(DIM + 1, dtype=np.float32)),
        "letters": entry | {"concept": "?"},
        "entry": {},
    }
    change(tmp_path, end_of_text=changes[damage])
    message = "the concept of the end of text in the manifest is damaged"
    assert list(find_faults(tmp_path)) == [f"{tmp_path}: {message}"]
    with pytest.raises(ValueError, match=f"{message}; run the command that wrote it again"):
        ConceptStore.open(tmp_path)
    assert encode(tmp_path).manifest == store.manifest


def test_it_goes_wherever_documents_go(tmp_path: Path) -> None:
    one, two = encode(tmp_path / "one"), encode(tmp_path / "two", 12, 20)
    change(one.path, end_of_text=None)  # of old code: the other one's serves both
    merged = merge_stores([one.path, two.path], tmp_path / "merged", progress=False)
    made = [merged, filter_store(merged.path, tmp_path / "filtered", min_sentences=2, progress=False)]
    made += split_store(merged.path, tmp_path / "parts", by=2, progress=False).values()
    for format in ("parquet", "dataset"):
        export_store(merged.path, tmp_path / format, format=format, progress=False)  # type: ignore[arg-type]
        made.append(import_store(tmp_path / format, tmp_path / f"from {format}", progress=False))
    for store in made:
        assert store.end_of_text is not None, store.path
        np.testing.assert_array_equal(store.end_of_text, EXPECTED)
        store.verify()
    assert merge_stores([one.path], tmp_path / "alone", progress=False).end_of_text is None


def test_rows_from_elsewhere_get_it_from_the_encoder_that_is_named(tmp_path: Path) -> None:
    store = encode(tmp_path / "store")
    change(store.path, end_of_text=None)
    export_store(store.path, tmp_path / "rows", progress=False)
    assert import_store(tmp_path / "rows", tmp_path / "without", progress=False).end_of_text is None
    named = import_store(tmp_path / "rows", tmp_path / "with", encoder=f"hashing:{DIM}", progress=False)
    assert named.end_of_text is not None
    np.testing.assert_array_equal(named.end_of_text, EXPECTED)
