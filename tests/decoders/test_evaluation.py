from collections.abc import Callable

import numpy as np
import pytest

from data.store import ConceptStore
from decoders.evaluation import evaluate_decoder
from decoders.prefix import PrefixDecoder
from decoders.scores import bleu, bootstrap
from encoders.hashing import HashingEncoder

pytest.importorskip("faiss", reason="faiss is an extra")


def test_bleu_is_sacrebleus() -> None:
    from sacrebleu import corpus_bleu

    texts = ["the cat sat on the mat today", "a dog ran far away from home", "no"]
    references = ["the cat sat on a mat today", "a dog ran far away from here", "yes it is so"]
    value, low, high = bleu(texts, references, np.random.default_rng(0))
    assert value == pytest.approx(corpus_bleu(texts, [references]).score)
    assert low <= value <= high


def test_bootstrap_covers_the_mean() -> None:
    random = np.random.default_rng(0)
    values = random.normal(3.0, 2.0, 400)
    value, low, high = bootstrap(values, np.ones(400), random)
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * 2.0 / 20, rel=0.15)  # four standard errors, nearly


def test_all_rows_are_measured(
    make_decoder: Callable[..., PrefixDecoder], encoder: HashingEncoder, store: ConceptStore
) -> None:
    found = evaluate_decoder(make_decoder(), encoder, store, min_words=3, batch_size=4, max_new_tokens=6)
    assert found["num_sentences"] == len(found["examples"]) == 7 * len(store.split("test"))
    assert set(found["rows"]) == {"decoder", "nearest training sentence", "random training sentence"}
    for row in found["rows"].values():
        for value, low, high in row.values():
            assert low <= value <= high
    assert set(found["nll"]) == {"true", "shuffled", "no"}
    share, number = found["names"]
    assert 0 <= share <= 1 and number >= 0
    carried = found["nll"]["no"][0] - found["nll"]["true"][0]
    assert found["nats_carried"]["against no concept"][0] == pytest.approx(carried, rel=1e-4)
    cosine = {name: row["cosine"][0] for name, row in found["rows"].items()}
    assert cosine["nearest training sentence"] > cosine["random training sentence"]


def test_the_best_of_some_candidates_is_a_row_of_its_own(
    make_decoder: Callable[..., PrefixDecoder], encoder: HashingEncoder, store: ConceptStore
) -> None:
    options = {"min_words": 3, "max_new_tokens": 6, "cycle": {"candidates": 3, "temperature": 1.5}}
    found = evaluate_decoder(make_decoder(), encoder, store, **options)
    assert found["rows"]["decoder, best of 3"]["cosine"][0] > found["rows"]["decoder"]["cosine"][0]
    assert set(found["sentences_per_second"]) == {"decoder", "decoder, best of 3"}
    assert all(speed > 0 for speed in found["sentences_per_second"].values())


def test_another_encoder_is_an_error(make_decoder: Callable[..., PrefixDecoder], store: ConceptStore) -> None:
    with pytest.raises(ValueError, match="the decoder knows concepts of encoder"):
        evaluate_decoder(make_decoder(), HashingEncoder(8), store)
    with pytest.raises(ValueError, match="0 test sentences of 90 to 99 words"):
        evaluate_decoder(make_decoder(), HashingEncoder(16), store, min_words=90, max_words=99)
