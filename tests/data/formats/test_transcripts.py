import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.formats.transcripts import looks_like_transcript, read_subtitles, read_transcript
from data.report import ReadReport

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>A mill stood</i>
by the river,

2
00:00:02,500 --> 00:00:04,000 X1:40 X2:600
{\\an8}and it was old.

3
00:00:05,000 --> 00:00:06,000
- Is anyone there?
-No.

4
00:00:06,000 --> 00:00:07,000
[door creaks]
ANN: I heard that.

5
00:00:07,500 --> 00:00:09,000
(LAUGHS) Did you? ♪

6
00:00:20,000 --> 00:00:21,000
♪ The wheel goes round,
and round it goes ♪
МЕЛЬНИК (тихо): Он <font color="#fff">старый</font> &amp; злой. [смех]
"""

VTT = """WEBVTT - The mill
Kind: captions
Language: ru

NOTE made by hand,
in two lines

STYLE
::cue { color: red }

REGION
id:left

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Анна>Кто <00:01.500><c.loud>там?</c>

00:02.500 --> 00:04.000
<v.loud Борис Иванович>Никого,
это ветер.</v> <v Анна>Не верю:
00:04.000 --> 00:05.000
дверь открыта.

00:05.000 --> 00:06.000
<v Анна>Закрой её.
"""


def _read(text: str | bytes, folder: Path, name: str, report: ReadReport | None = None) -> Document:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (document,) = read_subtitles(path, name, report or ReadReport())
    return document


def _srt(*cues: tuple[float, float, str]) -> str:
    def stamp(seconds: float) -> str:
        return f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{seconds % 60:06.3f}".replace(".", ",")

    return "".join(f"{n}\n{stamp(a)} --> {stamp(b)}\n{text}\n\n" for n, (a, b, text) in enumerate(cues, start=1))


def test_srt_is_running_speech_by_speaker(tmp_path: Path) -> None:
    report = ReadReport()
    film = _read(SRT, tmp_path, "film.srt", report)
    assert film == Document(
        "film",
        (
            Block("A mill stood by the river, and it was old."),
            Block("Is anyone there?", role="speaker"),
            Block("No.", role="speaker"),
            Block("I heard that.", role="ANN"),
            Block("Он старый & злой.", role="МЕЛЬНИК"),
        ),
        "film.srt",
        language="auto",
    )
    assert {what: number for what, number in report.counts.items() if number} == {
        "sounds, songs and remarks left out": 4  # two of them songs
    }


def test_webvtt_has_voices_notes_styles_and_settings(tmp_path: Path) -> None:
    film = _read(VTT, tmp_path, "film.vtt")
    assert film.language == "russian"
    assert film.blocks == (
        Block("Кто там?", role="Анна"),
        Block("Никого, это ветер.", role="Борис Иванович"),
        Block("Не верю: дверь открыта. Закрой её.", role="Анна"),
    )


@pytest.mark.parametrize("text", [SRT, VTT])
def test_the_same_from_other_systems(text: str, tmp_path: Path) -> None:
    name = "a.vtt" if text == VTT else "a.srt"
    plain = _read(text, tmp_path, name)
    assert _read(text.replace("\n", "\r\n"), tmp_path, name) == plain
    assert _read(text.replace("\n", "\r"), tmp_path, name) == plain
    assert _read("\ufeff" + text, tmp_path, name) == plain
    assert _read("\n\n" + text, tmp_path, name) == plain
    assert _read(text.encode("utf-16"), tmp_path, name) == plain


def test_old_russian_subtitles(tmp_path: Path) -> None:
    text = _srt((1, 2, "— Кто там?"), (2, 3, "— Никого."))
    report = ReadReport()
    film = _read(text.encode("cp1251"), tmp_path, "фильм.ru.srt", report)
    assert (film.title, film.language) == ("фильм", "russian")
    assert film.blocks == (Block("Кто там?", role="speaker"), Block("Никого.", role="speaker"))
    assert report.lines() == ["1 files read as cp1251, for they are not UTF-8"]


def test_malformed_cues_are_skipped_and_counted(tmp_path: Path) -> None:
    text = """junk before
2
00:00:01,000 --> 00:00:02,000
One.
3
00:00:02,000 --> 00:00:03,000
Two.
4
00:00:03,000 --> 00:00:0x,000
Lost.

5
00:00:04,000 --> 00:00:05,000

6
00:00:05,000 --> 00:00:06,000
Three, of

1984.

7
Four.

00:00:06,000 --> 00:00:07,000
Five.
"""
    report = ReadReport()
    (block,) = _read(text, tmp_path, "a.srt", report).blocks
    assert block.text == "One. Two. Three, of 1984. Four. Five."
    assert report.lines() == ["2 cues that are malformed or empty left out"]


def test_files_under_a_wrong_name_or_without_their_header(tmp_path: Path) -> None:
    body = VTT.partition("intro\n")[2]
    assert _read(VTT, tmp_path, "a.srt").blocks == _read(body, tmp_path, "a.vtt").blocks
    assert _read(SRT, tmp_path, "a.vtt").blocks == _read(SRT, tmp_path, "a.srt").blocks
    for text in ("", "WEBVTT\n", "words\n", "1\n00:00:01,000 --> 00:00:02,000\n"):
        (tmp_path / "a.srt").write_text(text)
        with pytest.raises(ValueError, match=r"a\.srt holds no cue"):
            list(read_subtitles(tmp_path / "a.srt", "a.srt", ReadReport()))


ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.000 align:start position:0%
 
a<00:00:00.500><c> mill</c><00:00:01.000><c> stood</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
a mill stood
 

00:00:02.010 --> 00:00:04.000 align:start position:0%
a mill stood
by<00:00:02.500><c> the</c><00:00:03.000><c> river</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
by the river
 

00:00:04.010 --> 00:00:06.000 align:start position:0%
by the river
no<00:00:04.500><c> no</c><00:00:05.000><c> no</c>
"""  # noqa: W293


def test_rolling_captions_are_read_once(tmp_path: Path) -> None:
    report = ReadReport()
    talk = _read(ROLLING, tmp_path, "talk.vtt", report)
    assert (talk.blocks, talk.language) == ((Block("a mill stood by the river no no no"),), "english")
    assert report.counts["repeated lines of rolling captions left out"] == 4
    painted = _srt((0, 1, "A mill"), (1, 2, "A mill stood"), (2, 3, "A mill stood there."), (3, 4, "Alone."))
    assert _read(painted, tmp_path, "a.srt").blocks == (Block("A mill stood there. Alone."),)


def test_words_that_are_said_twice_stay(tmp_path: Path) -> None:
    said = _srt((0, 1, "Come in."), (1, 2, "No."), (2, 3, "No."), (3, 4, "Please."), (4, 5, "Well."), (5, 6, "Well."))
    assert _read(said, tmp_path, "a.srt").blocks[0].text == "Come in. No. No. Please. Well. Well."
    shown = _srt((0, 3, "No."), (1, 3, "No."), (3, 4, "Please."), (4, 5, "Yes."), (5, 6, "Well."))
    assert _read(shown, tmp_path, "a.srt").blocks[0].text == "No. Please. Yes. Well."  # one caption in two layers


def test_a_pause_ends_a_turn_and_a_name_lasts_until_then(tmp_path: Path) -> None:
    text = _srt((0, 1, "ANN: One."), (1, 2, "Two."), (9, 10, "Three."), (10, 11, "BOB:"), (11, 12, "Four."))
    roles = [(block.role, block.text) for block in _read(text, tmp_path, "a.srt").blocks]
    assert roles == [("ANN", "One. Two."), ("sentence", "Three."), ("BOB", "Four.")]


def test_american_captions_mark_each_change(tmp_path: Path) -> None:
    text = _srt((0, 1, ">> ANN: One."), (1, 2, "TWO."), (2, 3, "&gt;&gt; Three?"), (3, 4, "Four."), (4, 5, ">>> NEWS."))
    roles = [(block.role, block.text) for block in _read(text, tmp_path, "a.srt").blocks]
    assert roles == [("ANN", "One. TWO."), ("speaker", "Three? Four."), ("speaker", "NEWS.")]


def test_names_in_brackets_are_those_that_return(tmp_path: Path) -> None:
    cues = [
        (0, 1, "[Ann] One."),
        (1, 2, "[sighs] Two."),
        (2, 3, "- [Ann] Three.\n- [Thunder] Four."),
        (3, 4, "-- five"),
    ]
    roles = [(block.role, block.text) for block in _read(_srt(*cues), tmp_path, "a.srt").blocks]
    assert roles == [
        ("Ann", "One."),
        ("sentence", "Two."),
        ("Ann", "Three."),
        ("speaker", "Four."),
        ("sentence", "-- five"),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(max_size=200) | st.text(alphabet="0:1,.->\n<v A>[]♪ ", max_size=200),
    st.sampled_from(["a.srt", "a.vtt"]),
    st.sampled_from(["", "WEBVTT\n\n", "1\n00:00:01,000 --> 00:00:02,000\n", "WEBVTT\n\n00:01.000 --> 00:02.000\n"]),
)
def test_any_text_is_read_or_refused(tmp_path: Path, text: str, name: str, head: str) -> None:
    (tmp_path / name).write_bytes((head + text).encode("utf-8", "replace"))
    report = ReadReport()
    try:
        list(read_subtitles(tmp_path / name, name, report))
    except ValueError as error:
        assert name in str(error)
    assert min(report.counts.values(), default=0) >= 0


INTERVIEW = """A talk at the mill

[00:00:03] ANN SMITH: Who built it?
[00:00:07] Dr. Jones (laughing): My grandfather.
He was young then.

[00:01:12] Remember: nobody helped him.
[applause]
[00:01:20] ANN SMITH: And (pause) the wheel?
[00:01:30] ANN SMITH: Is it
[00:01:31] ANN SMITH: oak?
[00:01:40] Dr. Jones: Oak [sic].

It is.
"""


def test_a_transcript_is_turns() -> None:
    assert looks_like_transcript(INTERVIEW)
    report = ReadReport()
    (talk,) = read_transcript(INTERVIEW, "x/talk.txt", report)
    assert (talk.title, talk.source) == ("talk", "x/talk.txt")
    assert talk.blocks == (
        Block("A talk at the mill"),
        Block("Who built it?", role="ANN SMITH"),
        Block("My grandfather. He was young then.", role="Dr. Jones"),
        Block("Remember: nobody helped him.", role="Dr. Jones"),
        Block("And the wheel?", role="ANN SMITH"),
        Block("Is it oak?", role="ANN SMITH"),
        Block("Oak [sic].\n\nIt is.", role="Dr. Jones"),
    )
    assert report.lines() == ["2 sounds, songs and remarks left out"]


@pytest.mark.parametrize(
    "line",
    [
        "{name}: {said}",
        "[00:{n:02}] {name}: {said}",
        "00:{n:02}:07 {name}: {said}",
        "(0:{n:02}) — {name}: {said}",
        "**{name}:** {said}",
        "{name} (00:{n:02}): {said}",
        "{name}: [00:00:{n:02}] {said}",
        "{name}  0:{n:02}\n{said}\n",
        "{name}:\n{said}\n",
    ],
)
@pytest.mark.parametrize(
    "names", [("ANN", "BOB"), ("Анна Павловна", "Б. Ветров"), ("Speaker 1", "SPEAKER_02"), ("Q", "A")]
)
def test_the_forms_of_transcripts(line: str, names: tuple[str, str]) -> None:
    said = ("Who built the mill?", "Мой дед, я думаю.", "When was that?", "Давно: тому сто лет.") * 2
    turns = [(names[n % 2], words) for n, words in enumerate(said)]
    text = "\n".join(line.format(name=name, said=words, n=n) for n, (name, words) in enumerate(turns))
    for written in (text, text.replace("\n", "\r\n"), text.replace("\n", "\n\n")):
        assert looks_like_transcript(written)
        (talk,) = read_transcript(written, "a.txt", ReadReport())
        assert [(block.role, block.text) for block in talk.blocks] == turns


def test_times_alone_make_a_transcript() -> None:
    text = "[00:00:00.000 --> 00:00:02.000]  A mill stood\n[00:00:02.000 --> 00:00:04.000]  by the river.\n"
    text += "[00:00:04.000 --> 00:00:05.000]  It was old.\n"
    assert looks_like_transcript(text)
    (talk,) = read_transcript(text, "a.txt", ReadReport())
    assert [block.text for block in talk.blocks] == ["A mill stood by the river.", "It was old."]


PROSE = "He said: go. She went, and the river was loud. Chapter one: the mill. At 10:30 she came back.\n\n" * 20
RUSSIAN_PROSE = "— Кто там? — спросил он. Никто не ответил: было поздно.\n\nОн сказал: пора.\n\n" * 20
NOVEL = "Ann looked up.\n\nANN: a name, she thought, like any.\n\nThe wheel turned.\n\nBob: no.\n\nIt was late.\n\n" * 9
PLAY = "ACT I\n\nSCENE I. A mill.\n\n" + "ANN: Who is there?\n\nBOB: No one.\n\n" * 20
RUSSIAN_PLAY = "Действие первое\n\n" + "АННА: Кто там?\n\nБОРИС: Никого.\n\n" * 20
OLD_PLAY = "ANN. Who is there?\n\nBOB. No one.\n\n" * 20
GLOSSARY = "\n".join(f"Word{letter}: what it means is told here." for letter in "ABCDEFGHIJ")
LETTER = "From: Ann\nTo: Bob\nSubject: The mill\nDate: today\n\nDear Bob,\nthe mill is old.\n\n" * 5
PACKAGES = (
    "Package: mill\nVersion: 1\nDescription: grinds.\n of oak\n\nPackage: wheel\nVersion: 2\nDescription: turns.\n\n"
)
COPYRIGHT = "Files: *\nCopyright: Ann\nLicense: own\n You may use it.\n It is free.\n It is good.\n\n" * 5
BIBLE = "\n".join(f"1:{verse} In the beginning was a mill." for verse in range(1, 20))
SCHEDULE = "\n".join(f"{hour}:00 Somebody speaks of mills." for hour in range(8, 20))
SETTINGS = "name: mill\nwheel: oak\nname: river\nwheel: none\n" * 5


@pytest.mark.parametrize(
    "text",
    [
        *(PROSE, RUSSIAN_PROSE, NOVEL, PLAY, RUSSIAN_PLAY, OLD_PLAY, GLOSSARY, LETTER, PACKAGES * 5, COPYRIGHT, BIBLE),
        *(SCHEDULE, SETTINGS, "", "\n" * 100, "ANN: One."),
    ],
)
def test_what_is_no_transcript(text: str) -> None:
    assert not looks_like_transcript(text)


@given(st.text(max_size=300) | st.text(alphabet="A:a.[]0 \n", max_size=300))
def test_any_text_is_judged_and_read(text: str) -> None:
    looks_like_transcript(text)
    list(read_transcript(text, "a.txt", ReadReport()))


@pytest.mark.parametrize(
    "unit", ["\n", " ", "[", "(", "A ", "A. ", "A:", "*", "0:00", "<v ", "{\\", "Act ", "♪", "[0", "-->"]
)
def test_long_nonsense_takes_no_time(unit: str, tmp_path: Path) -> None:
    text = unit * (200_000 // len(unit))
    begin = time.monotonic()
    looks_like_transcript(text)
    list(read_transcript(text, "a.txt", ReadReport()))
    _read(f"WEBVTT\n\n00:01.000 --> 00:02.000\nOne.\n{text}", tmp_path, "a.vtt")
    assert time.monotonic() - begin < 3
