"""Outlines in Markdown: headings and nested bullets are points, the paragraphs under them their descriptions.

A length stands at the end of a point's line: `(4 sentences)`, `(120 words)`, `[4]`, `[120 words]`. The first heading is
the title if no other heading stands as high. Front matter between `---` lines may hold `title:`. HTML comments are left
out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from lcm.outline import MAX_DEPTH, Outline, Point, check_length

_COMMENT: Final = re.compile(r"(?<!\\)<!--.*?-->", re.DOTALL)
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_TITLE: Final = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_HEADING: Final = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_BULLET: Final = re.compile(r"^([ \t]*)(?:[-*+]|[0-9]{1,9}[.)])(?:[ \t]+(?:\[[ xX]\][ \t]+)?(.*))?$")
_UNDERLINE: Final = re.compile(r"^ {0,3}(=+|-{2,})[ \t]*$")
_RULE: Final = re.compile(r"^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$")
_LENGTH: Final = re.compile(
    r"(?:^|[ \t]+)(?:\((\d{1,7}) (sentences?|words?)\)|\[(\d{1,7})(?: (sentences?|words?))?\])$"
)
_BOLD: Final = re.compile(r"(?<!\\)(\*\*|__)(?=\S)(.+?)(?<=\S)(?<!\\)\1")
_ESCAPE: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_STRUCTURE: Final = re.compile(r"^(?:[-+#=>~|[]|[0-9]+[.)])")  # what would make a line more than text


@dataclass
class _Draft:
    """A point while its lines are still coming in.

    `rank` is 0 for the root, 1 to 6 for a heading, 7 for a bullet; `indent` counts the columns before a bullet.
    """

    line: int
    rank: int
    indent: int = 0
    lines: list[str] = field(default_factory=list)
    paragraphs: list[list[str]] = field(default_factory=list)
    children: list[_Draft] = field(default_factory=list)


def parse_markdown(text: str, default_title: str) -> Outline:
    """Read an outline from Markdown.

    Raises:
        ValueError: no points, a point without text, a wrong length or too deep a tree; one sentence with the line.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    title = None
    front = _FRONT_MATTER.match(text)
    if front:
        named = _TITLE.search(front[1])
        title = named[1].strip("\"'") if named else None
        text = "\n" * front[0].count("\n") + text[front.end() :]  # line numbers in errors stay true
    text = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text)
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), start=1):
        reader.feed(number, line)
    root = reader.root
    if title is None and len(root.children) == 1 and root.children[0].rank < 7:
        heading = root.children[0]
        heading.paragraphs = root.paragraphs + heading.paragraphs
        title, num_sentences, num_words = _text_and_length(heading)
        root = heading
    else:
        title, num_sentences, num_words = title or default_title, None, None
    children = tuple(_point(child) for child in root.children)
    return Outline(title, children, _description(root), num_sentences, num_words)


class _Reader:
    """Takes lines one by one and hangs each heading, bullet and paragraph where it belongs."""

    def __init__(self) -> None:
        self.root = _Draft(line=0, rank=0)
        self.path = [self.root]  # from the root to the newest point
        self.open: list[str] | None = None  # lines of the paragraph, heading or bullet that the next line may continue

    def feed(self, number: int, line: str) -> None:
        line = line.expandtabs(4).rstrip()
        heading, bullet, underline = _HEADING.match(line), _BULLET.match(line), _UNDERLINE.match(line)
        if not line or self._underlined(number, underline) or _RULE.match(line):
            self.open = None
        elif heading:
            self._add(_Draft(number, len(heading[1]), lines=[heading[2] or ""]))
            self.open = None
        elif bullet:
            self._add(_Draft(number, 7, len(bullet[1]), [bullet[2] or ""]))
            self.open = self.path[-1].lines
        elif self.open is not None:
            self.open.append(line.strip())
        else:
            self._paragraph(line)

    def _add(self, draft: _Draft) -> None:
        if draft.rank < 7:
            while self.path[-1].rank >= draft.rank:
                self.path.pop()
        else:  # a child stands at least two columns further in
            while self.path[-1].rank == 7 and draft.indent < self.path[-1].indent + 2:
                self.path.pop()
        if len(self.path) > MAX_DEPTH:
            raise ValueError(f"line {draft.line} is nested more than {MAX_DEPTH} deep; flatten the outline")
        self.path[-1].children.append(draft)
        self.path.append(draft)

    def _paragraph(self, line: str) -> None:
        """Start a paragraph: under a bullet if it stands further in than that, else under the heading above."""
        indent = len(line) - len(line.lstrip())
        while self.path[-1].rank == 7 and indent < self.path[-1].indent + 2:
            self.path.pop()
        self.open = [line.strip().removeprefix("> ")]
        self.path[-1].paragraphs.append(self.open)

    def _underlined(self, number: int, underline: re.Match[str] | None) -> bool:
        """Turn the open paragraph into a heading, if the line above is one (a bullet or a blank line is not)."""
        last = self.path[-1]
        if (
            underline is None
            or self.open is None
            or last.rank == 7
            or not last.paragraphs
            or last.paragraphs[-1] is not self.open
        ):
            return False
        rank = 1 if "=" in underline[1] else 2
        self._add(_Draft(number - 1, rank, lines=last.paragraphs.pop()))
        return True


def _point(draft: _Draft) -> Point:
    text, num_sentences, num_words = _text_and_length(draft)
    children = tuple(_point(child) for child in draft.children)
    return Point(text, _description(draft), num_sentences, num_words, children)


def _text_and_length(draft: _Draft) -> tuple[str, int | None, int | None]:
    """The plain text of a heading or bullet and its length in sentences or in words."""
    text = " ".join(" ".join(draft.lines).split())
    found = _LENGTH.search(text)
    count = int(found[1] or found[3]) if found else None
    in_words = found is not None and "word" in (found[2] or found[4] or "")
    text = _plain(text[: found.start()] if found else text)
    if not text:
        raise ValueError(f"the point on line {draft.line} has no text; write what it is about")
    num_sentences, num_words = (None, count) if in_words else (count, None)
    check_length(num_sentences, num_words, f"line {draft.line}: {text!r}")
    return text, num_sentences, num_words


def _description(draft: _Draft) -> str:
    return "\n\n".join(_plain(" ".join(" ".join(lines).split())) for lines in draft.paragraphs)


def _plain(text: str) -> str:
    """Text without the marks of Markdown that would only disturb an encoder: bold, and backslashes that escape."""
    return _ESCAPE.sub(r"\1", _BOLD.sub(r"\2", text)).strip()


def format_markdown(outline: Outline) -> str:
    """Markdown of an outline: headings while a layer has inner points and Markdown has headings, bullets below."""
    title = _escape(outline.title) + _format_length(outline.num_sentences, outline.num_words)
    blocks = [f"# {title}", *_format_description(outline.description, ""), *_format_points(outline.children, 2, 0)]
    return "\n\n".join(blocks) + "\n"


def _format_points(points: tuple[Point, ...], rank: int, indent: int) -> list[str]:
    """Blocks of a layer; below a bullet, or where no point has children, all are bullets."""
    as_headings = indent == 0 and rank <= 6 and any(point.children for point in points)
    blocks: list[str] = []
    for point in points:
        text = _escape(point.text) + _format_length(point.num_sentences, point.num_words)
        if as_headings:
            blocks += [f"{'#' * rank} {text}", *_format_description(point.description, "")]
            blocks += _format_points(point.children, rank + 1, 0)
        else:
            pad = " " * indent
            blocks += [f"{pad}- {text}", *_format_description(point.description, pad + "  ")]
            blocks += _format_points(point.children, 7, indent + 2)
    return blocks if as_headings else _tighten(blocks)


def _tighten(blocks: list[str]) -> list[str]:
    """Put bullets that follow each other without a description on lines without a gap."""
    tight: list[str] = []
    for block in blocks:
        follows = tight and block.lstrip().startswith("- ") and tight[-1].rsplit("\n", 1)[-1].lstrip().startswith("- ")
        if follows:
            tight[-1] += "\n" + block
        else:
            tight.append(block)
    return tight


def _format_length(num_sentences: int | None, num_words: int | None) -> str:
    for count, unit in ((num_sentences, "sentence"), (num_words, "word")):
        if count is not None:
            return f" ({count} {unit}{'s' if count > 1 else ''})"
    return ""


def _format_description(description: str, pad: str) -> list[str]:
    return [pad + _escape(" ".join(part.split())) for part in description.split("\n\n") if part.strip()]


def _escape(text: str) -> str:
    """Plain text as Markdown: nothing in it is read as bold, comment, structure or length."""
    text = " ".join(text.split())
    places = {match.start() for match in re.finditer(r"[\\*_<]", text)}
    if _STRUCTURE.match(text):
        places.add(len(text) - len(text.lstrip("0123456789")))
    if text.endswith("#") or _LENGTH.search(text):
        places.add(len(text) - 1)
    return "".join(f"\\{letter}" if place in places else letter for place, letter in enumerate(text))
