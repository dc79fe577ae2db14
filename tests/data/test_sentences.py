import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.punkt import Punkt
from data.sentences import cut_long, load_punkt, split_sentences

UNTRAINED = Punkt("english")
RUSSIAN = Punkt("russian")


def without_space(text: str) -> str:
    return "".join(text.split())


@given(st.text(), st.integers(2, 40), st.sampled_from(["english", "russian", "german", "klingon"]))
def test_only_white_space_is_lost(text: str, max_chars: int, language: str) -> None:
    sentences = split_sentences(text, language, punkt=Punkt(language), max_chars=max_chars)
    assert without_space("".join(sentences)) == without_space(text)
    assert all(sentence and sentence == " ".join(sentence.split()) for sentence in sentences)
    assert all(len(sentence) <= max_chars for sentence in sentences)


WORDS = [
    "Mr.",
    "Who?",
    "‘Oh!’",
    "he",
    "Said",
    "no.",
    "23",
    "—",
    ";",
    ",",
    "and",
    "(II.)",
    "\n\n",
    '"',
    "…",
    "т.",
    "д.",
    "А.",
]
WORDS += ["«Стой!»", "им.", "I.", "...", "[1]", ".”—Then", "(!)", "。", "！」", "%."]


@given(st.lists(st.sampled_from(WORDS), max_size=40), st.sampled_from(["english", "russian", "french"]))
def test_only_white_space_is_lost_from_prose(words: list[str], language: str) -> None:
    text = " ".join(words)
    assert without_space("".join(split_sentences(text, language, max_chars=30))) == without_space(text)


@pytest.mark.parametrize(
    "sentences",
    [
        ["Mr. Root spoke to Mrs. Hill at St. Mark's.", "Dr. No listened."],
        ["‘Who is there?’ asked the king.", "‘It is I!’ cried the frog.", "He came in."],
        ['"Ah! perhaps you know."', '"I do," said she.'],
        ["He waited.", "“Come in!” she said.", "(He did.)", "They sat."],
        ["II. The Congress shall meet.", "It shall be so."],
        ["See No. 23 of the report.", "Then go on."],
        ["Oh! Jane.", "Well."],
        ["They came with carts, horses, etc. in great number.", "Then with mules, etc.", "It rained."],
        ["Books? oh! no.", "I compare it with yours.", "See vol. II of it."],
        [
            "John E. Ward met J. R. R. Tolkien in the U.S. Army.",
            "It was not I.",
            "He lived under George V.",
            "The king died.",
        ],
        ["He left at last—Mr. Root did.", "“Queequeg!”—and he ran.", "“Run!”", "—Then he fell."],
        ["Well... it may be.", "He stopped…", "Then he went on.", "I... I do not know."],
        ["It grew by 5%.", "The rest fell (see p. 4).", "He wrote “etc.”", "And so on.[12]", "That is all."],
        ["It was so (!) in the end.", "A capital “H.”", "Incidentally, no."],
    ],
)
def test_an_english_sentence_stays_whole(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences), punkt=UNTRAINED) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["А. С. Пушкин родился в 1799 г. в Москве.", "Он был поэтом."],
        ["Его читали Л. Н. Толстой, Ю.М. Лотман и Дж. Лондон.", "Это было в XIX в. в России."],
        ["В 1812 г. Наполеон вошёл в Москву.", "В 1813 г. он ушёл.", "Он умер в 1821 г.", "Его забыли."],
        ["— Пойдём, — сказал он.", "— Пора."],
        ["— Куда ты? — спросил он.", "— Домой!", "— Понимаю…", "— Иван, стой!"],
        ["«Стой!» — крикнул он.", "Никто не остановился.", "„Кто там?“ — спросила она.", "„Я!“"],
        ["«Кто там?» спросил царь.", "Он сказал: «Я приду завтра».", "Она кивнула."],
        [
            "Были груши и т. д. и т. п. в корзинах.",
            "Были сливы и т. д.",
            "Потом их съели.",
            "Пришли Иван и др.",
            "Все сели.",
        ],
        ["См. рис. 5 на стр. 12.", "Там всё видно.", "Из-за дождя (см. гл. 3) мы не пошли."],
        ["Это стоит 5 руб. 30 коп.", "Дорого!", "Население — 2 млн. человек, т. е. много.", "Длина — 5 см.", "Мало."],
        ["Он жил на ул. Ленина, д. 5, кв. 12, в с. Михайловское.", "Теперь уехал."],
        ["Театр им. Чехова закрыт.", "Мы гордились им.", "Потом он уехал.", "Г. Чичиков и г-н Голядкин вышли."],
        ["Проф. Иванов и акад. Петров спорили.", "Тов. Сидоров и гр. Орлов молчали."],
        ["Это было в I в. до н. э. в Риме.", "Город горел.", "На это ушло 5 мин. времени."],
        [
            "Он замолчал…",
            "Потом заговорил снова.",
            "Он... не знаю... ушёл.",
            "Что?!",
            "Не может быть!..",
            "Но это так.",
        ],
        ["— Я... Я не знаю, — прошептал он.", "…И вот он пришёл.", "Это был я.", "Он вошёл."],
        ["Витамин С.", "Он полезен.", "Ах! какая ночь!", "Он (!) выиграл.", "(Он смеётся.)", "Все молчат."],
    ],
)
def test_a_russian_sentence_stays_whole(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences), "russian", punkt=RUSSIAN) == sentences


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        (
            "german",
            [
                "Am 5. Oktober kam Hr. Maier, d. h. Dr. Maier.",
                "»Halt!« rief er.",
                "Er nahm z. B. Brot usw.",
                "Dann ging er.",
            ],
        ),
        (
            "french",
            ["M. Dupont et Mme. Dupont dînent.", "« Non ! » dit-il.", "Ils ont du pain, etc.", "Puis ils partent."],
        ),
        ("chinese", ["我们走吧。", "好！", "“走。”他说。", "「行け！」と言った。"]),
    ],
)
def test_other_languages(language: str, sentences: list[str]) -> None:
    joined = ("" if language == "chinese" else " ").join(sentences)
    assert split_sentences(joined, language, punkt=Punkt(language)) == sentences


def test_a_text_without_capitals_is_still_split() -> None:
    assert split_sentences("hello! how are you? i am fine!", punkt=UNTRAINED) == [
        "hello!",
        "how are you?",
        "i am fine!",
    ]


def test_a_blank_line_ends_a_sentence_and_a_line_break_does_not() -> None:
    assert split_sentences("Shall I compare thee\n  to a summer's day\n\nThou art") == [
        "Shall I compare thee to a summer's day",
        "Thou art",
    ]


def test_what_has_no_letter_goes_with_the_sentence_before() -> None:
    assert split_sentences("*** Yes. — ! No? ***", punkt=UNTRAINED) == ["*** Yes. — !", "No? ***"]
    assert split_sentences("... !", punkt=UNTRAINED) == ["... !"]


def test_cut_long_takes_the_best_boundary_near_the_middle() -> None:
    sentence = (
        "The sun rose early on the hill; a wind came from the west, and the ships left the harbour one by one, slowly"
    )
    assert cut_long(sentence, 90) == [
        "The sun rose early on the hill;",
        "a wind came from the west, and the ships left the harbour one by one, slowly",
    ] or cut_long(sentence, 90)[0].endswith("west,")
    assert cut_long("abcdef", 3) == ["abc", "def"]
    assert cut_long("a, b and c", 100) == ["a, b and c"]
    assert [len(piece) for piece in cut_long("x" * 1000, 250)] == [250] * 4
    assert cut_long("see https://a.example/b", 20) == ["see", "https://a.example/b"]
    assert cut_long("Он долго шёл по лесу, но никого там не встретил", 30)[0] == "Он долго шёл по лесу,"


def test_cut_long_keeps_accents_and_joined_emoji_together() -> None:
    pieces = cut_long("e\u0301" * 15 + "👩\u200d👩\u200d👧" * 3, 10)
    assert not any(piece[0] in "\u0301\u200d" or piece[-1] == "\u200d" for piece in pieces)


def test_abbreviations_are_learnt_from_the_corpus() -> None:
    corpus = ["We went to Xqz. Miller in town.", "There Xqz. Baker met Xqz. Cook.", "So Xqz. 5 was said."] * 20
    assert split_sentences("I saw Xqz. Miller. He ran.", punkt=load_punkt(corpus)) == ["I saw Xqz. Miller.", "He ran."]


def test_a_word_seen_once_at_the_end_of_a_sentence_is_no_abbreviation() -> None:
    corpus = ["The lake was of ice. Karl ran over it. They all ran after him. Then came the evening."]
    assert split_sentences(corpus[0])[0] == "The lake was of ice."


def test_a_bad_width_is_refused() -> None:
    with pytest.raises(ValueError, match="max_chars"):
        split_sentences("Yes.", max_chars=1)


def test_a_text_made_from_templates_is_split() -> None:
    text = "The king went out, and nobody saw him. ‘Who is there?’ asked she. Then it was evening in the wood. " * 400
    assert len(split_sentences(text)) == 1200


def test_twenty_thousand_sentences_are_quick() -> None:
    text = "The king went out, and nobody saw him. ‘Who is there?’ asked she. Then it was evening in the wood. " * 6667
    start = time.process_time()
    assert len(split_sentences(text)) == 20_001
    assert time.process_time() - start < 10  # a third of a second, and two for the training


@pytest.mark.parametrize(
    "piece", ["x", "a.", "a. ", "!", "! ", "Ah! ah! ", '"', "Mr. ", "(", "1. ", "e\u0301", "т. д. ", "# A! b! "]
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    def seconds(num_chars: int) -> float:
        text = "Hi! " + piece * (num_chars // len(piece))
        start = time.process_time()
        sentences = split_sentences(text, "russian", punkt=RUSSIAN)
        took = time.process_time() - start
        assert without_space("".join(sentences)) == without_space(text)
        return took

    assert seconds(400_000) < 8 * seconds(100_000) + 0.5  # quadratic is 16 times as long
