import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize.punkt import _punkt_language

from data.document import Block, Document
from data.languages import LANGUAGE_RULES, PUNKT_NAMES, guess_language, language_of, rules_of

SAMPLES = {
    "english": "The old man sat by the window and looked at the sea; he did not know what he was waiting for.",
    "russian": "Старик сидел у окна и смотрел на море; он и сам не знал, чего он ждёт.",
    "ukrainian": "Старий сидів біля вікна і дивився на море; він і сам не знав, чого чекає, її вже не було.",
    "bulgarian": "Старецът седеше до прозореца и гледаше морето; той сам не знаеше какво чака, а вятърът духаше. " * 4,
    "serbian": "Старац је седео поред прозора и гледао море; ни сам није знао шта чека, а љубав му беше далеко.",
    "german": "Der alte Mann saß am Fenster und sah auf das Meer; er wusste selbst nicht, auf was er wartete.",
    "french": "Le vieil homme était assis à la fenêtre et regardait la mer; il ne savait pas ce qu'il attendait.",
    "spanish": "El viejo estaba sentado junto a la ventana y miraba el mar; no sabía lo que esperaba de la vida.",
    "italian": "Il vecchio sedeva alla finestra e guardava il mare; non sapeva che cosa aspettava di preciso.",
    "portuguese": "O velho estava sentado à janela e olhava o mar; não sabia o que esperava da vida nem se ela viria.",
    "dutch": "De oude man zat bij het raam en keek naar de zee; hij wist niet waar hij op wachtte en dat is het.",
    "polish": "Stary człowiek siedział przy oknie i patrzył na morze; nie wiedział, na co czeka, ale to było tak.",
    "czech": "Starý muž seděl u okna a díval se na moře; nevěděl, na co čeká, ale bylo to tak a už to tak je.",
    "swedish": "Den gamle mannen satt vid fönstret och såg på havet; han visste inte vad det var som han väntade på.",
    "finnish": "Vanha mies istui ja katsoi merta, mutta hän ei tiennyt, mitä se oli, että hän niin odotti.",
    "turkish": "Yaşlı adam pencerenin önünde bir sandalyeye oturdu ve denize baktı, ama ne için bekledi, o da bilmedi.",
    "greek": "Ο γέρος καθόταν στο παράθυρο και κοίταζε τη θάλασσα.",
    "chinese": "老人坐在窗边，看着大海。",
    "japanese": "老人は窓辺に座って海を見ていた。",
    "korean": "노인은 창가에 앉아 바다를 보았다.",
    "hebrew": "הזקן ישב ליד החלון והביט בים.",
    "arabic": "جلس الشيخ عند النافذة ينظر إلى البحر.",
}


@pytest.mark.parametrize("language", SAMPLES)
def test_a_language_is_guessed(language: str) -> None:
    assert guess_language(SAMPLES[language]) == language


@pytest.mark.parametrize("text", ["", "12 + 3 = 15", "Bonjour!", "???", "Zyx wvu tsr qpo nml kji.", "\ud800\0"])
def test_it_is_english_when_unsure(text: str) -> None:
    assert guess_language(text) == "english"


def test_a_russian_text_with_french_in_it_is_russian() -> None:
    assert guess_language(f"«{SAMPLES['french']}» — {SAMPLES['russian'] * 2}") == "russian"


@given(st.text())
def test_any_text_has_a_language_that_nltk_may_be_asked_for(text: str) -> None:
    assert _punkt_language(guess_language(text)) == guess_language(text)


def test_a_document_says_its_language_or_it_is_guessed() -> None:
    blocks = (Block("Глава 1", 2, "heading"), Block(SAMPLES["russian"]))
    for said, language in (
        ("auto", "russian"),
        ("", "russian"),
        ("de", "german"),
        ("en-GB", "english"),
        ("pt_BR", "portuguese"),
    ):
        assert language_of(Document("T", blocks, "s", language=said)) == language
    assert language_of(Document("T", blocks, "s", language="Klingon")) == "klingon"
    assert language_of(Document("T", (), "s")) == "english"
    assert language_of(Document("T", (Block("x" * 30_000), *blocks), "s")) == "english"  # the beginning decides


def test_the_tables_are_consistent() -> None:
    assert set(LANGUAGE_RULES) <= set(PUNKT_NAMES.values())
    for name, rules in LANGUAGE_RULES.items():
        assert rules_of(name) is rules
        for words in (rules.titles, rules.numbered, rules.abbreviations, rules.closers, rules.starters, rules.ordinals):
            assert all(word == word.lower() and not word.endswith(".") for word in words)
        assert not rules.closers & rules.titles and not rules.closers & rules.abbreviations
        assert re.compile(rules.numerals)
        assert not re.fullmatch(rules.numerals, "")
    assert rules_of("klingon").titles == frozenset()
