"""Plain text to blocks: paragraphs, and the lines that head a chapter."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from data.document import CHAPTER, SCENE, Block
from data.languages import LANGUAGE_RULES
from data.report import ReadReport

# A number in digits ("4", "1-я"), Roman ones, also of Cyrillic letters, or words. The words of all languages are one
# pattern: a text is read before its language is known.
_ROMAN = "[ivxlcdmіхсм]+"
_DIGITS = r"\d{1,3}(?:-?[а-яё]{1,2}|st|nd|rd|th|er|e|ª|º)?"
_WORDS = {word: level for rules in LANGUAGE_RULES.values() for word, level in rules.headings.items()}
_KIND = "|".join(sorted(_WORDS, key=len, reverse=True))
_IN_WORDS = "|".join(rules.numerals for rules in LANGUAGE_RULES.values() if rules.numerals)
_TITLE = r"(?:[.:,—–-].{0,80}|)"
_NUMBERED = re.compile(rf"({_KIND}) (?:{_ROMAN}|{_DIGITS}|{_IN_WORDS}){_TITLE}", re.IGNORECASE)
# "Erstes Kapitel", "Première partie"; English says "the last letter" in prose.
_FOREIGN = "|".join(word for name, rules in LANGUAGE_RULES.items() if name != "english" for word in rules.headings)
_NUMBER_FIRST = re.compile(rf"(?:{_DIGITS}\.?|{_IN_WORDS}) ({_FOREIGN})(?:[.:—–-].{{0,80}}|)", re.IGNORECASE)
_NAMED = re.compile(
    rf"(?:{'|'.join(sorted(word for rules in LANGUAGE_RULES.values() for word in rules.named_headings))})\.?",
    re.IGNORECASE,
)
_LONE_NUMERAL = re.compile(r"([IVXLC]{1,9})\.?")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_HEADING_LINES, _HEADING_CHARS = 3, 160  # a heading and its title on the next lines
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_GUTENBERG = re.compile(r"^[^\n]*\*\*\* ?(?:START|END) OF TH[^\n]*$", re.IGNORECASE | re.MULTILINE)  # a paragraph
_INDENTED = re.compile(r"(?:[ \u00a0]{2,}|\t|\u3000)\S")
_PARAGRAPH_END = re.compile(r"[.!?…:;»”\"')\]—-]\s*\Z")
_WRAP = 120  # characters: a file without blank lines whose lines are all shorter is one that an editor wrapped
_HYPHEN = re.compile(r"\b(\w{1,40}(?:-\w{1,40}){0,3})(-|\u00ad)[^\S\n]*\n[^\S\n]*(\w{1,40})")
_AT_LINE_END = re.compile(r"[-\u00ad][^\S\n]*\n")  # finds in no time that there is nothing to do
_HYPHENATED = re.compile(r"\w+(?:-\w+)+|\w+")


def decode(content: bytes, name: str, report: ReadReport) -> str:
    """Returns the bytes as text: UTF-8, a mark of byte order dropped; bytes that are none are replaced and counted."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", "replace")
        report.count(f"characters of {name} are not UTF-8 and were replaced", text.count("\ufffd"))
        return text


def read_prose(text: str, report: ReadReport) -> list[Block]:
    """Returns the blocks of a plain text: paragraphs, with lines like "CHAPTER IV" or "Глава первая" as headings.

    Paragraphs stand between blank lines, or begin with an indented line where the others are not. In a text without
    blank lines each line is a paragraph, unless all its lines are short: then it is one paragraph that was wrapped.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _GUTENBERG.sub(lambda line: f"\n\n{line[0]}\n\n", _join_hyphenated(text, report))
    paragraphs = _BLANK_LINE.split(text)
    if len(paragraphs) == 1 and any(len(line) > _WRAP for line in text.split("\n")):
        paragraphs = text.split("\n")
    elif _indents_paragraphs(text):
        paragraphs = [part for paragraph in paragraphs for part in _cut_at_indents(paragraph)]
    blocks = []
    for paragraph in paragraphs:
        line = " ".join(paragraph.split())
        if line:
            level = _heading_level(paragraph, line)
            blocks.append(Block(line) if level is None else Block(line, level, "heading"))
    return _mark_numerals(blocks)


def _heading_level(paragraph: str, line: str) -> int | None:
    """Returns the level of a paragraph that is a heading; its title may stand on the lines below the number."""
    if len(line) > _HEADING_CHARS:
        return None
    numbered = _NUMBERED.fullmatch(line) or _NUMBER_FIRST.fullmatch(line)
    if not numbered and _NAMED.fullmatch(line):
        return CHAPTER
    lines = paragraph.strip().split("\n")
    if not numbered and 1 < len(lines) <= _HEADING_LINES:
        first = " ".join(lines[0].split())
        numbered = _NUMBERED.fullmatch(first) or _NUMBER_FIRST.fullmatch(first)
    return _WORDS[numbered[1].lower()] if numbered else None


def _mark_numerals(blocks: list[Block]) -> list[Block]:
    """Makes headings of paragraphs that are one Roman numeral and count I, II, III: chapters, or parts of them.

    One that stands alone is left: it may be a page, or a word.
    """
    found = [(index, _LONE_NUMERAL.fullmatch(block.text)) for index, block in enumerate(blocks)]
    lone = [(index, _value(numeral[1])) for index, numeral in found if numeral]
    has_chapters = any(block.level == CHAPTER and not _NAMED.fullmatch(block.text) for block in blocks)
    level = SCENE if has_chapters else CHAPTER
    marked = list(blocks)
    for at, (index, value) in enumerate(lone):
        follows = at > 0 and value == lone[at - 1][1] + 1
        begins = value == 1 and at + 1 < len(lone) and lone[at + 1][1] == 2
        if follows or begins:
            marked[index] = Block(blocks[index].text, level, "heading")
    return marked


def _value(numeral: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    return sum(-value if value < max(values[at:]) else value for at, value in enumerate(values))


def _indents_paragraphs(text: str) -> bool:
    """Says whether an indented line begins a paragraph, as in files of Lib.ru: the line before ends one.

    Where the lines that go on are the indented ones, as in plays and lists, the line before breaks off.
    """
    lines = text.split("\n")
    before = [line for line, after in pairwise(lines) if line.strip() and _INDENTED.match(after)]
    return len(before) >= 3 and sum(map(bool, map(_PARAGRAPH_END.search, before))) >= 0.7 * len(before)


def _cut_at_indents(paragraph: str) -> Iterator[str]:
    lines: list[str] = []
    for line in paragraph.split("\n"):
        if lines and _INDENTED.match(line):
            yield "\n".join(lines)
            lines = []
        lines.append(line)
    yield "\n".join(lines)


def _join_hyphenated(text: str, report: ReadReport) -> str:
    """Puts words together again that were hyphenated at the end of a line, where the text itself shows how.

    "exam-" and "ple" become "example" if that word stands elsewhere and "exam-ple" does not, and "well-" and "known"
    become "well-known" in the same way; others are left. A soft hyphen always goes.
    """
    if not _AT_LINE_END.search(text):
        return text
    words = Counter(word.lower() for word in _HYPHENATED.findall(text))
    counts: Counter[str] = Counter()

    def join(found: re.Match[str]) -> str:
        whole, compound = f"{found[1]}{found[3]}", f"{found[1]}-{found[3]}"
        if found[2] == "\u00ad" or words[whole.lower()] > words[compound.lower()]:
            counts["words put together that were hyphenated at the end of a line"] += 1
            return whole
        if words[compound.lower()]:
            counts["words put together that were cut at their hyphen at the end of a line"] += 1
            return compound
        return found[0]

    text = _HYPHEN.sub(join, text)
    for what, number in counts.items():
        report.count(what, number)
    return text
