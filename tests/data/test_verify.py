from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.document import Block, Document
from data.durable import hash_file, hidden, publish, read_json, write_json
from data.encode import encode_corpus
from data.shards import checksum_rows, open_shard, shard_path
from data.store import ConceptStore
from data.verify import find_faults
from encoders.hashing import HashingEncoder

DIM = 16


@pytest.fixture
def store(tmp_path: Path) -> ConceptStore:
    texts = [f"The king {n} went out. He came back {n * 9 + m} times." for n in range(6) for m in range(9)]
    documents = [
        Document(f"Tale {n}", (Block("Head", 2, "heading"), *map(Block, texts[9 * n : 9 * n + 9])), "test")
        for n in range(6)
    ]
    return encode_corpus(documents, HashingEncoder(DIM), tmp_path / "s", progress=False, shard_chars=700)


def rewrite(store: ConceptStore, batch: pa.RecordBatch) -> Path:
    """Writes a shard as a faulty program would: sizes and checksums fit, what it holds does not."""
    path = shard_path(store.path, 1)
    with pa.OSFile(str(hidden(path)), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)  # beside the old file, which the batch may be a view of
    publish(path)
    manifest = read_json(store.path / "manifest.json")
    manifest["shards"][1] |= {"sha256": hash_file(path), "bytes": path.stat().st_size}
    write_json(store.path / "manifest.json", manifest)
    return path


def with_concepts(batch: pa.RecordBatch, concepts: np.ndarray) -> pa.RecordBatch:
    column = pa.FixedSizeListArray.from_arrays(pa.array(concepts.reshape(-1)), concepts.shape[1])
    columns = {name: batch.column(name) for name in batch.schema.names} | {"concept": column}
    changed = pa.RecordBatch.from_pydict(columns)
    return changed.set_column(6, "crc32", pa.array(checksum_rows(changed)))


def test_a_whole_store_has_no_faults(store: ConceptStore) -> None:
    assert list(find_faults(store.path)) == []
    store.verify()


def test_every_flipped_bit_is_found_and_its_row_named(store: ConceptStore) -> None:
    path = shard_path(store.path, 1)
    content = path.read_bytes()
    random, named = np.random.default_rng(0), 0
    for position in random.integers(0, len(content), 200).tolist():
        flipped = bytearray(content)
        flipped[position] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        faults = list(find_faults(store.path))
        assert len(faults) == 1 and str(path) in faults[0], position
        named += "damaged in row" in faults[0]
    assert named > 100
    path.write_bytes(content)
    store.verify()


def test_the_row_of_a_flipped_byte_is_the_right_one(store: ConceptStore) -> None:
    path = shard_path(store.path, 1)
    content = path.read_bytes()
    place = content.index(store[2][6].tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(ValueError, match=rf"00001.arrow is damaged in row {int(store.documents.rows[2]) + 6}: "):
        store.verify()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_shard_is_found_at_once(store: ConceptStore, share: float) -> None:
    path = shard_path(store.path, 1)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    first = store.manifest["shards"][0]["rows"]
    with pytest.raises(ValueError, match=rf"00001.arrow has .* bytes instead of .* \(rows {first} to "):
        ConceptStore.open(store.path)
    assert len(list(find_faults(store.path))) == 1


def test_a_missing_shard_is_found_at_once(store: ConceptStore) -> None:
    shard_path(store.path, 0).unlink()
    with pytest.raises(ValueError, match=r"00000.arrow is missing \(rows 0 to .* run the command that wrote it again"):
        ConceptStore.open(store.path)


def test_nan_is_found_by_row(store: ConceptStore) -> None:
    batch = open_shard(shard_path(store.path, 1))
    concepts = np.array(batch.column("concept").values.to_numpy()).reshape(-1, DIM)
    concepts[4, 3] = np.nan
    path = rewrite(store, with_concepts(batch, concepts))
    assert list(find_faults(store.path)) == [f"{path} holds NaN or infinity in row 4"]


def test_a_wrong_width_is_found(store: ConceptStore) -> None:
    batch = open_shard(shard_path(store.path, 1))
    concepts = np.zeros((len(batch), DIM // 2), np.float16)
    rewrite(store, with_concepts(batch, concepts))
    with pytest.raises(ValueError, match=r"00001.arrow has other columns than a store of width 16.*\[8\]"):
        ConceptStore.open(store.path).verify()


def test_rows_of_another_document_are_found(store: ConceptStore) -> None:
    rewrite(store, open_shard(shard_path(store.path, 0)))
    assert "00001.arrow" in "".join(find_faults(store.path))


def test_a_damaged_catalog_is_found(store: ConceptStore) -> None:
    path = store.path / "documents.arrow"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "documents.arrow is missing or damaged" in "".join(find_faults(store.path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"documents.arrow is damaged"):
        ConceptStore.open(store.path)


def test_a_damaged_store_is_mended_by_the_run_that_made_it(tmp_path: Path) -> None:
    documents = [Document(f"T{n}", (Block(f"Yes, {n}. " * 30),), "test") for n in range(9)]
    store = encode_corpus(documents, HashingEncoder(DIM), tmp_path, progress=False, shard_chars=500)
    path = shard_path(store.path, 1)
    before = path.read_bytes()
    path.write_bytes(before[:500] + bytes([before[500] ^ 8]) + before[501:])
    encode_corpus(documents, HashingEncoder(DIM), tmp_path, progress=False, shard_chars=500).verify()
    assert path.read_bytes() == before
