import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block
from data.prose import decode, read_prose
from data.report import ReadReport


def read(text: str) -> list[Block]:
    return read_prose(text, ReadReport())


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("Chapter IV. The Frog", 2),
        ("CHAPTER TWENTY-ONE", 2),
        ("PART THE SECOND", 3),
        ("Scene 2", 1),
        ("Prologue", 2),
        ("ГЛАВА ПЕРВАЯ", 2),
        ("Глава 4. Лягушка", 2),
        ("Глава ХII", 2),  # a Cyrillic Х, as it is often typed
        ("Глава двадцать первая, в которой никто не спит", 2),
        ("Первая глава", 2),
        ("Часть вторая", 3),
        ("ТОМ 3", 3),
        ("Книга I", 3),
        ("Действие третье", 2),
        ("Явление 5-е", 1),
        ("Сцена вторая: там же", 1),
        ("Картина 1", 1),
        ("ЭПИЛОГ.", 2),
        ("Erstes Kapitel", 2),
        ("Chapitre premier", 2),
        ("Chapter of accidents.", None),
        ("The last letter.", None),
        ("I act, therefore I am.", None),
        ("Книга — лучший друг.", None),
        ("Том пришёл.", None),
        ("Письмо пришло.", None),
        ("Часть вторая осталась дома, а первая ушла", None),
    ],
)
def test_headings_of_chapters(line: str, level: int | None) -> None:
    assert read(f"{line}\n\nText.")[0] == (Block(line) if level is None else Block(line, level, "heading"))


def test_a_title_below_its_number_belongs_to_it() -> None:
    assert read("CHAPTER I\nDOWN THE FROG-HOLE\n\nText.")[0] == Block("CHAPTER I DOWN THE FROG-HOLE", 2, "heading")
    assert read("Глава 1\nЛягушка\n\nText.")[0] == Block("Глава 1 Лягушка", 2, "heading")
    assert read("Chapter I\nand so\non it\nwent\n\nText.")[0].role == "sentence"


def test_lone_roman_numerals_that_count_are_headings() -> None:
    text = "ЧАСТЬ ПЕРВАЯ\n\nI\n\nОдин.\n\nII\n\nДва.\n\nЧАСТЬ ВТОРАЯ\n\nI\n\nТри.\n\nII\n\nЧетыре.\n\nX\n\nЭпилог"
    levels = {block.text: block.level for block in read(text) if block.role == "heading"}
    assert levels == {"ЧАСТЬ ПЕРВАЯ": 3, "I": 2, "II": 2, "ЧАСТЬ ВТОРАЯ": 3, "Эпилог": 2}
    below = [block for block in read("Chapter 1\n\nI.\n\nOne.\n\nII.\n\nTwo.") if block.level == 1]
    assert [block.text for block in below] == ["I.", "II."]
    assert [block.role for block in read("I\n\nam here.\n\nV")] == ["sentence"] * 3


def test_indented_lines_begin_paragraphs() -> None:
    text = (
        "     Однажды, в студёную зимнюю пору, я из лесу вышел, был\nсильный мороз.\n"
        "     -- Здорово, парень! -- сказал я.\n"
        "     -- Ступай себе мимо!\n                 ГЛАВА ВТОРАЯ\n     Гляжу: поднимается медленно в гору.\n"
    )
    assert [block.text.split()[0] for block in read(text)] == ["Однажды,", "--", "--", "ГЛАВА", "Гляжу:"]
    assert read(text)[3].role == "heading"


def test_indented_lines_that_go_on_begin_nothing() -> None:
    play = "FROG. I am the frog of the\n  well, and I would be\n  let in by the\n  king.\n\nKING. Who\n  is there?"
    assert [block.text.split()[0] for block in read(play)] == ["FROG.", "KING."]


def test_words_are_put_together_where_the_text_shows_how() -> None:
    report = ReadReport()
    (block,) = read_prose(
        "An exam-\nple of a well-\nknown thing is an example of a well-known pre-\nand post-war\nsoft\u00ad\nness",
        report,
    )
    assert block.text == "An example of a well-known thing is an example of a well-known pre- and post-war softness"
    assert report.lines() == [
        "2 words put together that were hyphenated at the end of a line",
        "1 words put together that were cut at their hyphen at the end of a line",
    ]
    assert (
        read("Кто-\nнибудь, мо-\nроз и студё-\nная. Кто-нибудь, мороз")[0].text
        == "Кто-нибудь, мороз и студё- ная. Кто-нибудь, мороз"
    )


def test_the_marks_of_project_gutenberg_stand_alone() -> None:
    marks = ("*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***")
    blocks = read(f"licence\n{marks[0]}\nPART ONE\n\nIt\nwas.\n{marks[1]}\nx")
    assert [block.text[:9] for block in blocks] == ["licence", "*** START", "PART ONE", "It was.", "*** END O", "x"]
    assert blocks[2].role == "heading"


def test_long_lines_without_blank_lines_are_paragraphs() -> None:
    long, short = "word " * 30, "word\n" * 3
    assert len(read(f"{long}\n{long}")) == 2
    assert read(short) == [Block("word word word")]


@given(st.text(alphabet=st.sampled_from("aб-\n I.V\u00ad*\t\r")))
def test_no_letter_is_lost(text: str) -> None:
    joined = "".join(block.text for block in read(text))
    assert [char for char in joined if char.isalnum()] == [char for char in text if char.isalnum()]


@given(st.binary(max_size=200))
def test_any_bytes_are_read(content: bytes) -> None:
    read(decode(content, "x", ReadReport()))


@pytest.mark.parametrize("piece", ["w", "-\n", "a-\n", "  a\n", "I\n\n", " ", "*** START OF TH", "глава ", "a\u00ad"])
def test_hostile_texts_take_linear_time(piece: str) -> None:
    start = time.process_time()
    read(piece * (300_000 // len(piece)))
    assert time.process_time() - start < 5
