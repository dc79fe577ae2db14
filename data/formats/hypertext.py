"""HTML to blocks: what a reader would call the text of a page, by lxml."""

import codecs
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data.document import BOOK, Block, Document
from data.formats.markdown import level_depths
from data.languages import AUTO, PUNKT_NAMES
from data.report import ReadReport
from encoders.text import clean_text

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

MAX_PAGE = 64 << 20  # bytes; a page of that size is no page

_BLOCKS = (
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr li main menu nav ol p pre section summary table tbody td tfoot th "
    "thead tr ul"
)
_BLOCK_TAGS = frozenset(_BLOCKS.split())
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_NAVIGATION, _TABLE, _MARK = "pieces of navigation left out", "tables left out", "marks of notes and pages left out"
_TAGS = {
    "scripts and styles left out": "script style template noscript",
    "blocks of code left out": "pre listing xmp",
    "forms left out": "form button select textarea datalist",
    "drawings, formulas and media left out": "svg math audio video canvas object iframe",
    _NAVIGATION: "nav footer",
}
# Words of the attributes `class`, `role` or `epub:type`: those of DocBook, Sphinx, MediaWiki, Gutenberg and ARIA.
_WORDS = {
    _NAVIGATION: "nav navbar navheader navfooter navigation docnav breadcrumb breadcrumbs pagination toc doc-toc "
    "landmarks page-list search contentinfo menubar toolbar mw-editsection longdesc-link",
    _MARK: "headerlink pagenum pageno pagebreak doc-pagebreak noteref doc-noteref fn-backref",
    "footnotes left out": "footnote rearnote rearnotes endnote endnotes doc-footnote doc-endnotes",
    "passages of Project Gutenberg's licence left out": "pg-boilerplate",
}
_TAGS_LEFT_OUT = {tag: what for what, tags in _TAGS.items() for tag in tags.split()}
_WORDS_LEFT_OUT = {word: what for what, words in _WORDS.items() for word in words.split()}
_MARK_TEXT = re.compile(r"\s*(?:[\[(](?:\d{1,4}|[a-zа-я]|\*+)[\])]|[*†‡¶§#↩↑^]+\ufe0e?)\s*")
_RAISED_TEXT = re.compile(rf"{_MARK_TEXT.pattern}|\s*\d{{1,4}}\s*")
_FRAMED_CELLS = 3  # a remark, its title, its sign
_FRAMED_CHARS = 150  # in a cell, on average: tables of data have less, frames of running text more
_CYRILLIC_NAMES = ("russian", "ukrainian", "belarusian", "bulgarian", "macedonian")
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_LINE = "\u2028"
_BREAKS = re.compile(rf"{_LINE}\s*{_LINE}\s*|\u2029")
_STATEMENT_END = re.compile(r"[.…][\"'»”’)\]]*\Z")
_CLOSING_TAGS = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)
_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)|<meta[^>]{0,400}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.I
)
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_OLD_ENCODING = re.compile(
    r"(?:windows-|cp)\d{3,4}|koi8-[ru]|iso-?8859-\d{1,2}|cp866|ibm866|macintosh|gb2312|gbk|gb18030|big5|shift_jis|euc-\w\w"
)
_UNSHOWN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_COMMON_LETTERS = re.compile("[оеаинтс]", re.IGNORECASE)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class _Run(NamedTuple):
    """A string of a page; `segment` numbers the stretches between two borders of blocks."""

    segment: int
    depth: int
    text: str
    in_link: bool = False
    anchor: str = ""


@dataclass(frozen=True)
class Piece:
    """A paragraph or heading of a page.

    Attributes:
        text: without markup, on one line.
        depth: 1 to 6 of a heading, 0 of other text.
        anchors: names that links to this place use: ids since the piece before.
        is_link: whether it is a link and nothing else, no full sentence either.
    """

    text: str
    depth: int
    anchors: tuple[str, ...] = ()
    is_link: bool = False


def read_html(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the document that a page of HTML or XHTML is; nothing if it has no text.

    Its title is its single main heading, else the `<title>`, else the name of the file.

    Raises:
        ValueError: the page is too large or nests its elements too deep.
    """
    if path.stat().st_size > MAX_PAGE:
        raise ValueError(f"{name} is larger than {MAX_PAGE >> 20} MiB; cut it into pages")
    root = parse_html(decode_page(path.read_bytes(), name, report), name)
    if root is None:
        return
    blocks = _blocks(page_pieces(root, report), report)
    if not blocks:
        return
    heading = blocks[0].text if blocks[0].level == BOOK else ""
    title = heading or " ".join((root.findtext(".//title") or "").split()) or Path(name).stem
    language = language_name(root.get("lang") or root.get("xml:lang") or "")
    yield Document(title, tuple(blocks), name, _find_licence(root), _doubt(language, blocks, report))


def html_blocks(content: bytes | str, report: ReadReport) -> list[Block]:
    """Returns the blocks of a page: headings with levels as in Markdown, paragraphs, list items.

    Scripts, code, tables of data, forms and navigation are left out and counted. A single line break is a space, two
    are a new paragraph.
    """
    text = content if isinstance(content, str) else decode_page(content, "a page", report)
    root = parse_html(text, "a page")
    return [] if root is None else _blocks(page_pieces(root, report), report)


def language_name(code: str) -> str:
    """Returns the name that Punkt has for a language code like "ru", "en-GB" or "deu", or "auto" if none is known."""
    primary = re.split(r"[-_]", code.strip().lower(), maxsplit=1)[0]
    return PUNKT_NAMES.get(primary, primary if primary in PUNKT_NAMES.values() else AUTO)


def decode_page(content: bytes, name: str, report: ReadReport) -> str:
    """Returns the text of a page by its mark of byte order, as UTF-8 if it is that, or by the encoding it declares."""
    found = _DECLARED.search(content[:4096])
    declared = (found[1] or found[2]).decode("ascii").lower() if found else ""
    if declared in ("iso-8859-1", "latin1", "us-ascii"):
        declared = "cp1252"  # as browsers do
    is_utf8 = not content.isascii() and _is_valid(content, "utf-8")
    if _OLD_ENCODING.fullmatch(declared) and not is_utf8 and not content.startswith(tuple(_BOMS)):
        if _is_valid(content, declared):
            return content.decode(declared)
        report.count("pages that are not in the encoding that they declare")
    return decode_text(content, name, report)


def decode_text(content: bytes, name: str, report: ReadReport) -> str:
    """Returns the bytes as text: by a mark of byte order, as UTF-8, else as the old Cyrillic or Western encoding.

    What is neither is read as UTF-8, its bad bytes replaced and counted; so is a guess.
    """
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    encoding = _BOMS.get(mark, "utf-8")
    content = content[len(mark) :]
    text = content.decode(encoding, "replace")
    num_bad = text.count("\ufffd") - content.count("\ufffd".encode(encoding))
    if num_bad and not mark and len(_NOT_ASCII.findall(text)) < 2 * num_bad and (guess := _guess_encoding(content)):
        report.count(f"files read as {guess}, for they are not UTF-8")
        return content.decode(guess, "replace")
    report.count(f"characters of {name} are not {encoding.upper()} and were replaced", num_bad)
    return text


def _guess_encoding(content: bytes) -> str:
    """Tells Cyrillic from Western text: its words are made of high bytes, there these stand alone; "" if unclear.

    The right one of the two Cyrillic encodings is the one in which the common letters are common.
    """
    sample = content[: 1 << 20]
    num_high = len(re.findall(rb"[\x80-\xff]", sample))
    words = b"".join(re.findall(rb"[\xa8\xb8\xc0-\xff]{2,}", sample))
    if len(words) < 0.3 * num_high:
        return "cp1252"
    common = {name: len(_COMMON_LETTERS.findall(words.decode(name))) for name in ("cp1251", "koi8-r")}
    best = max(common, key=lambda name: common[name])
    return best if len(words) > 0.7 * num_high and common[best] > 0.25 * len(words) else ""


def _is_valid(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def parse_html(text: str, name: str) -> "Element | None":
    """Returns the root of a page, or None if it is empty; nothing is fetched, no entity of its own is expanded."""
    from lxml import etree

    text = _CLOSING_TAGS.sub("", clean_text(text))  # what follows them would be lost
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(text.encode("utf-8"), parser)  # feeding would leave the log of errors empty
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise ValueError(f"{name} nests its elements more than 2,000 deep; repair its markup")
    return root


def page_pieces(root: "Element", report: ReadReport) -> Iterator[Piece]:
    """Yields the paragraphs and headings of a page in reading order; what is left out is counted."""
    anchors: list[str] = []
    body = root.find("body")
    for (_, depth), group in groupby(() if body is None else _runs(body, report), key=lambda run: run[:2]):
        runs = list(group)
        anchors += [run.anchor for run in runs if run.anchor]
        text = "".join(run.text for run in runs).replace("\u00ad", "")
        linked = sum(len(run.text.strip()) for run in runs if run.in_link)
        is_link = linked > 0.9 * len(text.strip()) and not _STATEMENT_END.search(text.strip())
        for part in [text] if depth else _BREAKS.split(text):
            if line := " ".join(part.split()):
                yield Piece(line, depth, tuple(anchors), is_link)
                anchors.clear()


def drop_links(pieces: Iterable[Piece], report: ReadReport) -> list[Piece]:
    """Returns the pieces without the lines that are only links, which lead elsewhere; headings may be links."""
    pieces = list(pieces)
    kept = [piece for piece in pieces if piece.depth or not piece.is_link]
    report.count("lines that are only links left out", len(pieces) - len(kept))
    return kept


def _runs(body: "Element", report: ReadReport) -> Iterator[_Run]:
    """Yields the strings of a page; a new segment begins wherever a block begins or ends."""
    from lxml import etree

    _leave_out(body, report)
    segment = num_links = 0
    depths = [0]
    for event, element in etree.iterwalk(body, events=("start", "end")):
        tag = element.tag.lower()
        step = 1 if event == "start" else -1
        segment += tag in _BLOCK_TAGS
        num_links += step * (tag == "a" and element.get("href") is not None)
        if tag in _BLOCK_TAGS and event == "end":
            depths.pop()
        elif tag in _BLOCK_TAGS:
            depths.append(int(tag[1]) if tag in _HEADINGS else depths[-1])
        if event == "end":
            text = element.tail
        else:
            text = _LINE if tag == "br" else element.text
            for anchor in (element.get("id"), element.get("name") if tag == "a" else None):
                if anchor:
                    yield _Run(segment, depths[-1], "", anchor=anchor)
        if text:
            yield _Run(segment, depths[-1], text, num_links > 0)


def _leave_out(body: "Element", report: ReadReport) -> None:
    """Empties the elements that are no running text, and counts them."""
    from lxml import etree

    framed: set[Element] = set()
    for element in body.iter(*_HEADINGS, "table"):
        for above in element.iterancestors():
            if above in framed:
                break
            framed.add(above)
    emptied = []
    walk = etree.iterwalk(body, events=("start",))
    for _, element in walk:
        if what := _reason(element, element.tag.lower(), framed):
            report.count(what)
            emptied.append(element)
            walk.skip_subtree()
    for element in emptied:
        element.clear(keep_tail=True)


def _reason(element: "Element", tag: str, framed: Collection["Element"]) -> str:
    """Returns as what an element is left out, or "" if it is to be read; `framed` are those with a heading inside."""
    if tag in _TAGS_LEFT_OUT:
        return _TAGS_LEFT_OUT[tag]
    if tag in ("header", "table") and element not in framed:
        return _NAVIGATION if tag == "header" else "" if _is_frame(element) else _TABLE
    if element.get("hidden") is not None or _UNSHOWN.search(element.get("style") or ""):
        return "hidden elements left out"
    if tag in ("sup", "a") and len(element) < 3 and not any(map(len, element)):
        text = "".join(element.itertext())
        refers = tag == "sup" or "#" in (element.get("href") or "")
        if refers and (_MARK_TEXT if tag == "a" else _RAISED_TEXT).fullmatch(text):
            return _MARK
    if tag not in _HEADINGS:
        names = ("epub:type", "role") if tag == "body" else ("class", "epub:type", "role")
        for word in " ".join(element.get(name) or "" for name in names).lower().split():
            if word in _WORDS_LEFT_OUT:
                return _WORDS_LEFT_OUT[word]
    return ""


def _is_frame(table: "Element") -> bool:
    """Tells a table that frames running text (a page of the nineties, a boxed remark) from one of data."""
    cells = [cell for cell in table.iter("td", "th") if any(map(str.strip, cell.itertext()))]
    if len(cells) <= _FRAMED_CELLS and any(_STATEMENT_END.search("".join(cell.itertext()).strip()) for cell in cells):
        return True
    return sum(map(len, table.itertext())) >= _FRAMED_CHARS * len(cells)


def _blocks(pieces: Iterable[Piece], report: ReadReport) -> list[Block]:
    pieces = drop_links(pieces, report)
    levels = level_depths([piece.depth for piece in pieces if piece.depth])
    return [Block(piece.text, levels[piece.depth], "heading") if piece.depth else Block(piece.text) for piece in pieces]


def _find_licence(root: "Element") -> str:
    """Returns the licence that a page links to as such, by its words or its address."""
    for element in root.iter("a", "link"):
        if "license" in (element.get("rel") or "").lower().split():
            return " ".join("".join(element.itertext()).split()) or element.get("href") or "unknown"
    return "unknown"


def _doubt(language: str, blocks: Sequence[Block], report: ReadReport) -> str:
    """Returns the declared language, or "auto" if the text is in another script: templates declare what they like."""
    sample = "".join(block.text for block in blocks[:50])
    is_cyrillic = 2 * len(_CYRILLIC.findall(sample)) > sum(map(str.isalpha, sample))
    if language in (AUTO, "serbian") or (language in _CYRILLIC_NAMES) == is_cyrillic:
        return language
    report.count("pages that are not in the language that they declare")
    return AUTO
