"""E-books to documents: the pages of an EPUB in reading order, its table of contents as the tree of headings."""

import errno
import lzma
import posixpath
import re
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from data.document import BOOK, CHAPTER, PART, SCENE, Block, Document
from data.formats.hypertext import Piece, decode_page, drop_links, language_name, page_pieces, parse_html
from data.report import ReadReport

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

MAX_MEMBER = 32 << 20  # bytes, unpacked; a long novel has 3 MB
MAX_BOOK = 256 << 20
MAX_MEMBERS = 20_000  # files, pages and lines of contents
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PAGE_TYPES = ("application/xhtml+xml", "text/html")
_NOT_TEXT = frozenset(("toc", "cover", "titlepage", "title-page", "halftitlepage", "copyright-page", "landmarks"))
_PART_WORD = "part|book|volume|часть|книга|том|band|teil|buch|partie|livre|tome|parte|libro"
_PART = re.compile(
    rf"(?:{_PART_WORD})\b[\s.:—-]*(?:\d+\b|[ivxlc]+\b|one|two|three|four|five|six|seven|eight|nine|ten|the |\Z"
    rf"|перв|втор|трет|четв|пят|шест|седьм|восьм|девят|десят)|\w+\s+(?:{_PART_WORD})\b",
    re.IGNORECASE,
)
_EPIGRAPH = 600  # characters: what stands under the heading of a part, before its first chapter, is not longer
_SENTENCE_END = re.compile(r"[.!?…][\"'»”’)\]]*\Z")
_FEW_LINES = 5  # a page that has more, nearly all of them links, is a table of contents
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class _Entry:
    """A line of the table of contents; depth 1 is outermost, `target` a file, or a file, "#" and an anchor."""

    depth: int
    label: str
    target: str


@dataclass(frozen=True)
class _Package:
    """What the package file says of a book; `pages` are the files in reading order."""

    title: str
    language: str
    licence: str
    pages: tuple[str, ...]
    contents: tuple[_Entry, ...]


@dataclass(frozen=True)
class _Heading:
    """A heading, deeper ones below it; it stands before the piece `index`, or for `num_pieces` pieces from there on."""

    index: int
    num_pieces: int
    text: str
    depth: int


def read_epub(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the document that an EPUB is: title, parts, chapters, paragraphs; nothing if it has no text.

    Parts and chapters are those of its table of contents, else of its headings. Pages out of the reading order, covers
    and tables of contents are left out and counted.

    Raises:
        ValueError: it is no EPUB, damaged, encrypted, or unpacks to more than a book can be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _Members(archive, name)
            package = _read_package(members, report)
            pieces: list[Piece] = []
            starts: dict[str, int] = {}  # where each page, and each anchor of it, is among the pieces
            for page in package.pages:
                found = _read_page(members, page, report)
                for index, piece in enumerate(found, start=len(pieces)):
                    starts.setdefault(page, index)
                    starts.update((f"{page}#{anchor}", index) for anchor in piece.anchors)
                pieces += found
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # these two come from bad content
            raise
        raise ValueError(f"{name} is damaged or no EPUB ({error})") from error
    if pieces:
        title = package.title or Path(name).stem
        page_starts = [starts[page] for page in package.pages if page in starts]
        headings = _find_headings(pieces, _locate(package.contents, starts, pieces, title), title)
        blocks = [Block(title, BOOK, "heading"), *_blocks(pieces, headings, page_starts)]
        yield Document(title, tuple(blocks), name, package.licence, package.language)


class _Members:
    """The files in an EPUB, read by name and within limits: what an archive says of its sizes is not believed."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name
        self._archive = archive
        self._infos = {info.filename: info for info in archive.infolist()}
        self._left = MAX_BOOK
        if len(archive.infolist()) > MAX_MEMBERS:
            raise ValueError(f"{name} holds more than {MAX_MEMBERS:,} files and is refused")

    def __contains__(self, member: str) -> bool:
        return member in self._infos

    def read(self, member: str) -> bytes:
        """Returns the content of a file."""
        if self._infos[member].flag_bits & 1:
            raise ValueError(f"{self.name} is encrypted; save it without a password")
        with self._archive.open(self._infos[member]) as file:
            content = file.read(min(MAX_MEMBER, self._left) + 1)
        self._left -= len(content)
        if len(content) > MAX_MEMBER or self._left < 0:
            raise ValueError(f"{self.name} unpacks to over {MAX_MEMBER >> 20} MiB a file or {MAX_BOOK >> 20} in all")
        return content

    def xml(self, member: str) -> "Element":
        """Returns the root of an XML file; one that defines entities is refused, and nothing is fetched."""
        from lxml import etree

        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
        try:
            root = etree.fromstring(self.read(member), parser)
        except etree.XMLSyntaxError:  # there is nothing that could be recovered
            root = None
        if root is None:
            raise ValueError(f"{self.name} is damaged: {member} is no XML")
        subset = root.getroottree().docinfo.internalDTD
        if subset is not None and next(subset.iterentities(), None) is not None:
            raise ValueError(f"{self.name} is refused: {member} defines entities of its own")
        return root


def _read_package(members: _Members, report: ReadReport) -> _Package:
    if "META-INF/container.xml" not in members:
        raise ValueError(f"{members.name} is no EPUB: it has no META-INF/container.xml")
    rootfile = next(members.xml("META-INF/container.xml").iter("{*}rootfile"), None)
    location = "" if rootfile is None else unquote(rootfile.get("full-path") or "")
    if location not in members:
        raise ValueError(f"{members.name} is no EPUB: its package file is missing")
    root = members.xml(location)
    base = posixpath.dirname(location)
    manifest = {item.get("id") or "": (_resolve(base, item.get("href") or ""), item) for item in root.iter("{*}item")}
    pages = _reading_order(root, manifest, base, members, report)
    _refuse_protected(members, pages)
    return _Package(
        title=_first_text(root, "title"),
        language=language_name(_first_text(root, "language")),
        licence=_first_text(root, "rights") or "unknown",
        pages=tuple(pages),
        contents=tuple(islice(_read_contents(root, manifest, members), MAX_MEMBERS)),
    )


def _reading_order(
    root: "Element", manifest: Mapping[str, tuple[str, "Element"]], base: str, members: _Members, report: ReadReport
) -> list[str]:
    """Returns the files of the text, each once."""
    guide = {
        _resolve(base, reference.get("href") or "").partition("#")[0]
        for reference in root.iter("{*}reference")
        if reference.get("type") in _NOT_TEXT
    }
    pages: dict[str, None] = {}
    for itemref in root.iter("{*}itemref"):
        target, item = manifest.get(itemref.get("idref") or "", ("", None))
        page = target.partition("#")[0]
        if item is None or page not in members:
            report.count(f"pages missing in {members.name}")
        elif itemref.get("linear") == "no":
            report.count("pages out of the reading order left out")
        elif page in guide or "nav" in (item.get("properties") or "").split():
            report.count("covers, title pages and tables of contents left out")
        elif item.get("media-type") not in _PAGE_TYPES:
            report.count("pages that are no text left out")
        else:
            pages[page] = None
    return list(pages)


def _refuse_protected(members: _Members, pages: Sequence[str]) -> None:
    """Refuses a book whose text is encrypted; fonts may be, publishers scramble those."""
    if "META-INF/encryption.xml" not in members:
        return
    for data in members.xml("META-INF/encryption.xml").iter("{*}EncryptedData"):
        method = next(data.iter("{*}EncryptionMethod"), None)
        algorithm = "" if method is None else method.get("Algorithm")
        files = [_resolve("", reference.get("URI") or "") for reference in data.iter("{*}CipherReference")]
        if algorithm not in _FONT_ALGORITHMS and any(file in pages for file in files):
            raise ValueError(f"{members.name} is protected (DRM) and cannot be read; use a copy without protection")


def _read_contents(
    root: "Element", manifest: Mapping[str, tuple[str, "Element"]], members: _Members
) -> Iterator[_Entry]:
    """Yields the table of contents: the navigation page of EPUB 3, else the NCX file of EPUB 2."""
    navigation = [page for page, item in manifest.values() if "nav" in (item.get("properties") or "").split()]
    ncx = [page for page, item in manifest.values() if item.get("media-type") == "application/x-dtbncx+xml"]
    for page in filter(members.__contains__, navigation):
        body = parse_html(decode_page(members.read(page), page, ReadReport()), members.name)
        navs = [] if body is None else list(body.iter("nav"))
        for nav in [nav for nav in navs if nav.get("epub:type") == "toc"] or navs[:1]:
            for line in nav.iter("li"):
                link = next(line.iterchildren("a", "span"), None)
                if link is not None:
                    href = link.get("href")
                    depth = sum(1 for _ in line.iterancestors("li")) + 1
                    yield _Entry(depth, _text(link), _resolve(posixpath.dirname(page), href) if href else "")
            return
    for page in filter(members.__contains__, ncx):
        for point in members.xml(page).iter("{*}navPoint"):
            content = next(point.iterchildren("{*}content"), None)
            label = next(point.iterchildren("{*}navLabel"), None)
            depth = sum(1 for _ in point.iterancestors("{*}navPoint")) + 1
            target = "" if content is None else _resolve(posixpath.dirname(page), content.get("src") or "")
            yield _Entry(depth, "" if label is None else _text(label), target)
        return


def _read_page(members: _Members, page: str, report: ReadReport) -> list[Piece]:
    root = parse_html(decode_page(members.read(page), page, report), f"{members.name}: {page}")
    body = None if root is None else root.find("body")
    if root is None or body is None:
        return []
    outer = [body, body[0]] if len(body) == 1 else [body]
    if _NOT_TEXT.intersection(word for element in outer for word in (element.get("epub:type") or "").split()):
        report.count("covers, title pages and tables of contents left out")
        return []
    pieces = list(page_pieces(root, report))
    if len(pieces) > _FEW_LINES and sum(piece.is_link for piece in pieces) > 0.8 * len(pieces):
        report.count("covers, title pages and tables of contents left out")
        return []
    return drop_links(pieces, report)


def _locate(
    contents: Sequence[_Entry], starts: Mapping[str, int], pieces: Sequence[Piece], title: str
) -> dict[int, list[_Entry]]:
    """Returns the lines of the table of contents by the piece that each stands before, outermost first.

    A line without a place stands where the next one does. One that names the book, or repeats another, goes.
    """
    located: dict[int, dict[tuple[str, ...], _Entry]] = {}
    waiting: list[_Entry] = []
    for entry in contents:
        if not entry.label or _words(entry.label) == _words(title):
            continue
        start = starts.get(entry.target, starts.get(entry.target.partition("#")[0]))
        if start is None:
            waiting = [other for other in waiting if other.depth < entry.depth] + ([] if entry.target else [entry])
            continue
        near = range(start, min(start + 4, len(pieces)))
        index = next((near_by for near_by in near if _names(entry.label, pieces[near_by])), start)
        for added in (*(other for other in waiting if other.depth < entry.depth), entry):
            located.setdefault(index, {}).setdefault(tuple(_words(added.label)), added)
        waiting = []
    return {index: list(entries.values()) for index, entries in located.items()}


def _find_headings(pieces: Sequence[Piece], located: Mapping[int, Sequence[_Entry]], title: str) -> list[_Heading]:
    """Returns the headings of a book: the lines of its contents, and below them the headings that are not there."""
    headings: list[_Heading] = []
    depth = tag = 0  # of the last heading that is in the contents
    label = ""
    for index, piece in enumerate(pieces):
        entries = located.get(index, ())
        for entry in entries:
            is_this = entry is entries[-1] and (piece.depth > 0 or _names(entry.label, piece))
            is_all = _words(piece.text) == _words(entry.label) or not _within(piece.text, entry.label)
            text = piece.text if is_this and is_all else entry.label
            headings.append(_Heading(index, int(is_this), text, entry.depth))
            depth, tag, label = entry.depth, piece.depth, entry.label
        if entries:
            continue
        last = headings[-1] if headings else _Heading(0, 0, "", 0)
        follows = last.num_pieces > 0 and last.index + last.num_pieces == index
        is_rest = _within(piece.text, label) and (piece.depth or not _SENTENCE_END.search(piece.text))
        if follows and last.depth == depth and is_rest:  # "Chapter I", then "The Boy"
            text = last.text if _within(piece.text, last.text) else f"{last.text}. {piece.text}"
            headings[-1] = _Heading(last.index, last.num_pieces + 1, text, depth)
        elif piece.depth:
            below = depth + max(1, piece.depth - tag if tag else 1) if depth else piece.depth
            is_title = _words(piece.text) == _words(title)
            headings.append(_Heading(index, 1, "" if is_title else piece.text, below))
    return headings


def _blocks(pieces: Sequence[Piece], headings: Sequence[_Heading], page_starts: Sequence[int]) -> Iterator[Block]:
    """Yields headings with levels and the text between them."""
    yield from (Block(piece.text) for piece in pieces[: headings[0].index if headings else None])
    outermost = [heading.depth for heading in headings if heading.text]
    top = min(outermost, default=0)
    has_root = outermost.count(top) == 1
    above: list[tuple[int, int]] = []  # depth and level of the headings that this one is under
    for number, heading in enumerate(headings):
        following = headings[number + 1] if number + 1 < len(headings) else _Heading(len(pieces), 0, "", 0)
        text = pieces[heading.index + heading.num_pieces : following.index]
        while above and above[-1][0] >= heading.depth:
            above.pop()
        parent = above[-1][1] if above else BOOK
        next_page = bisect_right(page_starts, heading.index)
        turns_page = next_page < len(page_starts) and page_starts[next_page] <= following.index
        is_part = following.depth > heading.depth and (
            _PART.match(heading.text)
            or (turns_page and sum(len(piece.text) for piece in text) < _EPIGRAPH)
            or (has_root and heading.depth == top)
        )
        level = PART if is_part and parent >= PART else CHAPTER if parent >= PART else SCENE
        if heading.text:
            above.append((heading.depth, level))
            yield Block(heading.text, level, "heading")
        yield from (Block(piece.text) for piece in text)


def _names(label: str, piece: Piece) -> bool:
    """Tells whether a line of the contents names this piece: a heading, or a line set as one, which is no sentence."""
    if piece.depth:
        return _within(piece.text, label) or _within(label, piece.text)
    if _SENTENCE_END.search(piece.text) or len(piece.text) > len(label) + 60:
        return False
    return _within(piece.text, label) or (" " in label and _within(label, piece.text))


def _within(part: str, whole: str) -> bool:
    """Tells whether a text begins or ends with another, in words."""
    words, all_words = _words(part), _words(whole)
    return bool(words) and words in (all_words[: len(words)], all_words[-len(words) :])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _resolve(base: str, href: str) -> str:
    """Returns the name of a file in the archive, with the anchor, for a link from the folder `base`."""
    file, mark, anchor = href.partition("#")
    return posixpath.normpath(posixpath.join(base, unquote(file))) + (mark and mark + unquote(anchor))


def _first_text(root: "Element", tag: str) -> str:
    return next(filter(None, map(_text, root.iter(f"{{*}}{tag}"))), "")


def _text(element: "Element") -> str:
    return " ".join("".join(element.itertext()).split())
