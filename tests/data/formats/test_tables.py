import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block
from data.formats.tables import read_json
from data.readers import read_documents
from data.report import ReadReport


def test_json_lines(tmp_path: Path) -> None:
    records = [{"text": "One.\n\nTwo.", "title": "T", "licence": "CC0", "year": 1}, {"content": "Три."}, {"year": 2}]
    lines = [*map(json.dumps, records), "{", "", "[1]", "[" * 100_000]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b'\n{"text": "\xff"}')
    report = ReadReport()
    first, second, third = read_documents(str(path), report=report)
    assert (first.title, first.licence, len(first.blocks)) == ("T", "CC0", 2)
    assert (second.title, second.blocks, third.blocks) == ("a 2", (Block("Три."),), (Block("\ufffd"),))
    assert set(report.lines()) == {
        'the field "year" is not used',
        "line 4 of a.jsonl is the first of the lines that are no JSON object left out",
        "3 lines that are no JSON object left out",
        "number 3 of a.jsonl is the first of the records without a text left out",
        "1 records without a text left out",
        "1 characters of a.jsonl are not UTF-8 and were replaced",
    }
    for name in ("b.jsonl.gz", "b.ndjson.gz", "b.ndjson"):
        content = path.read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert [document.blocks for document in read_documents(str(tmp_path / name))] == [
            document.blocks for document in (first, second, third)
        ]


@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="[]{}")), max_size=4),
    st.sampled_from([None, 0, 1, 2]),
    st.integers(1, 9),
)
def test_json_is_read_in_pieces(texts: list[str], indent: int | None, chunk: int) -> None:
    records = [{"text": text, "n": [1, {"m": "]"}]} for text in texts]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.formats.tables._CHUNK", chunk)
        path = Path(folder, "a.json")
        one_by_one = "\n".join(json.dumps(record, indent=indent) for record in records)
        for content in (json.dumps(records, indent=indent), json.dumps(records, ensure_ascii=False), one_by_one):
            path.write_text(content, encoding="utf-8", errors="surrogatepass")
            report = ReadReport()
            read = list(read_json(path, "a.json", report))
            assert len(read) == sum(bool(text.split()) for text in texts) or "\ufffd" in content
            assert len(read) + sum(report.counts.values()) >= len(texts)


@pytest.mark.parametrize(
    ("content", "number"),
    [('[{"text": "A."}, {"text": "B."}, {"te', 2), ('{"text": "A."} ?', 1), ("[" * 10**6, 0), ('[{"text": "A."}', 1)],
)
def test_json_that_is_damaged_is_read_up_to_there(content: str, number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    documents = read_documents(str(path), cut="never")
    assert len([next(documents) for _ in range(number)]) == number
    with pytest.raises(ValueError, match=f"is no JSON, or damaged, behind its first {number} values"):
        next(documents)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["One.", None], "title": ["T", "U"], "n": [1, 2]}), path)
    report = ReadReport()
    (document,) = read_documents(str(path), report=report)
    assert document.title == "T"
    assert report.lines() == [
        'the field "n" is not used',
        "number 2 of a.parquet is the first of the records without a text left out",
        "1 records without a text left out",
    ]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged or no Parquet"):
        next(read_documents(str(path)))
    pq.write_table(pa.table({"n": [1, 2]}), path)
    with pytest.raises(ValueError, match="holds no record with a text"):
        next(read_documents(str(path)))


def test_parquet_of_dialogues_and_books_keeps_what_is_nested(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Кто?"}, {"role": "assistant", "content": "Я."}]
    table = pa.Table.from_pylist([{"messages": turns, "text": None}, {"messages": None, "text": "So."}])
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read_documents(str(tmp_path / "a.parquet"))
    assert first.blocks == (Block("Кто?", 0, "user"), Block("Я.", 0, "assistant"))
    assert second.blocks == (Block("So."),)


def test_a_row_that_is_no_text_is_counted(tmp_path: Path) -> None:
    texts = pa.array([b"One.", b"\xff", "Три.".encode()]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    report = ReadReport()
    documents = read_documents(str(tmp_path / "a.parquet"), report=report)
    assert [document.blocks[0].text for document in documents] == ["One.", "Три."]
    assert report.lines() == ["1 rows of a.parquet that are not UTF-8 left out"]


def test_a_flipped_byte_of_parquet_is_found_behind_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"Row {n} says so." for n in range(4000)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=1000, write_page_checksum=True, compression=None)
    content = bytearray(path.read_bytes())
    content[content.index(b"Row 3500")] ^= 1
    path.write_bytes(content)
    report = ReadReport()
    documents = list(read_documents(str(tmp_path), report=report))
    assert [document.blocks[0].text for document in documents] == texts[: len(documents)] and len(documents) == 3000
    assert report.notes[0].startswith("left out a.parquet behind its first 3,000 documents: ")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.tables.MAX_RECORD", 1000)
    monkeypatch.setattr("data.formats.files.MAX_RECORD", 1000)
    for name in ("a.txt.gz", "a.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"x" * 10**6))
        with pytest.raises(ValueError, match=r"unpacks to more than|has more than"):
            next(read_documents(str(tmp_path / name)))
    (tmp_path / "a.json").write_text('[{"text": "' + "x" * 5_000_000)
    with pytest.raises(ValueError, match="is no JSON, or damaged"):
        next(read_documents(str(tmp_path / "a.json")))
