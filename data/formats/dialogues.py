"""Records of talk to blocks: ShareGPT, OpenAI's messages, alpaca; whoever speaks is the role, every turn is text."""

from collections.abc import Iterator, Mapping
from typing import Any

from data.document import Block
from data.formats.values import first_text, is_absent, lines_of, load_value, text_of
from data.report import ReadReport

TURNS = ("conversations", "conversation", "messages", "dialogue", "dialog")
DIALOGUE_FIELDS = frozenset({*TURNS, "system"})
ALPACA_FIELDS = frozenset({"instruction", "input", "output", "system", "history"})
_SPEAKER = ("from", "role", "speaker", "author")
_SPOKEN = ("value", "content", "text", "utterance")
_TEXT_PARTS = ("text", "input_text", "output_text")


def read_dialogue(record: Mapping[str, Any], report: ReadReport) -> list[Block]:
    """Returns the turns of a dialogue: level 0, and as role whoever speaks, as it is written there ("human", "gpt").

    Turns are `{from, value}` (ShareGPT), `{role, content}` (OpenAI; content may be a list of parts, or stand in
    "text"), `{speaker: text}`, or plain strings, which are given to A and B in turn. Tool calls, pictures and turns
    without a text are left out and counted.
    """
    turns = load_value(next(record[field] for field in TURNS if not is_absent(record.get(field))))
    blocks = _spoken(text_of(record.get("system")), "system", report)
    for number, turn in enumerate(_as_list(turns)):
        role, text = _read_turn(turn, number, report)
        if not text:
            report.count("turns of dialogues without a text left out")
        blocks += _spoken(text, role, report)
    return blocks


def read_alpaca(record: Mapping[str, Any], report: ReadReport) -> list[Block]:
    """Returns an instruction with its input as question, its output as answer; what was said before comes first.

    All rows have level 0; `history` is a list of [question, answer].
    """
    blocks = _spoken(text_of(record.get("system")), "system", report)
    for pair in load_value(record.get("history")) or []:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            blocks += _spoken(text_of(pair[0]), "question", report)
            blocks += _spoken(text_of(pair[1]), "answer", report)
        else:
            report.count("turns of a history that are no pair of question and answer left out")
    blocks += _spoken(text_of(record.get("instruction")), "question", report)
    blocks += _spoken(text_of(record.get("input")), "question", report)
    return blocks + _spoken(text_of(record.get("output")), "answer", report)


def _spoken(text: str, role: str, report: ReadReport) -> list[Block]:
    return [Block(line, role=role) for line in lines_of(text, report)]


def _as_list(turns: Any) -> list[Any]:
    """Returns the turns one by one; some tables hold a list of speakers beside a list of what they said."""
    if isinstance(turns, Mapping) and all(isinstance(column, list) for column in turns.values()):
        return [dict(zip(turns, row, strict=True)) for row in zip(*turns.values(), strict=False)]
    return turns if isinstance(turns, list) else [turns]


def _read_turn(turn: Any, number: int, report: ReadReport) -> tuple[str, str]:
    """Returns who speaks and what, "" if it is no text."""
    if isinstance(turn, str):
        report.note("turns of dialogues that name no speaker were given to A and B in turn")
        return "AB"[number % 2], turn.strip()
    if not isinstance(turn, Mapping):
        return "sentence", ""
    present = {key: value for key, value in turn.items() if not is_absent(value)}
    if present.keys() & {"tool_calls", "function_call"}:
        report.count("tool calls left out")
    if len(present) == 1 and not present.keys() & {*_SPEAKER, *_SPOKEN}:  # {speaker: text}
        ((role, text),) = present.items()
        return str(role), text_of(text)
    spoken = next((present[key] for key in _SPOKEN if key in present), "")
    return first_text(present, _SPEAKER) or "sentence", "\n\n".join(_parts(spoken, report))


def _parts(spoken: Any, report: ReadReport) -> Iterator[str]:
    """Yields the texts of a message, which is one string, or a list of parts of which some are pictures or sound."""
    for part in spoken if isinstance(spoken, list) else [spoken]:
        if isinstance(part, Mapping):
            text = part.get("text")
            text = text.get("value") if isinstance(text, Mapping) else text
            known = part.get("type", "text") in _TEXT_PARTS
            part = text if known else None
            if not known:
                report.count("parts of messages that are no text left out")
        if text := text_of(part):
            yield text
