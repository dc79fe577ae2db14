import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize.punkt import PunktSentenceTokenizer

from data.sentences import cut_long, load_punkt, split_sentences

UNTRAINED = PunktSentenceTokenizer()


def without_space(text: str) -> str:
    return "".join(text.split())


@given(st.text(), st.integers(2, 40))
def test_only_white_space_is_lost(text: str, max_chars: int) -> None:
    sentences = split_sentences(text, punkt=UNTRAINED, max_chars=max_chars)
    assert without_space("".join(sentences)) == without_space(text)
    assert all(sentence and sentence == " ".join(sentence.split()) for sentence in sentences)
    assert all(len(sentence) <= max_chars for sentence in sentences)


@given(
    st.lists(
        st.sampled_from(
            ["Mr.", "Who?", "‘Oh!’", "he", "Said", "no.", "23", "—", ";", ",", "and", "(II.)", "\n\n", '"']
        ),
        max_size=40,
    )
)
def test_only_white_space_is_lost_from_prose(words: list[str]) -> None:
    text = " ".join(words)
    assert without_space("".join(split_sentences(text, max_chars=30))) == without_space(text)


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
    ],
)
def test_a_sentence_stays_whole(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


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
    assert time.process_time() - start < 10  # one second and a half, and two for the training
