import html
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block, Document
from data.formats.hypertext import decode_text, html_blocks, language_name, read_html
from data.formats.markdown import read_markdown
from data.report import ReadReport

PAGE = """<!DOCTYPE html>
<html lang="en-GB"><head><title>The Mill | A site</title><style>p {}</style>
<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"></head><body>
<header><a href="/">Home</a></header><nav><ul><li><a href="/a">A</a></li></ul></nav>
<article><header><h1>The <i>Mill</i></h1></header>
<p>A mill stood by the river<sup><a href="#fn1">1</a></sup>. It
was&nbsp;old; the wheel had stop&shy;ped.<br>Nobody came.<br><br>Then somebody <a href="x.html">came</a>.</p>
<div>Loose words<p>in a paragraph</p>and behind it.</div>
<h2 id="two">Two<a class="headerlink" href="#two">¶</a></h2>
<ul><li>one</li><li><p>two</p></li><li><a href="/x">A link, no more</a></li></ul>
<p>Use <code>make</code>, then</p><pre>make all</pre>
<table><tr><th>Year</th><td>1890</td></tr></table>
<form><p>Name</p><input></form>
<blockquote><p>Quoted.</p></blockquote><!-- unseen --><p hidden>Unseen.</p>
<script>unseen()</script></article><footer>Imprint</footer></body></html>
<p>After the end.</p>"""


def test_a_page_is_its_running_text(tmp_path: Path) -> None:
    (tmp_path / "mill.html").write_text(PAGE, encoding="utf-8")
    report = ReadReport()
    (page,) = read_html(tmp_path / "mill.html", "x/mill.html", report)
    assert (page.title, page.source, page.language) == ("The Mill", "x/mill.html", "english")
    assert page.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert page.blocks == (
        Block("The Mill", 4, "heading"),
        Block("A mill stood by the river. It was old; the wheel had stopped. Nobody came."),
        Block("Then somebody came."),
        Block("Loose words"),
        Block("in a paragraph"),
        Block("and behind it."),
        Block("Two", 2, "heading"),
        Block("one"),
        Block("two"),
        Block("Use make, then"),
        Block("Quoted."),
        Block("After the end."),
    )
    assert report.counts == {
        "pieces of navigation left out": 3,
        "lines that are only links left out": 1,
        "marks of notes and pages left out": 2,
        "blocks of code left out": 1,
        "tables left out": 1,
        "forms left out": 1,
        "hidden elements left out": 1,
        "scripts and styles left out": 1,
    } | {what: 0 for what, number in report.counts.items() if not number}


@pytest.mark.parametrize("depths", [[1, 1], [1, 2, 1], [1, 2, 3, 4], [2], [2, 3, 3], [3, 1], [1, 6, 6, 1]])
def test_headings_get_the_levels_that_markdown_gives_them(depths: list[int]) -> None:
    page = "".join(f"<h{depth}>T</h{depth}><p>x</p>" for depth in depths)
    text = "".join(f"{'#' * depth} T\n\nx\n\n" for depth in depths)
    assert html_blocks(page, ReadReport()) == read_markdown(text, ReadReport())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30), max_size=5))
def test_no_word_is_lost(paragraphs: list[str]) -> None:
    # noncharacters are no HTML; a character reference to one is an error, too
    page = "".join(f"<p>{html.escape(paragraph)}" for paragraph in paragraphs)
    words = [word for block in html_blocks(page, ReadReport()) for word in block.text.split()]
    assert words == "\n".join(paragraphs).replace("\u00ad", "").split()


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_anything_is_read(content: bytes | str) -> None:
    html_blocks(content, ReadReport())


def _read(content: bytes, tmp_path: Path, report: ReadReport | None = None) -> Document:
    (tmp_path / "page.htm").write_bytes(content)
    (document,) = read_html(tmp_path / "page.htm", "page.htm", report or ReadReport())
    return document


RUSSIAN = "<title>Мельница</title><p>— Кто там? — спросил мельник. «Никого», — ответил ветер."


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "utf-8"),
        ("", "utf-8-sig"),
        ("", "utf-16"),
        ("", "cp1251"),
        ("", "koi8-r"),
        ('<meta charset="windows-1251">', "cp1251"),
        ('<META content="text/html; charset=koi8-r" http-equiv=Content-Type>', "koi8-r"),
        ("<?xml version='1.0' encoding='Windows-1251'?><html lang='ru'>", "cp1251"),
        ('<meta charset="utf-8">', "cp1251"),  # a lie
        ('<meta charset="windows-1251">', "utf-8"),  # another
        ('<meta charset="base64">', "cp1251"),
        ('<meta charset="iso-2022-jp">', "utf-8"),
    ],
)
def test_russian_in_every_encoding(head: str, encoding: str, tmp_path: Path) -> None:
    text = RUSSIAN.replace("— ", "- ") if encoding == "koi8-r" else RUSSIAN
    page = _read((head + text).encode(encoding, "replace"), tmp_path)
    assert page.title == "Мельница"
    assert page.blocks[0].text.replace("—", "-").startswith("- Кто там? - спросил мельник.")


def test_latin_1_is_read_as_browsers_do(tmp_path: Path) -> None:
    page = _read('<meta charset="iso-8859-1"><p>“Café” – déjà vu'.encode("cp1252"), tmp_path)
    assert page.blocks == (Block("“Café” – déjà vu"),)


def test_what_is_no_known_encoding_is_replaced_and_counted() -> None:
    report = ReadReport()
    assert decode_text("Да, да".encode() + b"\xff", "x", report) == "Да, да\ufffd"
    assert report.counts == {"characters of x are not UTF-8 and were replaced": 1}
    report = ReadReport()
    assert "\ufffd" in decode_text("这座桥很长，天空却很低。".encode("gb2312"), "x", report)
    assert len(report.lines()) == 1
    assert decode_text("kept \ufffd".encode(), "x", report) == "kept \ufffd" and len(report.lines()) == 1


def test_a_declared_language_is_believed_if_the_script_agrees(tmp_path: Path) -> None:
    report = ReadReport()
    assert _read(f"<html lang=ru>{RUSSIAN}".encode(), tmp_path).language == "russian"
    assert _read(f"<html lang=en>{RUSSIAN}".encode(), tmp_path, report).language == "auto"
    assert report.lines() == ["1 pages that are not in the language that they declare"]
    assert _read(b"<html lang=de-AT><p>Ein Satz.", tmp_path).language == "german"
    assert [language_name(code) for code in ("EN_us", "rus", "Russian", "xx", "")] == [
        "english",
        "russian",
        "russian",
        "auto",
        "auto",
    ]


def test_the_title_is_the_heading_or_the_title_or_the_name(tmp_path: Path) -> None:
    assert _read(b"<title>T</title><h1>A</h1><h1>B</h1>", tmp_path).title == "T"
    assert _read(b"<title>T</title><h1>A<br><br>b</h1><h2>B</h2>", tmp_path).title == "A b"
    assert _read(b"<p>x", tmp_path).title == "page"


def test_a_page_without_text_is_no_document(tmp_path: Path) -> None:
    for content in (b"", b"  ", b"<!-- c -->", b"<title>T</title>", b"<frameset><frame src=a></frameset>"):
        (tmp_path / "a.html").write_bytes(content)
        assert list(read_html(tmp_path / "a.html", "a.html", ReadReport())) == []


def test_a_table_that_frames_text_is_read() -> None:
    text = "The whole page stands in a table, as pages did once. " * 4
    nineties = f"<table><tr><td><a href=a>A</a><br><a href=b>B</a><td>{text}<table><tr><td>1<td>2</table></table>"
    assert html_blocks(nineties, ReadReport())[-1] == Block(text.strip())
    remark = "<table><tr><td><img src=i></td><th>Note</th></tr><tr><td><p>Mind the gap.</p></td></tr></table>"
    assert [block.text for block in html_blocks(remark, ReadReport())] == ["Note", "Mind the gap."]
    report = ReadReport()
    assert html_blocks("<table><tr><td>Year.<td>Name<td>a<td>b<tr><td>1<td>Ann<td>c</table>", report) == []
    assert report.counts["tables left out"] == 1


def test_xhtml_closes_its_own_tags() -> None:
    page = (
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/><script src='a'/></head>"
        "<body><p>a<a id='x'/>b &mdash; c</p><p/>d</body></html>"
    )
    assert html_blocks(page, ReadReport()) == [Block("ab — c"), Block("d")]


def test_hostile_pages_are_refused_or_read_at_once(tmp_path: Path) -> None:
    begin = time.monotonic()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    entities = f'<!DOCTYPE html [<!ENTITY a SYSTEM "{secret.as_uri()}"><!ENTITY b "bbb">]><p>&a;&b;</p>'
    assert "secret" not in str(html_blocks(entities, ReadReport()))
    with pytest.raises(ValueError, match="nests its elements"):
        html_blocks("<div>" * 100_000, ReadReport())
    for page in ("<b>x" * 1_500, "<sup>" * 1_500 + "x" * 100_000, "<table><tr><td>x" * 600, "<a href=#>" * 10_000):
        html_blocks(page, ReadReport())
    html_blocks("<br>\n" * 100_000 + "&" * 100_000 + "<" * 100_000, ReadReport())
    html_blocks("".join(f"<h{n % 6 + 1}>" for n in range(1_500)) + "<h1>x</h1>" * 10_000, ReadReport())
    assert time.monotonic() - begin < 10
