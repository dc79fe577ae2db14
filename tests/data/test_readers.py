import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import Block
from data.formats.markdown import read_markdown
from data.prose import decode, read_prose
from data.readers import read_documents
from data.report import ReadReport


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


@settings(deadline=None)
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


def test_a_folder_is_read_in_order_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name, text in (
        ("b/2.txt", "Two."),
        ("a.md", "# One\nYes."),
        ("c.txt", ""),
        ("d.pdf", "x"),
        (".hidden.txt", "No."),
        (".git/x.txt", "No."),
        ("package.json", '{"name": "frog", "version": "1.0"}'),
        ("z/damaged.json", "{"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "e.txt").symlink_to("nowhere")
    (tmp_path / "f").symlink_to("b", target_is_directory=True)
    report = ReadReport()
    documents = list(read_documents(str(tmp_path), report=report))
    assert [(document.title, document.source) for document in documents] == [("One", "a.md"), ("2", "b/2.txt")]
    assert [note.partition(":")[0] for note in report.notes if note.startswith("left out")] == [
        f"left out {name}" for name in ("c.txt", "e.txt", "package.json", "z/damaged.json")
    ]
    assert {what: number for what, number in report.counts.items() if number} == {
        "folders that are links left out": 1,
        "files left out for which there is no reader (.pdf)": 1,
        "records without a text left out": 1,
    }


def test_a_card_beside_records_is_no_part_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A data set")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"text": "One."}')
    report = ReadReport()
    (document,) = read_documents(str(tmp_path), report=report)
    assert document.source == "data/a.jsonl"
    assert report.lines() == ["1 README.md left out, which describes a data set"]


def test_many_files_and_many_faults_take_time_in_proportion(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number:05}.txt").write_text("Yes." if number % 2 else "")
    report = ReadReport()
    assert len(list(read_documents(str(tmp_path), report=report))) == 1000
    assert len(report.notes) == 10 and "990 more files left out, as the 10 named above" in report.lines()


def test_bad_sources_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\n ")
    (tmp_path / "x.pdf").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.pdf").write_text("x")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "One."}' * 99)[:-9])
    (tmp_path / "no.txt.gz").write_bytes(b"no")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(FileNotFoundError, match=r"no file or folder none\.epub"):
        next(read_documents("none.epub"))
    for name, message in (
        ("empty.txt", "is empty"),
        ("blank.txt", "holds no text"),
        ("x.pdf", "ends in none of .txt"),
        ("folder", "holds no readable text"),
        ("cut.jsonl.gz", "is damaged"),
        ("no.txt.gz", "is damaged"),
        ("pipe.txt", "is no regular file"),
    ):
        with pytest.raises(ValueError, match=message):
            next(read_documents(str(tmp_path / name)))


def test_a_language_that_is_given_overrides(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Ja.", "language": "de"}\n{"text": "So."}')
    for given_language, found in (("auto", ["german", "auto"]), ("nl", ["dutch", "dutch"])):
        documents = read_documents(str(tmp_path / "a.jsonl"), language=given_language)
        assert [document.language for document in documents] == found


def test_texts_may_be_packed_or_in_an_old_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"Yes."))
    (tmp_path / "b.txt").write_bytes("Привет, это лягушка из пруда.".encode("cp1251"))
    first, second = read_documents(str(tmp_path))
    assert (first.title, first.blocks) == ("a", (Block("Yes."),))
    assert second.blocks == (Block("Привет, это лягушка из пруда."),)
