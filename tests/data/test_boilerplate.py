import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.boilerplate import strip_boilerplate
from data.document import Block
from data.report import ReadReport

HEADING = "heading"
LICENCE = "passages of Project Gutenberg's licence left out"
CREDITS = "credits of Project Gutenberg's volunteers left out"
NOTES = "transcribers' notes left out"
LIB_RU = "credits of Lib.ru left out"
SCANS = "notices of Google Books and the Internet Archive left out"
WIKISOURCE = "notes of Wikisource left out"
STANDARD = "sections of Standard Ebooks left out"


def strip(*texts: str | Block) -> tuple[list[str], dict[str, int]]:
    report = ReadReport()
    blocks = [text if isinstance(text, Block) else Block(text) for text in texts]
    kept = [block.text for block in strip_boilerplate(blocks, report)]
    return kept, {what: number for what, number in report.counts.items() if number}


START = "*** START OF THE PROJECT GUTENBERG EBOOK THE FROG ***"
END = "*** END OF THE PROJECT GUTENBERG EBOOK THE FROG ***"


@pytest.mark.parametrize(
    ("texts", "kept", "num_passages"),
    [
        (
            ["The Project Gutenberg eBook of X", "Title: X", START, "One.", "Two.", END, "Licence.", "More."],
            ["One.", "Two."],
            2,
        ),
        ([f"Header {START} One.", f"Two. {END} Licence."], ["One.", "Two."], 2),
        ([START.replace("*** ", "***").replace("THE ", "THIS "), "One."], ["One."], 1),
        (["Header", START.strip("* "), "One.", END.strip("* "), "Licence"], ["One."], 2),  # as Markdown leaves it
        (["a", START, "One.", END, "b", "c", START, "Two.", END, "d"], ["One.", "Two."], 4),  # two books in a file
        (["One.", "End of Project Gutenberg's The Frog, by Nobody", END, "x"], ["One."], 1),
        (["One.", "End of the Project Gutenberg EBook of The Frog"], ["One."], 1),
        (
            ["He said: start of the project Gutenberg had in mind.", "One."],
            ["He said: start of the project Gutenberg had in mind.", "One."],
            0,
        ),
        (
            [
                "**The Project Gutenberg Etext of The Frog**",
                "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START*** Why is this here?",
                "Limited warranty. *END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
                "One frog sat by the well.",
                "Two of them sat there.",
            ],
            ["One frog sat by the well.", "Two of them sat there."],
            1,
        ),
        (
            [
                "One.",
                "Two.",
                "Three.",
                "*START*THE SMALL PRINT!",
                "Warranty",
                "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN*Ver.1*END*",
            ],
            ["One.", "Two.", "Three."],
            1,
        ),
    ],
)
def test_project_gutenbergs_licence_goes(texts: list[str], kept: list[str], num_passages: int) -> None:
    assert strip(*texts) == (kept, {LICENCE: num_passages} if num_passages else {})


def test_credits_go_and_a_sentence_that_looks_like_one_stays() -> None:
    credit = "Produced by A. Body and the Online Distributed Proofreading Team at https://www.pgdp.net"
    assert strip(credit, "Produced by an earthquake, the wave came.") == (
        ["Produced by an earthquake, the wave came."],
        {CREDITS: 1},
    )
    assert strip(START, "Produced by A. Body", "One.") == (["One."], {LICENCE: 1, CREDITS: 1})
    one_paragraph = "Produced by A. Body THE FROG " + "Once there was a frog. " * 50
    assert strip(START, one_paragraph) == ([one_paragraph], {LICENCE: 1})
    middle = [f"{n}" for n in range(60)]
    assert strip(*middle, credit, *middle)[0] == [*middle, credit, *middle]


def test_notes_of_transcribers_go() -> None:
    assert strip("[Transcriber's Note: spelling kept.]", "One.") == (["One."], {NOTES: 1})
    assert strip("[Transcriber’s notes:", "a", "b]", "One.") == (["One."], {NOTES: 1})
    assert strip("Transcriber's Note", "Spelling kept.", "One.") == (["One."], {NOTES: 1})
    assert strip(*"abcd", "TRANSCRIBER'S NOTES:", "Spelling kept.", "Hyphens too.") == (list("abcd"), {NOTES: 1})
    assert strip("The transcriber's note lay there.") == (["The transcriber's note lay there."], {})


def test_credits_of_lib_ru_go() -> None:
    kept, counts = strip(
        "Lib.ru: Библиотека Максима Мошкова",
        "Михаил Никто. Лягушка",
        "---------- OCR & spellcheck: А. Некто ----------",
        "Date: 10 Jan 2003",
        "Жила-была лягушка.",
        "Origin: так звали коня.",
        "Она пела.",
        "Популярность: 12, Last-modified: Tue, 26 Sep 2000 18:07:49 GMT",
    )
    assert kept == ["Михаил Никто. Лягушка", "Жила-была лягушка.", "Она пела."] or kept == [
        "Михаил Никто. Лягушка",
        "Жила-была лягушка.",
        "Origin: так звали коня.",
        "Она пела.",
    ]
    assert counts[LIB_RU] >= 4
    samlib = [
        'Журнал "Самиздат": [Регистрация] [Найти]',
        "Комментарии: 5, последний от 08/09/2003.",
        "© Copyright Некто (x@y.z)",
    ]
    samlib += ["Обновлено: 22/03/2003. 24k. Статистика.", "Роман: Проза", "Ваша оценка:"]
    assert strip(*samlib, "Жила-была лягушка.") == (["Жила-была лягушка."], {LIB_RU: 6})
    assert strip("OCR — это распознавание.", "Изд: так говорят.")[1] != {}
    assert strip("© Copyright Некто", "Date: today") == (["© Copyright Некто", "Date: today"], {})


def test_sections_of_standard_ebooks_go() -> None:
    kept, counts = strip(
        Block("Imprint", 2, HEADING),
        "This ebook is the product of many hours of hard work by volunteers for Standard Ebooks.",
        Block("I", 2, HEADING),
        "One.",
        Block("Colophon", 2, HEADING),
        "The Frog was published by Nobody.",
        "This ebook was produced for Standard Ebooks by A. Body.",
        Block("Uncopyright", 2, HEADING),
        "May you do good and not evil.",
        Block("Imprint", 2, HEADING),
        "His foot left an imprint.",
    )
    assert kept == ["I", "One.", "Imprint", "His foot left an imprint."] and counts == {STANDARD: 3}


def test_notes_of_wikisource_go() -> None:
    notes = [
        "This work is in the public domain in the United States because it was published before January 1, 1930.",
        "Public domainPublic domainfalsefalse",
        "Это произведение перешло в общественное достояние в России согласно ст. 1281 ГК РФ.",
    ]
    assert strip("One.", *notes) == (["One."], {WIKISOURCE: 3})
    export = [Block("About this digital edition", 2, HEADING), "This e-book comes from the online library Wikisource."]
    assert strip("One.", *export) == (["One."], {WIKISOURCE: 1})


def test_notices_of_scans_go() -> None:
    notice = [
        "This is a digital copy of a book that was preserved for generations on library shelves before it was scanned.",
        "It has survived long enough.",
        "You can search through the full text of this book on the web at http://books.google.com/",
    ]
    assert strip(*notice, "One.", "Digitized by Google", "Two.") == (["One.", "Two."], {SCANS: 2})
    archive = "Digitized by the Internet Archive in 2007 with funding from Nobody http://www.archive.org/details/frog"
    assert strip(archive, "One.", "Digitized by the clerk, the book was lost.")[0][0] == "One."


@given(st.lists(st.text() | st.sampled_from([START, END, "[Transcriber's Note:", "OCR: x", "]", "Text."]), max_size=12))
def test_any_text_is_taken_and_what_stays_was_there(texts: list[str]) -> None:
    kept, _ = strip(*texts)
    assert all(any(text in given for given in texts) for text in kept)
    assert strip(*kept)[0] is not None


@pytest.mark.parametrize(
    "piece", ["*", "* ", "[", " ", "-", "START ", "*END*THE SMALL PRINT!", "Produced by ", "a", "OCR "]
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    start = time.process_time()
    strip(piece * (300_000 // len(piece)), *[piece * 50] * 300)
    assert time.process_time() - start < 5
