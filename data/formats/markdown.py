"""Markdown to blocks, by the parser that rich brings along."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.document import BOOK, CHAPTER, PART, SCENE, Block
from data.report import ReadReport

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---\n[\s\S]*?\n---\n")
_TREES = {1: (CHAPTER,), 2: (CHAPTER, SCENE), 3: (PART, CHAPTER, SCENE), 4: (BOOK, PART, CHAPTER, SCENE)}
_TITLED_TREES = {1: (BOOK,), 2: (BOOK, CHAPTER), 3: (BOOK, CHAPTER, SCENE), 4: (BOOK, PART, CHAPTER, SCENE)}


def read_markdown(text: str, report: ReadReport) -> list[Block]:
    """Returns the blocks of a Markdown text: its headings with levels, paragraphs and list items without markup.

    A single heading above all others is the title, level 4; below it, and where there is none, the depths in use become
    part, chapter and scene. Code, tables and HTML are left out and counted.
    """
    from markdown_it import MarkdownIt

    text = _FRONT_MATTER.sub("", text.replace("\r\n", "\n"))
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    levels = level_depths([int(token.tag[1:]) for token in tokens if token.type == "heading_open"])
    blocks = []
    table_depth = 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        table_depth += {"table_open": 1, "table_close": -1}.get(token.type, 0)
        if token.type in ("fence", "code_block", "html_block", "table_open"):
            report.count("blocks of code, tables and HTML left out")
        if token.type != "inline" or table_depth:
            continue
        plain = " ".join(_plain_text(token.children or ()).split())
        if plain and before is not None and before.type == "heading_open":
            blocks.append(Block(plain, levels[int(before.tag[1:])], "heading"))
        elif plain:
            blocks.append(Block(plain))
    return blocks


def level_depths(depths: Sequence[int]) -> dict[int, int]:
    """Returns the level that each depth of heading (1 to 6) stands for in this text."""
    used = sorted(set(depths))
    has_title = bool(used) and depths[0] == used[0] and depths.count(used[0]) == 1
    levels = (_TITLED_TREES if has_title else _TREES)[min(max(len(used), 1), 4)]
    return {depth: levels[min(rank, len(levels) - 1)] for rank, depth in enumerate(used)}


def _plain_text(tokens: Sequence["Token"]) -> str:
    """Returns what a reader would see of a line: no marks of emphasis, links by their words, images not at all."""
    breaks = ("softbreak", "hardbreak")
    return "".join(
        " " if token.type in breaks else token.content
        for token in tokens
        if token.type in ("text", "code_inline", *breaks)
    )
