"""Records of reasoning to blocks: a question, the steps of thinking about it, the answer.

Read are Reasoning-v1 in its three spellings, GSM8K, MATH, AQUA, and any prompt with a response that marks its steps.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from data.document import BOOK, Block
from data.formats.values import SENTENCE_END, bullets_of, first_text, lines_of, text_of
from data.report import ReadReport

QUESTIONS = ("instruction", "prompt", "question", "problem")
THOUGHTS = ("thought_process", "rationale", "solution")  # reasoning by name
RESPONSES = ("response", "output", "completion")  # reasoning where its steps or its answer are marked
FIELDS = frozenset({*QUESTIONS, *THOUGHTS, *RESPONSES, "answer", "context", "options", "correct"})

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_TAGS = re.compile(r"<(?:think|thinking)>([\s\S]*?)</(?:think|thinking)>([\s\S]*)")
_ANSWER_TAG = re.compile(r"</?answer>")
_LINE = r"^[ \t>*_#-]*"
_STEPS = (
    re.compile(rf"(?im:{_LINE}(?:step|шаг)\s+\d+\b)|(?<=[.!?;:] )(?:Step|Шаг)\s+\d+\s*[:.)—–-]"),
    re.compile(r"^(?:\*\*)?\d{1,3}[.)]\s", re.MULTILINE),
    re.compile(r"^[ \t]+(?:\*\*)?\d{1,3}[.)]\s", re.MULTILINE),
)
_HASHES = re.compile(r"^[ \t]*####(?!#)[ \t]*([^\n]+)\Z", re.MULTILINE)  # the last line; above it, it is a heading
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_FINAL = re.compile(
    rf"(?:{_LINE}|(?<=[.!?] ))(?:(?:the\s+)?(?:final\s+)?(?:verified\s+)?answer(?:\s+is)?"
    r"|(?:(?:окончательный|итоговый|финальный|проверенный)\s+)*ответ)[*_]*\s*:[*_]*\s*",
    re.IGNORECASE | re.MULTILINE,
)
_CONCLUSION = re.compile(
    r"\n[^\S\n]*\n(?=[*_]*(?:in summary|in conclusion|to summari[sz]e|to sum up|overall|therefore|thus|hence"
    r"|в заключение|подводя итог|таким образом|итак|в итоге|следовательно|значит)\b)",
    re.IGNORECASE,
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n(?=\S)(?![-*•] )")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def read_reasoning(record: Mapping[str, Any], report: ReadReport) -> list[Block]:
    """Returns the question (role "question", level 4: it is given), the steps ("think") and the answer ("answer").

    A response without any mark of a step or of an answer is the answer as a whole.
    """
    question = [first_text(record, QUESTIONS), text_of(record.get("context")), *bullets_of(record.get("options"))]
    blocks = [Block(line, BOOK, "question") for text in question for line in lines_of(text, report)]
    thought = first_text(record, THOUGHTS)
    text = thought or first_text(record, RESPONSES)
    answer = text_of(record.get("answer")) or _choice(record)
    if not text:  # GSM8K has all in its answer
        text, answer = answer, ""
    text, num_marks = _CALCULATOR.subn("", text.strip())
    report.count("marks of a calculator left out", num_marks)
    if thought or answer or is_marked(text):
        steps, answer = split_reasoning(text, answer)
    else:
        steps, answer = [], text
    blocks += [Block(line, role="think") for step in steps for line in lines_of(step, report)]
    return blocks + [Block(line, role="answer") for line in lines_of(answer, report)]


def is_marked(text: str) -> bool:
    """Says whether a text marks its steps ("Step 1", "Шаг 1", "1.") or its answer ("####", "Ответ:", a box)."""
    if _TAGS.match(text) or any(mark.search(text) for mark in (_HASHES, _FINAL, _BOXED)):
        return True
    return any(len(pattern.findall(text)) > 1 for pattern in _STEPS)


def split_reasoning(text: str, answer: str = "") -> tuple[list[str], str]:
    r"""Returns the steps of a text and its answer.

    The answer is what stands behind "####", in `\boxed{}`, behind "Final answer:" or "Ответ:", and else the last step.

    Args:
        text: reasoning, perhaps with tags (`<think>...</think>`, then the answer).
        answer: the answer if it is known from elsewhere: then all the text is steps.
    """
    if tagged := _TAGS.fullmatch(text):
        text, behind = tagged[1], _ANSWER_TAG.sub("", tagged[2]).strip()
        answer = answer or behind
    if not answer:
        text, answer = _find_answer(text)
    steps = split_steps(text)
    if not answer and steps:
        answer = steps.pop()
    return steps, answer


def split_steps(text: str) -> list[str]:
    """Returns the steps of a text by the first rule that matches: nothing is lost but white space.

    The rules: lines that begin with "Step N" or "Шаг N", or such after a sentence; numbered items, with all that is
    indented or listed below them; paragraphs; lines; sentences. What stands before the first mark is a step, and so is
    a conclusion after the last ("In summary ...", "Таким образом ...", or a last paragraph unlike the items).
    """
    text = text.strip()
    for pattern in _STEPS:
        starts = [found.start() for found in pattern.finditer(text)]
        if len(starts) > 1:
            end = _conclusion(text, starts)
            starts = [start for start in starts if start < end]
            return _cut(text, [*starts, end])
    for border in (_BLANK_LINE, re.compile(r"\n"), SENTENCE_END):
        if border.search(text):
            return _cut(text, [found.end() for found in border.finditer(text)])
    return [text] if text else []


def _cut(text: str, starts: list[int]) -> list[str]:
    pieces = (text[start:stop].strip() for start, stop in pairwise([0, *starts, len(text)]))
    return [piece for piece in pieces if piece]


def _conclusion(text: str, starts: list[int]) -> int:
    """Returns where the conclusion behind the marked steps begins, or the length of the text."""
    for found in reversed(list(_CONCLUSION.finditer(text, starts[0]))):
        line = text[found.end() :].split("\n", 1)[0]
        if found.end() > starts[-1] or line.rstrip("*_ ").endswith(":"):  # a colon: a list of what follows from it all
            return found.end()
    inside = [found.end() for found in _PARAGRAPH.finditer(text, starts[0]) if found.end() not in starts]
    if len(inside) == 1 and inside[0] > starts[-1]:  # the steps have no such paragraphs
        return inside[0]
    return len(text)


def _find_answer(text: str) -> tuple[str, str]:
    """Returns the text without its marked answer, and that answer, or ""; a box stays in its sentence."""
    if found := _HASHES.search(text):
        return text[: found.start()], found[1].strip()
    if boxes := list(_BOXED.finditer(text)):
        inside = _in_braces(text, boxes[-1].end())
        if inside.strip():
            return text, inside.strip()
    if finals := list(_FINAL.finditer(text)):
        answer = text[finals[-1].end() :].strip(" \n*_")
        if answer:
            return text[: finals[-1].start()], answer
    return text, ""


def _in_braces(text: str, start: int) -> str:
    """Returns what stands inside the braces that open at `start`, or "" if they never close."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return text[start + 1 : index]
    return ""


def _choice(record: Mapping[str, Any]) -> str:
    """Returns the option that AQUA's letter names, or the letter."""
    letter = text_of(record.get("correct"))
    options = bullets_of(record.get("options"))
    return next((option for option in options if letter and re.match(rf"{re.escape(letter)}\b", option)), letter)
