"""Levels and falls, on a decoder that needs no training: what it writes is judged, not how well."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from decoders.module import SentenceBatch
from decoders.prefix import PrefixDecoder
from decoders.scores import corpus_bleu, count_grams
from encoders.hashing import HashingEncoder
from lcm.fragility import ReadBack, read_back

D = 16
Make = Callable[[], PrefixDecoder]


@pytest.fixture
def decoder(llm: str, sentences: list[str]) -> PrefixDecoder:
    encoder = HashingEncoder(D)
    torch.manual_seed(0)
    made = PrefixDecoder(
        D, encoder.fingerprint, encoder.name, llm=llm, num_tokens=3, word_tokens=2, hidden_dim=24, num_words=40
    )
    made.fit(torch.from_numpy(encoder.encode(sentences)).repeat(3, 1), sentences * 3)
    return made.eval()


def make_pairs(sentences: list[str]) -> SentenceBatch:
    concepts = torch.from_numpy(HashingEncoder(D).encode(sentences))
    return SentenceBatch(concepts, sentences, ["", *sentences[:-1]])


def test_nothing_falls_without_noise(decoder: PrefixDecoder, sentences: list[str]) -> None:
    read = read_back(decoder, HashingEncoder(D), make_pairs(sentences), levels=(0.0, 0.0, 0.5))
    first, same, noised = read.scores(np.arange(len(sentences)))
    for scores in (first, same):
        assert scores["bleu_fall"] == scores["cosine_fall"] == [0.0, 0.0, 0.0]
    assert noised["bleu"][0] == pytest.approx(first["bleu"][0] - noised["bleu_fall"][0])
    assert noised["cosine"][0] == pytest.approx(first["cosine"][0] - noised["cosine_fall"][0])
    assert read.texts[0] == read.texts[1] != read.texts[2]


def test_texts_keep_the_order_of_their_concepts(decoder: PrefixDecoder, sentences: list[str]) -> None:
    pairs = make_pairs(sentences)
    whole, one_by_one = (
        read_back(decoder, HashingEncoder(D), pairs, levels=(0.0,), batch_size=size) for size in (len(sentences), 1)
    )
    assert whole.texts == one_by_one.texts
    again = torch.from_numpy(HashingEncoder(D).encode(whole.texts[0]))
    expected = torch.cosine_similarity(again, pairs.concepts)
    torch.testing.assert_close(torch.from_numpy(whole.cosine[0]), expected)


def test_levels_begin_without_noise(decoder: PrefixDecoder, sentences: list[str]) -> None:
    with pytest.raises(ValueError, match="first level must be 0"):
        read_back(decoder, HashingEncoder(D), make_pairs(sentences), levels=(0.1, 0.2))


def test_bleu_is_sacrebleus(sentences: list[str]) -> None:
    from sacrebleu import corpus_bleu as reference

    texts = [*sentences[1:4], *sentences[3:]]
    expected = reference(texts, [sentences]).score
    assert corpus_bleu(count_grams(texts, sentences)) == pytest.approx(expected)


def test_lengths_are_told_apart_and_a_bin_of_one_is_left_out() -> None:
    num_words = np.array([5, 9, 10, 14, 14, 40, 3])
    grams = np.tile(np.array([4, 3, 2, 1, 5, 4, 3, 2, 5, 5]), (2, 7, 1))
    cosine = np.stack([np.full(7, 0.9), np.full(7, 0.4)])
    found = ReadBack((0.0, 0.3), cosine, grams, num_words, [[""] * 7] * 2).by_length()
    assert [(part["words"], part["scores"][0]["num_sentences"]) for part in found] == [("5-9", 2), ("10-14", 3)]
    assert found[0]["scores"][1]["cosine_fall"] == pytest.approx([0.5] * 3)
