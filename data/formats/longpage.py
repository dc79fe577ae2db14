"""LongPage's books with their plans to blocks: book, arcs, then chapter by chapter, scene by scene, plan before text.

The record is one book (`Pageshift-Entertainment/LongPage`); the same fields are read from other writers' shapes: lists
for mappings, strings for lists, JSON inside strings, structs of Parquet that hold a null for every other book's
chapters, and the names of the first sketch (`full_text`, `reasoning_traces`, `metadata`, `summary_hierarchy`).

| field | level, role | field | level, role |
|---|---|---|---|
| use_prompt | 4, question | story_arcs | 3, heading and summary |
| book_title | 4, heading | chapter_name, chapter_summary | 2, heading and summary |
| book_highlight | 4, summary | scene_name, scene_summary_short | 1, heading and summary |
| world_rules | 4, world | chapter | 0, sentence |
| book_archetype, book_tags, writing_style | 4, style | reasoning_traces as a text | 4, think |
| character_archetypes, book_characters | 4, character | | |
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from data.document import BOOK, CHAPTER, PART, SCENE, Block
from data.formats.values import (
    bullets_of,
    first_text,
    is_absent,
    lines_of,
    load_value,
    note_unused,
    sentences_of,
    text_of,
)
from data.prose import read_prose
from data.report import ReadReport

LICENCE = "CC-BY-4.0 traces, public-domain text"
LANGUAGE = "english"
_PROMPT = ("use_prompt", "user_prompt", "prompt")
_TITLE = ("book_title", "title")
_ALIASES = {
    "highlight": "book_highlight",
    "tags": "book_tags",
    "archetype": "book_archetype",
    "style": "writing_style",
    "arcs": "story_arcs",
    "characters": "book_characters",
}
_CHARACTERS = ("character_archetypes", "book_characters")
_SUMMARIES = ("chapter_summary", "scene_summary_short")  # at the top only in a `summary_hierarchy`
_WRAPPERS = ("metadata", "summary_hierarchy", "reasoning_traces")
_PLAN = ("book_highlight", "book_tags", "book_archetype", "world_rules", "writing_style", "story_arcs", *_CHARACTERS)
FIELDS = frozenset({*_PROMPT, *_TITLE, *_PLAN, *_WRAPPERS, *_ALIASES, "book_chapters", "full_text"})
_CHAPTER_NAME = ("chapter_name", "name", "title", "chapter_title")
_CHAPTER_TEXT = ("chapter", "text", "content", "chapter_text")
_SCENE_NAME = ("scene_name", "name", "title")
_GROUPS = ("main_characters", "side_characters")
_NAME = ("name", "character_name", "arc_name", "title")


def is_book(fields: set[str]) -> bool:
    """Says whether a record with these fields is a book of LongPage."""
    return "book_chapters" in fields or ("full_text" in fields and bool(fields & {*_PLAN, *_PROMPT, *_WRAPPERS}))


def read_book(record: Mapping[str, Any], report: ReadReport) -> list[Block]:
    """Returns the blocks of a book, interleaved depth first: each text stands behind the plan of its scene."""
    book = _unify(record, report)
    blocks = [*_read_plan(book, report), *_read_arcs(book)]
    if chapters := book.get("book_chapters"):
        for name, chapter in _entries(chapters, _CHAPTER_NAME, report):
            blocks += _read_chapter(name, chapter, report)
    else:
        summaries = zip((CHAPTER, SCENE), _SUMMARIES, strict=True)
        blocks += [Block(line, level, "summary") for level, key in summaries for line in bullets_of(book.get(key))]
        blocks += read_prose(text_of(book.get("full_text")), report)
    if all(block.level for block in blocks):
        report.count("books without a text, of which only the plan was read")
    return blocks


def split_scenes(paragraphs: Sequence[str], word_counts: Sequence[Any]) -> list[list[str]]:
    """Returns the paragraphs of each scene: a scene ends at the paragraph's end nearest to its share of the words.

    A record has no offsets of its scenes, only how many words each is said to have. This is the prior alignment, by
    cumulative count scaled to the chapter's real length; to refine it by concepts is later work.

    Args:
        paragraphs: of the chapter.
        word_counts: one a scene; a missing one counts as the mean of the others.
    """
    ends = list(accumulate((len(paragraph.split()) for paragraph in paragraphs), initial=0))
    shares = list(accumulate(_fill(word_counts)))
    borders = [0, *(_nearest(ends, ends[-1] * share / shares[-1]) for share in shares[:-1]), len(paragraphs)]
    return [list(paragraphs[start:stop]) for start, stop in pairwise(borders)]


def _nearest(ends: Sequence[int], goal: float) -> int:
    index = min(bisect_left(ends, goal), len(ends) - 1)
    return index - (index > 0 and goal - ends[index - 1] <= ends[index] - goal)


def _fill(word_counts: Sequence[Any]) -> list[float]:
    """Returns the counts as numbers; a missing one is the mean of the others."""
    counts = [_count(value) for value in word_counts]
    known = [count for count in counts if count]
    mean = sum(known) / len(known) if known else 1.0
    return [count or mean for count in counts]


def _count(value: Any) -> float:
    """Returns a number of words, of "~1,200" too; 0 if it is none."""
    if isinstance(value, str):
        found = re.search(r"\d[\d,]{0,9}", value)
        value = int(found[0].replace(",", "")) if found else 0
    is_number = isinstance(value, int | float) and value == value  # not NaN
    return float(min(max(value, 0), 10**9)) if is_number else 0.0


def _unify(record: Mapping[str, Any], report: ReadReport) -> dict[str, Any]:
    """Returns the fields that are there by their real names, those inside `metadata` or the like beside them."""
    book = {key: load_value(value) for key, value in record.items()}
    for wrapper in _WRAPPERS:
        inside = book.get(wrapper)
        if isinstance(inside, Mapping):
            del book[wrapper]
            note_unused((key for key in inside if not is_absent(inside[key])), FIELDS.union(_SUMMARIES), report)
            book = {**{key: load_value(value) for key, value in inside.items()}, **book}
    for alias, name in _ALIASES.items():
        book.setdefault(name, book.pop(alias, None))
    return {key: value for key, value in book.items() if not is_absent(value)}


def _read_plan(book: Mapping[str, Any], report: ReadReport) -> Iterator[Block]:
    """Yields what is said of the book as a whole."""
    yield from (Block(line, BOOK, "question") for line in lines_of(first_text(book, _PROMPT), report))
    if title := first_text(book, _TITLE):
        yield Block(" ".join(title.split()), BOOK, "heading")
    for key, role in (("book_highlight", "summary"), ("book_archetype", "style")):  # prose
        for line in bullets_of(book.get(key)):
            yield from (Block(sentence, BOOK, role) for sentence in sentences_of(line))
    if tags := bullets_of(book.get("book_tags")):
        yield Block(", ".join(tags), BOOK, "style")
    for key, role in (("world_rules", "world"), ("writing_style", "style")):
        yield from (Block(line, BOOK, role) for line in bullets_of(book.get(key)))
    for key in _CHARACTERS:
        yield from (Block(line, BOOK, "character") for line in _named_bullets(book.get(key)))
    yield from (Block(line, BOOK, "think") for line in lines_of(text_of(book.get("reasoning_traces")), report))


def _named_bullets(value: Any) -> Iterator[str]:
    """Yields a line for each thing said of a character, the name before it: a row has to stand alone."""
    value = load_value(value)
    if isinstance(value, list):
        for part in value:
            yield from _named_bullets(part)
    elif isinstance(value, Mapping) and (name := first_text(value, _NAME)):
        lines = bullets_of([said for key, said in value.items() if key not in _NAME])
        yield from (f"{name}: {line}" for line in lines) if lines else (name,)
    elif isinstance(value, Mapping):
        for name, said in value.items():
            yield from _named_bullets(said) if name in _GROUPS else (f"{name}: {line}" for line in bullets_of(said))
    else:
        yield from bullets_of(value)


def _read_arcs(book: Mapping[str, Any]) -> Iterator[Block]:
    arcs = load_value(book.get("story_arcs"))
    if isinstance(arcs, Mapping) and not first_text(arcs, _NAME):
        arcs = [{"arc_name": name, "arc_summary": said} for name, said in arcs.items()]
    for arc in arcs if isinstance(arcs, list) else [arcs]:
        arc = load_value(arc)
        if isinstance(arc, Mapping):
            if name := first_text(arc, _NAME):
                yield Block(name, PART, "heading")
            arc = [said for key, said in arc.items() if key not in _NAME]
        yield from (Block(line, PART, "summary") for line in bullets_of(arc))


def _entries(value: Any, names: Sequence[str], report: ReadReport) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the chapters or scenes by name, from a mapping of names or from a list; a bare string is a text."""
    value = load_value(value)
    if isinstance(value, Mapping) and not (value.keys() & {*names, *_CHAPTER_TEXT, "scene_summary_short"}):
        if any(is_absent(inner) for inner in value.values()):
            report.note("chapters that are fields of a Parquet struct stand in the order of its fields")
        entries = [(str(name), load_value(inner)) for name, inner in value.items() if not is_absent(inner)]
    else:
        entries = [("", load_value(inner)) for inner in (value if isinstance(value, list) else [value])]
    for name, inner in entries:
        if isinstance(inner, Mapping):
            yield name or first_text(inner, names), inner
        else:
            yield name, {"chapter": inner}


def _read_chapter(name: str, chapter: Mapping[str, Any], report: ReadReport) -> Iterator[Block]:
    scenes = (
        []
        if is_absent(chapter.get("scene_breakdown"))
        else list(_entries(chapter["scene_breakdown"], _SCENE_NAME, report))
    )
    note_unused(chapter, (*_CHAPTER_NAME, *_CHAPTER_TEXT, "chapter_summary", "scene_breakdown"), report)
    if name:
        yield Block(name, CHAPTER, "heading")
    yield from (Block(line, CHAPTER, "summary") for line in bullets_of(chapter.get("chapter_summary")))
    paragraphs = [block.text for block in read_prose(first_text(chapter, _CHAPTER_TEXT), report)]
    if paragraphs and _letters(paragraphs[0]) == _letters(name):
        report.count("headings that a chapter's text repeats left out")
        del paragraphs[0]
    if not scenes:
        yield from map(Block, paragraphs)
        return
    shares = split_scenes(paragraphs, [scene.get("word_count") for _, scene in scenes])
    for (scene_name, scene), share in zip(scenes, shares, strict=True):
        note_unused(scene, (*_SCENE_NAME, "chapter", "word_count", "scene_summary_short"), report)
        if scene_name:
            yield Block(scene_name, SCENE, "heading")
        summary = scene.get("scene_summary_short") or scene.get("chapter")
        yield from (Block(line, SCENE, "summary") for line in bullets_of(summary))
        yield from map(Block, share)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
