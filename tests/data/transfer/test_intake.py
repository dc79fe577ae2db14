from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.document import Block, Document
from data.encode import encode_corpus
from data.report import ReadReport
from data.split import split_of
from data.store import ConceptStore
from data.transfer.exchange import export_store, import_store
from encoders.hashing import HashingEncoder

DIM = 8
TEXTS = [f"Sentence {n}." for n in range(12)]
VECTORS = HashingEncoder(DIM).encode(TEXTS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    documents = [Document(f"Tale {n}", (Block(f"The fox saw {n} stones. Then it slept."),), "test") for n in range(9)]
    path = tmp_path_factory.mktemp("stores") / "store"
    return encode_corpus(documents, HashingEncoder(DIM), path, progress=False)


def _exported(store: ConceptStore, out: Path) -> Path:
    export_store(store.path, out, progress=False)
    return out


def read_back(path: Path, out: Path, **options: Any) -> ConceptStore:
    store = import_store(path, out, progress=False, shard_bytes=3000, **options)
    store.verify()
    return store


def table(**columns: Any) -> pa.Table:
    return pa.table({"text": TEXTS, "embedding": list(VECTORS), **columns})


def take_in(path: Path, out: Path, **options: Any) -> ConceptStore:
    return read_back(path, out, **{"encoder": "hashing:8", "concept_column": "embedding", **options})


def refused(path: Path, rows: pa.Table, **options: Any) -> str:
    pq.write_table(rows, path)
    with pytest.raises(ValueError) as caught:
        take_in(path, path.with_suffix(""), **options)
    assert not list(path.with_suffix("").glob("*.arrow"))
    return str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64(), DIM),
        pa.large_list(pa.float16()),
        pa.list_(pa.float16(), DIM),
        pa.fixed_shape_tensor(pa.float32(), [DIM]),
    ],
    ids=str,
)
def test_vectors_of_any_kind_are_taken_in(tmp_path: Path, kind: pa.DataType) -> None:
    storage = kind.storage_type if isinstance(kind, pa.ExtensionType) or "tensor" in str(kind) else kind
    vectors = pa.array([row.tolist() for row in VECTORS.astype(np.float16).astype(np.float64)], pa.list_(pa.float64()))
    column = vectors.cast(storage)
    if storage is not kind:
        column = pa.ExtensionArray.from_storage(kind, column)
    pq.write_table(pa.table({"text": TEXTS, "embedding": column}), tmp_path / "a.parquet")
    store = take_in(tmp_path / "a.parquet", tmp_path / "store")
    assert len(store) == 1 and store.sentences(0) == TEXTS
    np.testing.assert_array_equal(store[0], VECTORS.astype(np.float16))
    assert (store.encoder, store.encoder_name) == ("hashing-1-8", "hashing:8")
    info = store.documents[0]
    assert (info.title, info.source, info.licence, info.language) == ("a", "a.parquet", "unknown", "english")
    assert info.key == Document("a", tuple(map(Block, TEXTS)), "").key
    assert store.roles(0) == ["sentence"] * 12 and not store.levels(0).any()


def test_documents_are_told_by_a_column_or_by_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    (folder / "inner").mkdir(parents=True)
    numbered = table(book=[7] * 5 + [2] * 4 + [9] * 3)
    pq.write_table(numbered.slice(0, 7), folder / "a.parquet", row_group_size=2)
    pq.write_table(numbered.slice(7), folder / "inner" / "b.parquet", row_group_size=2)
    (folder / ".hidden.parquet").write_text("no Parquet")
    files = take_in(folder, tmp_path / "files", report=(report := ReadReport()))
    assert [(info.title, info.num_sentences) for info in files.documents] == [("a", 7), ("inner/b", 5)]
    assert report.lines() == ['the column "book" is not used']
    books = take_in(folder, tmp_path / "books", document_column="book")
    assert [(info.title, info.num_sentences) for info in books.documents] == [
        ("rows 7", 5),
        ("rows 2", 4),
        ("rows 9", 3),
    ]
    assert books.sentences(1) == TEXTS[5:9]
    assert "max_chars" in books.manifest and books.manifest["max_chars"] == len("Sentence 10.")


def test_a_data_set_of_someone_else_is_taken_in(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_dict({"sentence": TEXTS, "vector": VECTORS.tolist(), "id": list("aaaabbbbcccc")})
    named = {"text_column": "sentence", "concept_column": "vector", "document_column": "id"}
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"first": rows.select(range(6)), "second": rows.select(range(6, 12))}).save_to_disk(
        str(tmp_path / "two")
    )
    one = take_in(tmp_path / "one", tmp_path / "from one", **named)
    assert [info.title for info in one.documents] == ["one a", "one b", "one c"]
    assert [info.split for info in one.documents if info.title not in one.manifest["moved"]] == [
        split_of(Document(f"one {name}", tuple(map(Block, TEXTS[4 * n : 4 * n + 4])), ""))
        for n, name in enumerate("abc")
        if f"one {name}" not in one.manifest["moved"]
    ]
    two = take_in(tmp_path / "two", tmp_path / "from two", **named)
    assert [two.sentences(n) for n in range(4)] == [TEXTS[:4], TEXTS[4:6], TEXTS[6:8], TEXTS[8:]]


def test_levels_roles_and_titles_are_used_where_they_are_given(tmp_path: Path) -> None:
    level, role = [2] + [0] * 11, ["heading", None, "КОРОЛЬ"] + ["sentence"] * 9
    told = table(level=level, role=role, title=["A book"] * 12, language=["russian"] * 12, split=["dev"] * 12)
    pq.write_table(told, tmp_path / "a.parquet")
    store = take_in(tmp_path / "a.parquet", tmp_path / "store", report=(report := ReadReport()))
    assert store.levels(0).tolist() == level
    assert store.roles(0)[:4] == ["heading", "sentence", "КОРОЛЬ", "sentence"]
    assert (store.documents[0].title, store.documents[0].language) == ("A book", "russian")
    assert report.lines() == ['the column "split" is not used']


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": [*TEXTS[:4], None, *TEXTS[5:]]}, "row 4 of a.parquet holds no text"),
        ({"text": list(range(12))}, "row 0 of a.parquet holds no text but int64"),
        ({"embedding": [*VECTORS[:3], None, *VECTORS[4:]]}, "row 3 of a.parquet holds no concept"),
        ({"embedding": [*VECTORS[:5], VECTORS[5, :3], *VECTORS[6:]]}, "row 5 of a.parquet holds a concept of width 3"),
        ({"embedding": [[1.0] * 7 + [None]] * 12}, "row 0 of a.parquet holds a concept with a missing number"),
        (
            {"embedding": [*VECTORS[:7], [np.nan] * 8, *VECTORS[8:]]},
            "row 7 of a.parquet holds a concept with NaN or inf",
        ),
        (
            {"embedding": [*VECTORS[:8], [1e6] * 8, *VECTORS[9:]]},
            "row 8 of a.parquet holds a concept with numbers beyond",
        ),
        ({"embedding": ["0.1, 0.2"] * 12}, "row 0 of a.parquet holds no list of numbers but string"),
        ({"embedding": np.ones((12, 4)).tolist()}, "width 4, the encoder makes 8"),
        ({"level": [0] * 6 + [5] + [0] * 5}, "row 6 of a.parquet is of level 5"),
        ({"book": [1] * 5 + [2] * 5 + [1] * 2}, "the rows of document 1 are not together"),
        ({"book": [1] * 5 + [None] * 7}, "row 5 of a.parquet does not say of which document it is"),
        ({"book": [1.5] * 12}, "names its document by double"),
    ],
)
def test_a_row_that_cannot_be_taken_in_is_named(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    rows = table()
    for name, values in columns.items():
        values = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
        at = rows.schema.get_field_index(name)
        rows = rows.append_column(name, [values]) if at < 0 else rows.set_column(at, name, [values])
    assert said in refused(tmp_path / "a.parquet", rows, document_column="book" if "book" in columns else None)


def test_texts_are_cleaned_as_they_are_when_they_are_encoded(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a\0b", " ", "ö"], "embedding": VECTORS[:3].tolist()}), tmp_path / "a.parquet")
    store = take_in(tmp_path / "a.parquet", tmp_path / "store", report=(report := ReadReport()))
    assert store.sentences(0) == ["a\ufffdb", " ", "ö"]
    assert report.lines() == ["1 rows without a letter in their text"]


def test_the_encoder_must_be_known_and_the_right_one(tmp_path: Path, store: ConceptStore) -> None:
    pq.write_table(table(), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="does not say which encoder its concepts are of; name it with --encoder"):
        take_in(tmp_path / "a.parquet", tmp_path / "out", encoder=None)
    path = _exported(store, tmp_path / "parquet")
    with pytest.raises(ValueError, match=r"holds concepts of hashing:8 \(hashing-1-8\), not of hashing:4"):
        read_back(path, tmp_path / "out", encoder="hashing:4")
    assert list(read_back(path, tmp_path / "out", encoder="hashing:8").documents) == list(store.documents)
    pq.write_table(table(), path / "99999.parquet")
    with pytest.raises(ValueError, match="are not of one encoder"):
        read_back(path, tmp_path / "mixed")


def test_what_is_no_table_is_named(tmp_path: Path, store: ConceptStore) -> None:
    pq.write_table(table(), tmp_path / "a.parquet")
    pq.write_table(table().slice(0, 0), tmp_path / "empty.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet at all")
    (tmp_path / "folder").mkdir()
    lie = table().replace_schema_metadata({"concept_store": '{"concept_store": {"dim": "8"}}'})
    pq.write_table(lie, tmp_path / "lie.parquet")
    refusals = {
        "a.parquet": 'a.parquet has no column "concept", it has text, embedding; name the columns with --text-column',
        "empty.parquet": "holds no rows",
        "text.parquet": "is damaged, or no table",
        "folder": "holds no Parquet file and is no data set",
        "lie.parquet": "not of which encoder and width",
    }
    for name, said in refusals.items():
        with pytest.raises(ValueError, match=said):
            import_store(tmp_path / name, tmp_path / "out", encoder="hashing:8")
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        import_store(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="name no other"):
        import_store(_exported(store, tmp_path / "parquet"), tmp_path / "out", document_column="title")
    assert not (tmp_path / "out").exists()
