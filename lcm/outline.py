"""An outline: a title and a tree of points, read from Markdown or YAML, with lengths in sentences or words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

MAX_BYTES = 2**20
MAX_DEPTH = 32  # layers of points; no author needs more, and what walks the tree may recurse
WORDS_PER_SENTENCE = 20.0  # plain English prose: Austen 21, Grimm 23, Moby-Dick 24 words a sentence
TITLE_LEVEL = 4  # the store's level of a book
POINT_LEVELS = (3, 2, 1)  # the store's levels of a part, a chapter and a scene, from the outside in


@dataclass(frozen=True)
class Point:
    """One point of an outline: what is to be said, and what lies below it.

    Args:
        text: the heading or bullet, one line, without its length.
        description: plain paragraphs under the point, parted by a blank line; empty if there are none.
        num_sentences: length asked for, of the point with all that lies below it.
        num_words: the same length in words; a point has one of the two or none.
        children: points below this one.
    """

    text: str
    description: str = ""
    num_sentences: int | None = None
    num_words: int | None = None
    children: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a point of the outline has no text; write what it is about")
        check_length(self.num_sentences, self.num_words, f"point {self.text!r}")

    def length(self, words_per_sentence: float = WORDS_PER_SENTENCE) -> int | None:
        """Sentences asked for: as given, or the words divided by `words_per_sentence`, at least 1; None if open."""
        return _sentences(self.num_sentences, self.num_words, words_per_sentence)


@dataclass(frozen=True)
class PlacedPoint:
    """A point with its place in the tree, as `Outline.points` lists it.

    Args:
        text: the heading or bullet.
        description: plain text under it.
        depth: 0 for the points right below the title.
        level: the store's level of its heading row, 1 scene to 4 book.
        num_sentences: sentences asked for, words already turned into sentences; None if the author left it open.
        is_leaf: whether nothing lies below it, so that sentences are written for it.
        parent: index of the point above it in the same list; None below the title.
    """

    text: str
    description: str
    depth: int
    level: int
    num_sentences: int | None
    is_leaf: bool
    parent: int | None


@dataclass(frozen=True)
class Outline:
    """A title and the points below it.

    Args:
        title: one line.
        children: the points right below the title; at least one.
        description: plain text between the title and the first point.
        num_sentences: length of the whole text, if the author gave one at the title.
        num_words: the same in words.
    """

    title: str
    children: tuple[Point, ...]
    description: str = ""
    num_sentences: int | None = None
    num_words: int | None = None

    def __post_init__(self) -> None:
        if not self.children:
            raise ValueError("the outline has no points; add bullets or headings below its title")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"the outline has {self.depth} layers of points, at most {MAX_DEPTH} are read; flatten it")
        check_length(self.num_sentences, self.num_words, f"title {self.title!r}")

    @property
    def depth(self) -> int:
        """Number of layers of points, 1 for a flat list."""
        return 1 + max(depth for depth, _, _ in self._walk())

    def points(
        self, *, levels: Sequence[int] = POINT_LEVELS, words_per_sentence: float = WORDS_PER_SENTENCE
    ) -> list[PlacedPoint]:
        """All points, depth first: the order in which they are written.

        A tree of k layers takes the k innermost `levels`, outside in, so that its points look like the headings of a
        real document: a flat list is scenes, two layers are chapters and scenes. Layers deeper than `levels` are long
        keep the innermost one.

        Args:
            levels: store levels that a heading below the title may have, outermost first; give those which the
                training corpus has, (2, 1) for plays of acts and scenes, (2,) for novels of chapters.
            words_per_sentence: turns a length in words into sentences.
        """
        used = tuple(levels)[-self.depth :]
        placed: list[PlacedPoint] = []
        for depth, parent, point in self._walk():
            level, length = used[min(depth, len(used) - 1)], point.length(words_per_sentence)
            leaf = not point.children
            placed.append(PlacedPoint(point.text, point.description, depth, level, length, leaf, parent))
        return placed

    def sentence_counts(self, default: int = 6, *, words_per_sentence: float = WORDS_PER_SENTENCE) -> list[int]:
        """Number of sentences to write at each point of `points()`: leaves get theirs, inner points 0.

        The length of an inner point (or of the title) is that of all below it: what its points do not claim
        themselves is shared out evenly among the open leaves. Open leaves without such a point above get `default`.

        Raises:
            ValueError: the length of an inner point and the lengths below it contradict each other.
        """
        total = _sentences(self.num_sentences, self.num_words, words_per_sentence)
        return _share_out(self.title, self.children, total, default, words_per_sentence)

    def to_markdown(self) -> str:
        """The outline as Markdown that `read_outline` reads back to an equal outline."""
        from lcm.outline_markdown import format_markdown

        return format_markdown(self)

    def _walk(self) -> Iterator[tuple[int, int | None, Point]]:
        """Yield (depth, index of the parent, point), depth first; needs no recursion however deep the tree is."""
        stack: list[tuple[int, int | None, Point]] = [(0, None, point) for point in reversed(self.children)]
        index = 0
        while stack:
            depth, parent, point = stack.pop()
            yield depth, parent, point
            stack.extend((depth + 1, index, child) for child in reversed(point.children))
            index += 1


def read_outline(path: Path | str) -> Outline:
    """Read an outline from a Markdown (.md, .markdown, .txt) or YAML (.yaml, .yml) file.

    Without a title in it, the outline takes the name of the file, `-` and `_` read as spaces.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: empty, too large, not UTF-8, no points, or not an outline; one sentence with the line.
    """
    from lcm.outline_markdown import parse_markdown
    from lcm.outline_yaml import parse_yaml

    path = Path(path)
    parsers = dict.fromkeys((".md", ".markdown", ".txt"), parse_markdown) | dict.fromkeys((".yaml", ".yml"), parse_yaml)
    if not path.is_file():
        raise FileNotFoundError(f"no outline at {path}; write one in Markdown (.md) or YAML (.yaml)")
    if path.suffix.lower() not in parsers:
        raise ValueError(f"{path}: {path.suffix or 'no suffix'} is no outline; name it .md, .txt, .yaml or .yml")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, an outline at most {MAX_BYTES}; is it the whole text?"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise ValueError("the outline is empty; write a title and points below it")
        return parsers[path.suffix.lower()](text, default_title=_title_of(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_length(num_sentences: int | None, num_words: int | None, owner: str) -> None:
    """Raise ValueError unless at most one of the two lengths is given, and that one is positive."""
    if num_sentences is not None and num_words is not None:
        raise ValueError(f"{owner} has a length in sentences and one in words; keep one of them")
    for value, unit in ((num_sentences, "sentences"), (num_words, "words")):
        if value is not None and value < 1:
            raise ValueError(f"{owner} asks for {value} {unit}; ask for at least 1")


def _title_of(path: Path) -> str:
    return " ".join(path.stem.replace("-", " ").replace("_", " ").split()) or path.stem


def _sentences(num_sentences: int | None, num_words: int | None, words_per_sentence: float) -> int | None:
    if num_words is None:
        return num_sentences
    return max(1, round(num_words / words_per_sentence))


def _share_out(
    owner: str, points: Sequence[Point], total: int | None, default: int, words_per_sentence: float
) -> list[int]:
    """Sentence counts of `points` and all below them, depth first, which sum to `total` if that is given."""
    claims = [_claim(point, words_per_sentence) for point in points]
    claimed, num_open = sum(least for least, _ in claims), sum(free for _, free in claims)
    if total is not None and (total < claimed + num_open or (num_open == 0 and total != claimed)):
        needs = f"at least {claimed + num_open}" if num_open else str(claimed)
        raise ValueError(f"{owner!r} asks for {total} sentences, the points below it for {needs}; make them agree")
    shares = _even(0 if total is None else total - claimed, [free for _, free in claims])
    counts: list[int] = []
    for point, (least, _), share in zip(points, claims, shares, strict=True):
        length = point.length(words_per_sentence)
        if length is None and total is not None:
            length = least + share
        if point.children:
            counts += [0, *_share_out(point.text, point.children, length, default, words_per_sentence)]
        else:
            counts.append(default if length is None else length)
    return counts


def _even(amount: int, weights: Sequence[int]) -> list[int]:
    """Shares of `amount` in proportion to `weights`: whole numbers that sum to it."""
    marks = [0, *accumulate(weights)]
    return [
        marks[i + 1] * amount // max(marks[-1], 1) - marks[i] * amount // max(marks[-1], 1) for i in range(len(weights))
    ]


def _claim(point: Point, words_per_sentence: float) -> tuple[int, int]:
    """Sentences that a point fixes itself, and how many leaves below it (or it) are still open."""
    length = point.length(words_per_sentence)
    if length is not None:
        return length, 0
    if not point.children:
        return 0, 1
    claims = [_claim(child, words_per_sentence) for child in point.children]
    return sum(least for least, _ in claims), sum(free for _, free in claims)
