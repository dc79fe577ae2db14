"""The values of a record as they really come: JSON inside strings, structs filled with nulls, lists of bullets."""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from data.report import ReadReport

_FENCE = re.compile(r"^[ \t]*(```|~~~)[\s\S]*?(?:^[ \t]*\1[^\n]*$|\Z)", re.MULTILINE)
_ITEM = re.compile(r"\n(?=[ \t]*(?:[-–—*•]|\d{1,3}[.)]|#{1,6})[ \t])|(?<=[.!?…:])\n")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_MARK = re.compile(r"\A(?:[-*•]|#{1,6})\s+")
_WRAP = 120  # characters: where a line is longer, nobody wrapped the lines, and each is a paragraph
_BOLD = re.compile(r"(?<![\w*])\*\*(?=[^\s*])(.{1,500}?)(?<=[^\s*])\*\*(?![\w*])")  # a bound, or many openings cost n²
# Rough, for a plan's prose and for reasoning; what is split into rows goes through data/sentences.py.
SENTENCE_END = re.compile(
    r"(?<=[.!?…])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\b[A-ZА-ЯЁ]\.)[\"'»”)]*\s+(?=[\"'«“(\\$]*[A-ZА-ЯЁ0-9])"
)
_RULE = re.compile(r"[-*_]{3,}")


def is_absent(value: Any) -> bool:
    """Says whether a value is none: null, empty, or a struct with nothing but such in it, as Parquet fills them."""
    if isinstance(value, Mapping):
        return all(is_absent(inner) for inner in value.values())
    return value is None or (isinstance(value, str | list | tuple) and not value)


def load_value(value: Any) -> Any:
    """Returns a value, parsed if it is a string that holds a JSON list or object, as exports to Parquet often have."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):  # a text that happens to begin with a bracket
            return value
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)  # Arrow's map
    return value


def text_of(value: Any) -> str:
    """Returns a value as text: a string, a number, or paragraphs in a list; anything else is ""."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value).strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def first_text(record: Mapping[str, Any], fields: Iterable[str]) -> str:
    """Returns the text of the first of the fields that has one, or ""."""
    return next(filter(None, (text_of(record.get(field)) for field in fields)), "")


def bullets_of(value: Any) -> list[str]:
    """Returns the lines of a list, of a list of lists, of a text or of a mapping's values, without their marks."""
    value = load_value(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [line for part in value for line in bullets_of(part)]
    lines = (_MARK.sub("", line.strip()) for line in text_of(value).splitlines())
    return [" ".join(line.split()) for line in lines if line.strip()]


def lines_of(text: str, report: ReadReport) -> list[str]:
    """Returns the paragraphs and list items of a text as people and models write it in a chat, each on one line.

    Marks of lists, headings and stress go; blocks of code are left out and counted. Lines that were wrapped are joined.
    """
    text, num_blocks = _FENCE.subn("\n\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    report.count("blocks of code left out", num_blocks)
    pieces = (piece for paragraph in _BLANK_LINE.split(text) for piece in _unwrap(paragraph))
    plain = (_BOLD.sub(r"\1", _MARK.sub("", piece.strip())) for piece in pieces)
    return [" ".join(line.split()) for line in plain if line.strip() and not _RULE.fullmatch(line)]


def _unwrap(paragraph: str) -> list[str]:
    lines = paragraph.split("\n")
    return lines if any(len(line) > _WRAP for line in lines) else _ITEM.split(paragraph)


def sentences_of(text: str) -> list[str]:
    """Returns the sentences of a text that is part of a plan."""
    borders = [0, *(found.end() for found in SENTENCE_END.finditer(text)), len(text)]
    return [text[start:stop].strip() for start, stop in pairwise(borders) if start < stop]


def note_unused(fields: Iterable[str], used: Iterable[str], report: ReadReport) -> None:
    """Notes the fields that are not used, each once."""
    for field in sorted(set(fields) - set(used)):
        report.note(f'the field "{field}" is not used')


def count_first(what: str, where: str, report: ReadReport) -> None:
    """Counts something that was left out, and notes where the first one is."""
    if not report.counts[what]:
        report.note(f"{where} is the first of the {what}")
    report.count(what)


def first_lines(error: Exception) -> str:
    """Returns the first two lines of what a library's error says, or the name of its class; advice follows below."""
    return " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
