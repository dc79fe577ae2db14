import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.formats.safe_yaml import read_yaml
from data.formats.scenes import read_scenes
from data.report import ReadReport

SCENES = """# two scenes
title: The Mill
characters: [Ann, {Boris: the miller}, {name: Cat, age: 3, description: grey}]
setting: |
  A mill,
  at night.
mood: dark
beats:
  - Ann knocks. Nobody answers.
  - 12:30
dialogue:
  - Ann: Is anyone there?
  - Борис: Нет.
  - {speaker: Ann, text: No}
  - The wind turns the wheel.
  - Ann:
---
title: Утро
setting: {place: a river, time: dawn}
dialogue:
  Ann: Yes
  Борис: null
"""
CHAT = """categories:
- mills
conversations:
- - Who are you?
  - yes
- - One line
- - Why?
  - Because.
  - Why?
"""


def _read(text: str, folder: Path, report: ReadReport | None = None) -> list[Document]:
    (folder / "a.yaml").write_text(text, encoding="utf-8")
    return list(read_scenes(folder / "a.yaml", "x/a.yaml", report or ReadReport()))


def test_scenes_are_plans_and_speech(tmp_path: Path) -> None:
    report = ReadReport()
    (document,) = _read(SCENES, tmp_path, report)
    assert (document.title, document.source) == ("a", "x/a.yaml")
    assert document.blocks == (
        Block("The Mill", 1, "heading"),
        Block("A mill,\nat night.", 1, "summary"),
        Block("Ann", 1, "character"),
        Block("Boris: the miller", 1, "character"),
        Block("Cat: age: 3, grey", 1, "character"),
        Block("Ann knocks. Nobody answers.", 1, "summary"),
        Block("12:30", 1, "summary"),
        Block("Is anyone there?", role="Ann"),
        Block("Нет.", role="Борис"),
        Block("No", role="Ann"),
        Block("The wind turns the wheel."),
        Block("Утро", 1, "heading"),
        Block("place: a river", 1, "summary"),
        Block("time: dawn", 1, "summary"),
        Block("Yes", role="Ann"),
    )
    assert report.lines() == [
        'x/a.yaml: the field "mood" is not used',
        "2 lines of dialogue in x/a.yaml without words left out",
    ]


def test_one_scene_gives_its_title(tmp_path: Path) -> None:
    (scene,) = _read(SCENES.partition("---")[0], tmp_path)
    assert scene.title == "The Mill"
    assert _read("- {title: A, beats: [b]}\n- {title: B, beats: [b]}", tmp_path)[0].title == "a"


def test_a_chatterbot_corpus_is_conversations(tmp_path: Path) -> None:
    report = ReadReport()
    first, second = _read(CHAT, tmp_path, report)
    assert (first.title, second.title) == ("a 1", "a 3")
    assert first.blocks == (Block("Who are you?", role="user"), Block("yes", role="assistant"))
    assert [block.role for block in second.blocks] == ["user", "assistant", "user"]
    assert report.lines() == ["1 conversations of x/a.yaml without question and answer left out"]


@pytest.mark.parametrize(
    "text", ["title: x\nmodel: {dim: 3}", "", "- a\n- b", "just text", "title: x", "a: &b 1\nc: *b"]
)
def test_other_yaml_is_told_what_a_scene_is(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="title, characters, setting, beats, dialogue"):
        _read(text, tmp_path)


def test_what_is_no_scene_among_scenes_is_counted(tmp_path: Path) -> None:
    report = ReadReport()
    _read(SCENES + "---\nversion: 2", tmp_path, report)
    assert report.counts["parts of x/a.yaml that are no scenes left out"] == 1


def test_aliases_and_merges_of_honest_files(tmp_path: Path) -> None:
    text = "- &one\n  title: A\n  beats: &b [x, y]\n- <<: *one\n  title: B\n- {title: C, beats: *b}"
    (document,) = _read(text, tmp_path)
    assert [block.text for block in document.blocks] == ["A", "x", "y", "B", "x", "y", "C", "x", "y"]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
TOWER = "- &l0 [x]\n" + "".join(f"- &l{n} [*l{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "unfolds"),
        (TOWER, "unfolds"),
        ("[" * 100_000, "unfolds"),
        ("{a: " * 60, "unfolds"),
        ("- x\n" * 200_001, "unfolds"),
        ("- &a " + "long " * 100_000 + "\n" + "- *a\n" * 500, "unfolds"),
        ("- &a x\n" + "- *a\n" * 1_001, "unfolds"),
        ("x" * (1 << 20) + "x", "larger than 1 MiB"),
        ("a: &a [*a]", "stands for itself or for nothing"),
        ("a: *b", "b"),
        ("a: &b x\n---\na: *b", "b"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!timestamp x", "tag"),
        ("a: !mine x", "tag"),
        ("a: [b", "no YAML"),
        ("a: {b: c, b: d}", "stands twice"),
        ("a: b\n\tc: d", "no YAML"),
        ("? [a, b]\n: c", "no YAML"),
        ("<<: x", "no YAML"),
        ("a: \x07", "no YAML"),
    ],
)
def test_hostile_or_broken_yaml_is_refused_at_once(text: str, message: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(ValueError, match=message) as error:
        _read(text, tmp_path)
    assert "x/a.yaml" in str(error.value) and "\n" not in str(error.value)
    assert time.monotonic() - begin < 1


def test_scalars_stay_what_they_were_written_as() -> None:
    written = "[no, 12:30, 1.10, 2001-01-01, 0x10, .inf, 007, '', 'null', =]"
    assert list(read_yaml(written, "a")) == [
        ["no", "12:30", "1.10", "2001-01-01", "0x10", ".inf", "007", "", "null", "="]
    ]
    assert list(read_yaml("[null, ~, ]\n---\n", "a")) == [[None, None], None]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="abc:-[]{}&*!|>'\"?,# \n", max_size=200))
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    try:
        _read(text.encode("utf-8", "replace").decode(), tmp_path)
    except ValueError as error:
        assert "a.yaml" in str(error)
