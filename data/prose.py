"""Plain text to blocks: paragraphs, and the lines that head a chapter."""

import re

from data.document import CHAPTER, PART, SCENE, Block
from data.report import ReadReport

_NUMBER = r"(?:[ivxlcdm]+|\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|the \w+)"
_NUMBERED = re.compile(
    rf"(chapter|letter|canto|act|scene|part|book|volume) {_NUMBER}(?:[.:,—–-].{{0,80}}|)", re.IGNORECASE
)
_NAMED = re.compile(r"(?:prologue|epilogue|preface|introduction|foreword|afterword|conclusion)\.?", re.IGNORECASE)
_HEADING_LEVELS = {"part": PART, "book": PART, "volume": PART, "scene": SCENE}
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_BOILERPLATE = re.compile(
    r"\A[\s\S]*?\*\*\* ?START OF TH[^\n]*\*\*\*|\*\*\* ?END OF TH[^\n]*\*\*\*[\s\S]*\Z", re.IGNORECASE
)
_WRAP = 120  # characters: a file without blank lines whose lines are all shorter is one that an editor wrapped


def decode(content: bytes, name: str, report: ReadReport) -> str:
    """Returns the bytes as text: UTF-8, a mark of byte order dropped; bytes that are none are replaced and counted."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", "replace")
        report.count(f"characters of {name} are not UTF-8 and were replaced", text.count("\ufffd"))
        return text


def read_prose(text: str, report: ReadReport) -> list[Block]:
    """Returns the blocks of a plain text: paragraphs between blank lines, with lines like "CHAPTER IV" as headings.

    Project Gutenberg's licence around a text goes. In a text without blank lines each line is a paragraph, unless all
    its lines are short: then it is one paragraph that was wrapped.
    """
    text, num_cut = _BOILERPLATE.subn("", text.replace("\r\n", "\n").replace("\r", "\n"))
    report.count("passages of Project Gutenberg's licence left out", num_cut)
    paragraphs = _BLANK_LINE.split(text)
    if len(paragraphs) == 1 and any(len(line) > _WRAP for line in text.split("\n")):
        paragraphs = text.split("\n")
    blocks = []
    for paragraph in paragraphs:
        line = " ".join(paragraph.split())
        if not line:
            continue
        numbered = _NUMBERED.fullmatch(line)
        if numbered or _NAMED.fullmatch(line):
            kind = numbered[1].lower() if numbered else ""
            blocks.append(Block(line, _HEADING_LEVELS.get(kind, CHAPTER), "heading"))
        else:
            blocks.append(Block(line))
    return blocks
