import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.formats.epub import read_epub
from data.report import ReadReport

CONTAINER = """<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/book%201.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>"""
OPF = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>The  Mill</dc:title><dc:creator>Ann O.</dc:creator><dc:language>en-GB</dc:language>
<dc:rights>CC0</dc:rights></metadata>
<manifest>{items}</manifest><spine toc="ncx">{spine}</spine>{guide}</package>"""
NCX = """<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "http://www.daisy.org/z3986/2005/ncx-2005-1.dtd">
<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{}</navMap></ncx>"""
NAV = """<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>
<nav epub:type="landmarks"><ol><li><a href="x.xhtml">Start</a></li></ol></nav>
<nav epub:type="toc"><h1>Contents</h1><ol>{}</ol></nav></body></html>"""
TEXT = "<p>A mill stood by the river. " + "It was old. " * 60 + "</p>"


def _write(
    path: Path,
    pages: Mapping[str, str],
    *,
    nav: str = "",
    ncx: str = "",
    extra: Mapping[str, str | bytes] | None = None,
    itemref: str = "",
    guide: str = "",
) -> Path:
    """Writes an EPUB as other programs do; a page is given by what is in its body."""
    members: dict[str, str | bytes] = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    items = [f'<item id="p{n}" href="{href}" media-type="application/xhtml+xml"/>' for n, href in enumerate(pages)]
    if nav:
        items.append('<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>')
        members["OEBPS/nav.xhtml"] = NAV.format(nav)
    if ncx:
        items.append('<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>')
        members["OEBPS/toc.ncx"] = NCX.format(ncx)
    spine = "".join(f'<itemref idref="p{number}"/>' for number in range(len(pages))) + itemref
    members["OEBPS/book 1.opf"] = OPF.format(items="".join(items), spine=spine, guide=guide)
    for href, body in pages.items():
        head = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
        members["OEBPS/" + href.replace("%20", " ")] = f"{head}<body>{body}</body></html>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | dict(extra or {})).items():
            archive.writestr(name, content)
    return path


def _point(label: str, source: str, inside: str = "") -> str:
    return f'<navPoint><navLabel><text>{label}</text></navLabel><content src="{source}"/>{inside}</navPoint>'


def _read(path: Path, report: ReadReport | None = None) -> Document:
    (document,) = read_epub(path, path.name, report or ReadReport())
    return document


def _headings(document: Document) -> Sequence[tuple[int, str]]:
    return [(block.level, block.text) for block in document.blocks if block.role == "heading"]


def test_a_book_is_one_document(tmp_path: Path) -> None:
    pages = {
        "cover.xhtml": '<section epub:type="cover"><img src="c.jpg"/>A cover</section>',
        "title.xhtml": "<h1>The Mill</h1><p>Ann O.</p>",
        "c%201.xhtml": f'<section id="a"><h2>1</h2><p class="sub">The <i>Wheel</i></p>{TEXT}</section>',
        "c2.xhtml": f'<h2>Two<a epub:type="noteref" href="#n">1</a></h2>{TEXT}<h3>Night</h3><p>Dark.</p>'
        '<aside epub:type="footnote" id="n">A note.</aside>',
    }
    nav = '<li><a href="c%201.xhtml">1: The Wheel</a></li><li><a href="c2.xhtml#none">Two</a></li>'
    report = ReadReport()
    book = _read(_write(tmp_path / "b.epub", pages, nav=nav, itemref='<itemref idref="nav"/>'), report)
    assert (book.title, book.source, book.language, book.licence) == ("The Mill", "b.epub", "english", "CC0")
    text = Block(" ".join(TEXT[3:-4].split()))
    assert book.blocks == (
        Block("The Mill", 4, "heading"),
        Block("Ann O."),
        Block("1: The Wheel", 2, "heading"),
        text,
        Block("Two", 2, "heading"),
        text,
        Block("Night", 1, "heading"),
        Block("Dark."),
    )
    assert report.counts["covers, title pages and tables of contents left out"] == 2
    assert report.counts["footnotes left out"] == report.counts["marks of notes and pages left out"] == 1


def test_parts_are_what_the_contents_nest(tmp_path: Path) -> None:
    pages = {
        "0.xhtml": "<h1>Prologue</h1>" + TEXT,
        "1.xhtml": "<h1>Spring</h1><p>An epigraph.</p>",
        "2.xhtml": "<h1>The Frog</h1>" + TEXT,
        "3.xhtml": "<h1>The Toad</h1>" + TEXT + '<h2 id="s">At Home</h2>' + TEXT,
        "4.xhtml": "<h1>Autumn</h1>",
        "5.xhtml": "<h1>The Crow</h1>" + TEXT,
    }
    inside = _point("The Frog", "2.xhtml") + _point("The Toad", "3.xhtml", _point("At Home", "3.xhtml#s"))
    ncx = _point("Prologue", "0.xhtml") + _point("Spring", "1.xhtml", inside)
    ncx += _point("Autumn", "4.xhtml", _point("The Crow", "5.xhtml"))
    levels = [(2, "Prologue"), (3, "Spring"), (2, "The Frog"), (2, "The Toad"), (1, "At Home")]
    book = _read(_write(tmp_path / "b.epub", pages, ncx=ncx))
    assert _headings(book) == [(4, "The Mill"), *levels, (3, "Autumn"), (2, "The Crow")]


def test_sections_inside_a_chapter_do_not_make_it_a_part(tmp_path: Path) -> None:
    pages = {n: f'<h1>Chapter {n[0]}</h1><h2 id="s">Section</h2>{TEXT}' for n in ("1.html", "2.html")}
    ncx = "".join(
        _point(f"Chapter {n[0]}", n, _point(f"Chapter {n[0]}", n) + _point("Section", f"{n}#s")) for n in pages
    )
    expected = [(2, "Chapter 1"), (1, "Section"), (2, "Chapter 2"), (1, "Section")]
    assert _headings(_read(_write(tmp_path / "a.epub", pages, ncx=ncx)))[1:] == expected
    assert _headings(_read(_write(tmp_path / "b.epub", pages)))[1:] == expected  # by its headings alone


@pytest.mark.parametrize("tags", [("h1", "h2"), ("h2", "h3")])
def test_a_word_says_what_a_part_is_without_contents(tags: tuple[str, str], tmp_path: Path) -> None:
    page = "".join(
        f"<{tags[0]}>{part}</{tags[0]}>" + "".join(f"<{tags[1]}>Глава {n}</{tags[1]}>{TEXT}" for n in "12")
        for part in ("Часть первая", "ЧАСТЬ 2. Зима")
    )
    levels = [(3, "Часть первая"), (2, "Глава 1"), (2, "Глава 2"), (3, "ЧАСТЬ 2. Зима"), (2, "Глава 1"), (2, "Глава 2")]
    assert _headings(_read(_write(tmp_path / "b.epub", {"all.xhtml": page})))[1:] == levels


def test_chapters_without_headings_are_named_by_the_contents(tmp_path: Path) -> None:
    page = f'<p><a id="a"/>CHAPTER I</p>{TEXT}<div id="b"><p>* * *</p>{TEXT}</div>'
    nav = '<li><span>Part One</span><ol><li><a href="x.xhtml#a">Chapter I</a></li>'
    nav += '<li><a href="x.xhtml#b">Chapter II</a></li></ol></li><li><a href="gone.xhtml">Gone</a></li>'
    book = _read(_write(tmp_path / "b.epub", {"x.xhtml": page}, nav=nav))
    assert _headings(book)[1:] == [(3, "Part One"), (2, "CHAPTER I"), (2, "Chapter II")]
    assert [block.text for block in book.blocks].count("CHAPTER I") == 1 and Block("* * *") in book.blocks


def test_pages_beside_the_text_are_left_out_and_counted(tmp_path: Path) -> None:
    links = "".join(f'<h2><a href="a.xhtml">Chapter {n}</a></h2>' for n in range(9))
    pages = {"toc.xhtml": links, "guide.xhtml": "<p>Contents, in words</p>", "a.xhtml": TEXT}
    items = {
        "OEBPS/book 1.opf": OPF.format(
            items='<item id="t" href="toc.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="g" href="guide.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="a2" href="a.xhtml#x" media-type="application/xhtml+xml"/>'
            '<item id="n" href="a.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="s" href="mimetype" media-type="image/svg+xml"/>'
            '<item id="up" href="../mimetype" media-type="image/svg+xml"/>'
            '<item id="gone" href="gone.xhtml" media-type="application/xhtml+xml"/>',
            spine='<itemref idref="t"/><itemref idref="g"/><itemref idref="a"/><itemref idref="a2"/>'
            '<itemref idref="n" linear="no"/><itemref idref="up"/><itemref idref="gone"/><itemref idref="none"/>',
            guide='<guide><reference type="toc" href="guide.xhtml#x"/></guide>',
        )
    }
    report = ReadReport()
    book = _read(_write(tmp_path / "b.epub", pages, extra=items), report)
    assert len(book.blocks) == 2
    assert {what: number for what, number in report.counts.items() if number} == {
        "covers, title pages and tables of contents left out": 2,
        "pages out of the reading order left out": 1,
        "pages that are no text left out": 1,
        "pages missing in b.epub": 2,
    }


def test_a_book_without_text_is_no_document(tmp_path: Path) -> None:
    path = _write(tmp_path / "b.epub", {"a.xhtml": '<img src="a.png"/>'})
    assert list(read_epub(path, "b.epub", ReadReport())) == []


ENCRYPTED = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"
 xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:EncryptionMethod Algorithm="{}"/>
<enc:CipherData><enc:CipherReference URI="{}"/></enc:CipherData></enc:EncryptedData></encryption>"""


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"META-INF/container.xml": "<container/>"}, "no EPUB"),
        ({"META-INF/container.xml": ""}, "no XML"),
        ({"OEBPS/book 1.opf": "&"}, "no XML"),
        ({"OEBPS/book 1.opf": '<!DOCTYPE a [<!ENTITY b "c">]><package>&b;</package>'}, "defines entities"),
        ({"META-INF/encryption.xml": ENCRYPTED.format("http://ns.adobe.com/adept", "OEBPS/a.xhtml")}, "DRM"),
        ({"OEBPS/a.xhtml": b" " * (33 << 20)}, "32 MiB"),
        ({"OEBPS/a.xhtml": "<body>" + "<div>" * 5_000}, "nests its elements"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(
    extra: Mapping[str, str | bytes], message: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / "b.epub", {"a.xhtml": TEXT}, extra=extra)
    begin = time.monotonic()
    with pytest.raises(ValueError, match=message) as error:
        list(read_epub(path, "b.epub", ReadReport()))
    assert "b.epub" in str(error.value) and "\n" not in str(error.value)
    assert time.monotonic() - begin < 5


def test_fonts_may_be_scrambled(tmp_path: Path) -> None:
    extra = {"META-INF/encryption.xml": ENCRYPTED.format("http://www.idpf.org/2008/embedding", "OEBPS/a.xhtml")}
    assert _read(_write(tmp_path / "b.epub", {"a.xhtml": TEXT}, extra=extra))


def test_files_that_are_no_archive_or_have_a_password(tmp_path: Path) -> None:
    path = _write(tmp_path / "b.epub", {"a.xhtml": TEXT})
    content = path.read_bytes()
    flagged = content.replace(b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00")
    flagged = flagged.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    for damaged, message in ((b"PK", "no EPUB"), (content[:-30], "no EPUB"), (flagged, "encrypted")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            list(read_epub(path, "b.epub", ReadReport()))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 3_000), st.integers(1, 255))
def test_a_flipped_byte_ends_in_a_sentence_or_is_harmless(tmp_path: Path, place: int, flip: int) -> None:
    path = _write(tmp_path / "b.epub", {"a.xhtml": TEXT}, nav='<li><a href="a.xhtml">One</a></li>')
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    try:
        list(read_epub(path, "b.epub", ReadReport()))
    except ValueError as error:
        assert "b.epub" in str(error)
