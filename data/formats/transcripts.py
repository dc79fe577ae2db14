"""Subtitles (SRT, WebVTT) and transcripts in plain text: running speech, a block for each turn of a speaker."""

import html
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from data.document import Block, Document
from data.formats.hypertext import decode_text, language_name
from data.report import ReadReport

SPEAKER = "speaker"  # the role of one who has no name
MAX_FILE = 32 << 20  # bytes; the subtitles of a film have .1 MB
_PAUSE = 4.0  # seconds of silence after which nobody goes on speaking
_EVENTS = "sounds, songs and remarks left out"

# A name is up to four words with capitals or digits; "JOHN (off):" and "**Anna [00:12]**:" hold more than the name.
_WORD = r"[^\W_a-zа-яё][\w.'’&/-]*"
_NAME = rf"(?=[^\W\d]){_WORD}(?: (?:{_WORD}|of|the|and|de|da|van|von|и|фон)){{0,3}}"
_NAMED = re.compile(rf"\*{{0,2}}({_NAME})(?: ?[(\[][^)\]\n]{{1,40}}[)\]])?\*{{0,2}} ?:\*{{0,2}}(?=\s|\Z)")
_NAME_IN_BRACKETS = re.compile(rf"[\[(]({_NAME})[\])] +(?=\S)")
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?"
_TIME = re.compile(rf"[\[(<]\s*{_CLOCK}(?:\s*(?:-->|[-–—])\s*{_CLOCK})?\s*[\])>]\s*(?:[-–—]\s+)?")
_BARE_TIME = re.compile(rf"{_CLOCK}\s+(?:[-–—]\s+)?")
_NAME_AND_TIME = re.compile(rf"({_NAME})\s+[\[(]?{_CLOCK}[\])]?")
_DASH = re.compile(r"(?:[-–—‐](?![-–—‐\d])|>{2,3})\s*")  # ">>": American captions, at each change of speaker
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_SENTENCE_END = re.compile(r"[.!?…][\"'»”’)\]*]*\Z")
_STAGE = re.compile(r"^[^\w\n]*(?:act|scene|акт|действие|явление|сцена|картина) +\w+[^\w\n]*$", re.I | re.M)

_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>]*)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{(?:\\[^{}]{0,80}|[biuyc]:[^{}]{0,20})\}", re.IGNORECASE)
_TIMING = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{1,2}[,.]\d+\s*-->")
_NOTES = re.compile("[♪♫♬♩🎵🎶]")
_ALONE = re.compile(r"^[-–—> ]*(?:\[[^\[\]]{0,200}\]|\([^()]{0,200}\)|\*[^*\n]{1,60}\*)[.…]?[ ]*$", re.M)
_SQUARE = re.compile(r"\[[^\[\]]{0,200}\]")
_SOUND = re.compile(
    r"[\[(*]\s*[^\[\]()*\n]{0,40}\b(?:laugh|chuckl|giggl|applau|clap|cheer|music|sigh|cough|gasp|groan|sob|noise|silen"
    r"|pause|inaudible|indistinct|unintelligible|crosstalk|overlap|sing(?:s|ing)\b|whisper|shout|scream|смех|смеёт|смеет"
    r"|хохо|аплоди|музык|вздох|вздых|кашл|плач|рыда|шум|тишин|пауз|неразборч|поёт|поет\b|песн|шёпот|шепч|крик|кричит"
    r")[^\[\]()*\n]{0,40}[\])*]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Cue:
    """One caption: lines without markup; a line of a known voice begins with its name between two control marks."""

    start: float
    end: float
    lines: tuple[str, ...]


class _Turn(NamedTuple):
    """Who speaks, and the pieces of what is said; a blank line stands before a piece that is a new paragraph."""

    role: str
    texts: list[str]

    def is_open(self) -> bool:
        """Tells whether the last sentence goes on."""
        return bool(self.texts) and not _SENTENCE_END.search(self.texts[-1])


class _Line(NamedTuple):
    """A line of a transcript: whether it has a time, its speaker or "", what is said, and both as they are written."""

    is_timed: bool
    speaker: str
    said: str
    rest: str


def read_subtitles(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the document that a file of SRT or WebVTT is: cues joined to running speech, a block for each turn.

    Who speaks is told by `<v Name>`, "NAME:" or "[Name]"; a dash, or ">>", is another speaker without a name.
    Repeated lines of rolling captions, sounds and songs are left out and counted, as are cues that are malformed.

    Raises:
        ValueError: there is no cue in it.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{name} is larger than {MAX_FILE >> 20} MiB: no subtitles are; cut it")
    text = decode_text(path.read_bytes(), name, report)
    cues, language = _read_cues(text, name, report)
    turns = _join_cues(_drop_repeats(cues, report), report)
    stem, _, code = Path(name).stem.rpartition(".")
    if stem and language_name(code) != "auto":  # "film.ru.srt"
        language = language_name(code)
    yield from _document(turns, stem if stem and language_name(code) != "auto" else Path(name).stem, name, language)


def looks_like_transcript(text: str) -> bool:
    """Tells a transcript from prose: most lines, or paragraphs, begin with a speaker who returns, or with a time.

    Judged by the first 100,000 characters. A play is none: its acts and scenes are headings that a transcript lacks.
    """
    text = text[:100_000].replace("\r\n", "\n")
    if _STAGE.search(text):
        return False
    paragraphs = [
        [line.strip() for line in paragraph.split("\n") if line.strip()]
        for paragraph in _BLANK_LINE.split(text)
        if paragraph.strip()
    ]
    split = [_split_turn(line) for lines in paragraphs for line in lines]
    heads = [_split_turn(lines[0])._replace(said=lines[-1]) for lines in paragraphs]
    num_heads = sum(bool(head.speaker) for head in heads)
    is_table = sum(bool(line.speaker) for line in split) > 1.2 * num_heads  # fields and values, as in a letter
    return _are_turns(split) or (not is_table and _are_turns(heads))


def read_transcript(text: str, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the document that a transcript is: lines "[00:12:03] NAME: text" or "NAME: text", a block for each turn.

    Lines without a speaker go on with the turn. Times go, sounds and remarks in brackets are left out and counted.
    """
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    names = _known_names(_split_turn(line).speaker for line in lines)
    turns = [_Turn("sentence", [])]
    blank = ""
    for line in lines:
        if not line:
            blank = "\n\n"
            continue
        is_timed, speaker, said, rest = _split_turn(line)
        waits = turns[-1].role != "sentence" and not turns[-1].texts  # the last line was a name and nothing else
        if waits or speaker not in names:
            speaker, said = "", rest
        said = _leave_out_events(said, report)
        turn = turns[-1]
        starts = (speaker and speaker != turn.role) or ((speaker or is_timed) and not turn.is_open())
        if starts or (turn.role == "sentence" and blank):
            turn = _Turn(speaker or turn.role, [])
            turns.append(turn)
        if said:
            turn.texts.append(blank + said if turn.texts else said)
        blank = ""
    yield from _document(turns, Path(name).stem, name, "auto")


def _document(turns: Iterable[_Turn], title: str, name: str, language: str) -> Iterator[Document]:
    blocks = [Block(" ".join(turn.texts).replace(" \n", "\n"), role=turn.role) for turn in turns if turn.texts]
    if blocks:
        yield Document(title, tuple(blocks), name, language=language)


def _are_turns(lines: Sequence[_Line]) -> bool:
    """Tells whether most of the lines or paragraphs are turns, with sentences in them and speakers who return."""
    joined: list[_Line] = []  # a name on its own line with what is said on the next
    for line in lines:
        if joined and joined[-1].speaker and not joined[-1].said and not line.speaker:
            joined[-1] = joined[-1]._replace(said=line.said)
        else:
            joined.append(line)
    enough = max(3, 0.6 * len(joined))
    names = Counter(line.speaker for line in joined if line.speaker)
    num_turns = names.total()
    num_sentences = sum(bool(line.speaker and _SENTENCE_END.search(line.said)) for line in joined)
    has_speakers = num_turns >= enough and 2 * len(names) <= num_turns and 2 * num_sentences >= num_turns
    return has_speakers or sum(line.is_timed for line in joined) >= enough


def _split_turn(line: str) -> _Line:
    """Returns a line of a transcript in its parts."""
    if header := _NAME_AND_TIME.fullmatch(line):  # "Anna Smith  0:03" above what she says
        return _Line(True, header[1], "", line)
    time = _TIME.match(line)
    rest = line[time.end() :] if time else line
    bare_time = None if time else _BARE_TIME.match(line)
    named = _NAMED.match(rest, bare_time.end() if bare_time else 0)
    if not named:
        return _Line(time is not None, "", rest, rest)
    said = rest[named.end() :].lstrip()
    second_time = _TIME.match(said)
    is_timed = bool(time or bare_time or second_time)
    return _Line(is_timed, named[1], said[second_time.end() :] if second_time else said, rest)


def _known_names(names: Iterable[str]) -> Collection[str]:
    """Returns the speakers among what stands before a colon: who is in capitals, or is there more than once."""
    return {name for name, number in Counter(names).items() if name and (number > 1 or name == name.upper())}


def _leave_out_events(text: str, report: ReadReport, names: Collection[str] | None = None) -> str:
    """Returns the text without "[applause]", "(смех)" and the lines of songs, which are counted.

    Brackets within a line go if they tell of a sound. With names given, all square ones go but those of a name.
    """
    lines = text.split("\n")
    sung = [index for index, line in enumerate(lines) if _NOTES.search(line)]
    if sung:
        report.count(_EVENTS)
        del lines[sung[0] : sung[-1] + 1]
    text = "\n".join(lines)
    for pattern in (_ALONE, _SOUND):
        text, number = pattern.subn("", text)
        report.count(_EVENTS, number)
    if names is not None:
        remarks = [found for found in _SQUARE.findall(text) if found[1:-1] not in names]
        report.count(_EVENTS, len(remarks))
        text = _SQUARE.sub(lambda found: found[0] if found[0][1:-1] in names else "", text)
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))


def _read_cues(text: str, name: str, report: ReadReport) -> tuple[list[_Cue], str]:
    """Returns the cues in order of time, and the language that a header of WebVTT declares."""
    from webvtt import WebVTT
    from webvtt.errors import MalformedFileError

    lines = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    num_arrows = sum("-->" in line for line in lines)
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    timings = [line for line in lines if _TIMING.match(line)]
    if not timings:
        raise ValueError(f"{name} holds no cue of SRT or WebVTT")
    is_srt = name.lower().endswith(".srt") or any("," in line.partition("-->")[0] for line in timings)
    try:
        if lines[first].startswith("WEBVTT"):
            parsed = WebVTT.from_string("\n".join(lines[first:]))
        elif is_srt:
            parsed = WebVTT.from_buffer(io.StringIO("\n".join(_number_cues(lines))), format="srt")
        else:
            report.count("files of WebVTT read without its first line")
            parsed = WebVTT.from_string("\n".join(["WEBVTT", "", *lines]))
    except MalformedFileError as error:
        raise ValueError(f"{name} holds no cue of SRT or WebVTT") from error
    cues = []
    for caption in parsed.captions:
        start, end = caption.start_time.in_milliseconds() / 1000, caption.end_time.in_milliseconds() / 1000
        if shown := _cue_lines(caption.raw_text):
            cues.append(_Cue(start, end, shown))
    report.count("cues that are malformed or empty left out", num_arrows - len(cues))
    declared = next((line for line in parsed.metadata if line.lower().startswith("language:")), "")
    return sorted(cues, key=lambda cue: cue.start), language_name(declared.partition(":")[2])


def _number_cues(lines: Sequence[str]) -> Iterator[str]:
    """Yields the lines of an SRT file from its first cue on; cues get the number they lack, stray numbers go."""
    last = ""  # line that is not blank
    begun = False
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        is_number = line.strip().isdigit()
        if _TIMING.match(line) and not (begun and last.strip().isdigit()):
            yield from ("", "1") if begun else ("1",)
            begun = True
        if begun and not (is_number and not before.strip() and after.strip() and not _TIMING.match(after)):
            yield line
        last = line if line.strip() else last


def _cue_lines(text: str) -> tuple[str, ...]:
    """Returns the lines of a cue without markup and blank ones."""
    text = _VOICE.sub("\n\x02\\1\x03", text.replace("\x02", "").replace("\x03", ""))
    text = html.unescape(_TAG.sub("", text))
    return tuple(filter(None, (" ".join(line.split()) for line in text.split("\n"))))


def _drop_repeats(cues: Sequence[_Cue], report: ReadReport) -> list[_Cue]:
    """Returns the cues without the lines that roll up from the cue before, as in captions of live television.

    A line said twice stays, unless the two cues overlap in time or the whole file rolls.
    """
    fresh = [_new_lines(before.lines, cue.lines) for before, cue in pairwise(cues)]
    repeats = [new != cue.lines for new, cue in zip(fresh, cues[1:], strict=True)]
    rolls = sum(repeats) >= max(2, len(cues) / 2)
    kept = list(cues[:1])
    for (before, cue), new, repeat in zip(pairwise(cues), fresh, repeats, strict=True):
        if repeat and (rolls or cue.start < before.end):
            report.count("repeated lines of rolling captions left out")
            cue = replace(cue, lines=new)
        kept.append(cue)
    return kept


def _new_lines(before: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]:
    """Returns what a cue adds to the one before: lines, or the rest of a line that grows word by word."""
    for number in range(min(len(before), len(lines)), 0, -1):
        if before[-number:] == lines[:number]:
            return lines[number:]
    shown, now = " ".join(before), " ".join(lines)
    return (now[len(shown) + 1 :],) if shown and now.startswith(shown + " ") else lines


def _join_cues(cues: Sequence[_Cue], report: ReadReport) -> list[_Turn]:
    """Returns the turns, each as long as it is plain who speaks: to the end of the cue, or of the sentence.

    What ">>" begins lasts until the next, or a pause; so does a name, if no dashes mark changes without a name.
    """
    all_lines = [line for cue in cues for line in cue.lines]
    names = _find_names(all_lines)
    has_dashes = any(_DASH.match(line) and not line.startswith(">") for line in all_lines)
    turns = [_Turn("sentence", [])]
    holds, end = True, 0.0
    for cue in cues:
        is_pause = cue.start - end > _PAUSE
        is_unclear = is_pause or not (holds or turns[-1].is_open())
        text = _leave_out_events("\n".join(cue.lines), report, names)
        for line in filter(None, text.split("\n")):
            speaker, said = _find_speaker(line, names)
            if speaker:
                holds = line.startswith(">>") or not (has_dashes or line[0] in "[(\x02")
            if speaker == SPEAKER or (speaker and speaker != turns[-1].role) or (is_pause if speaker else is_unclear):
                turns.append(_Turn(speaker or "sentence", []))
                holds = holds or not speaker
            is_pause = is_unclear = False
            if said := _leave_out_events(said, report):
                turns[-1].texts.append(said)
        end = max(end, cue.end)
    return turns


def _find_names(lines: Sequence[str]) -> Collection[str]:
    """Returns the speakers that the lines name: before a colon, or more than once in brackets."""
    said = [line[dash.end() :] if (dash := _DASH.match(line)) else line for line in lines]
    in_brackets = Counter(
        found[1] for line in said if not _SOUND.match(line) and (found := _NAME_IN_BRACKETS.match(line))
    )
    before_colons = _known_names(found[1] for line in said if (found := _NAMED.match(line)))
    return {*before_colons, *(name for name, number in in_brackets.items() if number > 1)}


def _find_speaker(line: str, names: Collection[str]) -> tuple[str, str]:
    """Returns who speaks a line or "", and what is said."""
    if line.startswith("\x02"):
        name, _, said = line[1:].partition("\x03")
        return " ".join(name.split()) or SPEAKER, said
    dash = _DASH.match(line)
    said = line[dash.end() :] if dash else line
    named = _NAMED.match(said) or _NAME_IN_BRACKETS.match(said)
    if named and named[1] in names:
        return named[1], said[named.end() :].lstrip()
    return (SPEAKER, said) if dash and said else ("", line)
