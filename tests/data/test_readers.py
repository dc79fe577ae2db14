import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.describe import describe_documents, describe_store, list_corpora
from data.document import Block
from data.encode import encode_corpus
from data.markdown import read_markdown
from data.prose import decode, read_prose
from data.readers import read_documents
from data.report import ReadReport
from encoders.hashing import HashingEncoder


def test_text_has_paragraphs_and_chapters(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(
        "licence\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\nPART ONE\n\nChapter IV. The Frog\r\n\r\nIt\nwas.\n \n"
        "Chapter of accidents.\n\nScene 2\n\nThe end.\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nlicence\n"
    )
    report = ReadReport()
    (book,) = read_documents(str(path), report=report)
    assert (book.title, book.source) == ("book", "book.txt")
    assert book.blocks == (
        Block("PART ONE", 3, "heading"),
        Block("Chapter IV. The Frog", 2, "heading"),
        Block("It was."),
        Block("Chapter of accidents."),
        Block("Scene 2", 1, "heading"),
        Block("The end."),
    )
    assert report.lines() == ["2 passages of Project Gutenberg's licence left out"]


def test_long_lines_without_blank_lines_are_paragraphs() -> None:
    long, short = "word " * 30, "word\n" * 3
    assert len(read_prose(f"{long}\n{long}", ReadReport())) == 2
    assert read_prose(short, ReadReport()) == [Block("word word word")]


def test_bytes_that_are_no_utf8_are_counted() -> None:
    report = ReadReport()
    assert decode(b"\xef\xbb\xbfa\xffb\xfe", "x.txt", report) == "a\ufffdb\ufffd"
    assert report.lines() == ["2 characters of x.txt are not UTF-8 and were replaced"]


@given(st.binary(max_size=200))
def test_any_bytes_are_read(content: bytes) -> None:
    text = decode(content, "x", ReadReport())
    read_prose(text, ReadReport())
    read_markdown(text, ReadReport())


MARKDOWN = """---
author: nobody
---
The Book
========

## One
Some *stressed* text with `code` and [a link](x.html).
Next line.

- item ![image](y.png)

```
code
```
| a | b |
|---|---|
| 1 | 2 |

### Scene
<div>no</div>

> Quoted.
"""


def test_markdown_has_a_heading_tree_and_no_markup(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text(MARKDOWN)
    report = ReadReport()
    (book,) = read_documents(str(tmp_path / "b.md"), report=report)
    assert book.title == "The Book"
    assert book.blocks == (
        Block("The Book", 4, "heading"),
        Block("One", 2, "heading"),
        Block("Some stressed text with code and a link. Next line."),
        Block("item"),
        Block("Scene", 1, "heading"),
        Block("Quoted."),
    )
    assert report.counts["blocks of code, tables and HTML left out"] == 3


@pytest.mark.parametrize(
    ("text", "levels"),
    [("# A\n# B", [2, 2]), ("# A\n## B\n# C", [2, 1, 2]), ("# T\n## P\n### C\n#### S", [4, 3, 2, 1]), ("## T\nx", [4])],
)
def test_the_depths_in_use_decide_the_levels(text: str, levels: list[int]) -> None:
    assert [block.level for block in read_markdown(text, ReadReport()) if block.role == "heading"] == levels


def test_json_lines(tmp_path: Path) -> None:
    records = [{"text": "One.\n\nTwo.", "title": "T", "licence": "CC0", "year": 1}, {"content": "Three."}, {"year": 2}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*map(json.dumps, records), "{", "", "[1]"]))
    report = ReadReport()
    first, second = read_documents(str(path), report=report)
    assert (first.title, first.licence, len(first.blocks)) == ("T", "CC0", 2)
    assert (second.title, second.blocks) == ("a 2", (Block("Three."),))
    assert set(report.lines()) == {
        'a.jsonl: the field "year" is not used',
        "2 lines of a.jsonl are no JSON object and were left out",
        "1 records of a.jsonl without a text left out",
    }


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["One.", None], "title": ["T", "U"], "n": [1, 2]}), path)
    report = ReadReport()
    (document,) = read_documents(str(path), report=report)
    assert document.title == "T" and len(report.lines()) == 2
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged or no Parquet"):
        read_documents(str(path))
    pq.write_table(pa.table({"n": [1, 2]}), path)
    with pytest.raises(ValueError, match="holds no record with a text"):
        read_documents(str(path))


def test_a_folder_is_read_in_order_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name, text in (
        ("b/2.txt", "Two."),
        ("a.md", "# One\nYes."),
        ("c.txt", ""),
        ("d.pdf", "x"),
        (".hidden.txt", "No."),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    report = ReadReport()
    documents = read_documents(str(tmp_path), report=report)
    assert [(document.title, document.source) for document in documents] == [("One", "a.md"), ("2", "b/2.txt")]
    assert report.lines()[0].startswith("left out c.txt: ") and report.lines()[0].endswith("is empty")
    assert report.lines()[1] == "1 files left out that are none of .txt, .md, .jsonl, .parquet (.pdf)"


def test_bad_sources_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\n ")
    (tmp_path / "x.pdf").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.pdf").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"no file or folder none\.txt"):
        read_documents("none.txt")
    for name, message in (
        ("empty.txt", "is empty"),
        ("blank.txt", "holds no text"),
        ("x.pdf", "ends in none of .txt"),
        ("folder", "holds no readable text"),
    ):
        with pytest.raises(ValueError, match=message):
            read_documents(str(tmp_path / name))


def test_a_preview_and_a_description_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Book\n" + "".join(f"## Chapter {n}\n{'Yes. ' * 40}\n" for n in range(12)))
    documents = read_documents(str(tmp_path / "b.md"))
    preview = describe_documents(documents)
    assert "documents   12" in preview and "Book" in preview and "chapter 12" in preview
    description = describe_store(encode_corpus(documents, HashingEncoder(16), tmp_path / "store", progress=False))
    assert "hashing:16 (hashing-1-16)" in description and "of width 16, float16" in description
    assert list_corpora().count("\n") == 4
