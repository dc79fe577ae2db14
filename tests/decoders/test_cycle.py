from collections.abc import Callable
from typing import Any

import pytest
import torch

from decoders.cycle import Candidate, CycleDecoder, best
from decoders.prefix import PrefixDecoder
from encoders.hashing import HashingEncoder

Make = Callable[..., PrefixDecoder]
CONTEXT = ["", "The old king had three sons.", "So they were married.", "", "A horse and a fox.", "Nobody knew."]


@pytest.fixture
def make(make_decoder: Make, encoder: HashingEncoder) -> Callable[..., CycleDecoder]:
    def cycle(corrects: bool = False, **options: Any) -> CycleDecoder:
        settings = {"candidates": 4, "temperature": 1.3} | options
        return CycleDecoder(make_decoder(corrects=corrects), encoder, **settings)

    return cycle


def decode(cycle: CycleDecoder, concepts: torch.Tensor, seed: int = 0, context: Any = CONTEXT) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return cycle.decode_scored(concepts, context, generator=generator, max_new_tokens=10)


Cycle = Callable[..., CycleDecoder]


def test_the_nearest_candidate_is_kept(make: Cycle, concepts: torch.Tensor, encoder: HashingEncoder) -> None:
    found = decode(make(fluency_weight=0.0), concepts)
    again = torch.from_numpy(encoder.encode(found.texts))
    torch.testing.assert_close(again, found.concepts)
    torch.testing.assert_close(torch.cosine_similarity(again, concepts), found.cosine)
    for chosen, candidates in zip(found.chosen, found.candidates, strict=True):
        assert chosen.cosine == max(candidate.cosine for candidate in candidates)
        assert len({candidate.text for candidate in candidates}) == len(candidates)
    assert found.cosine.mean() > decode(make(candidates=1), concepts).cosine.mean() + 0.01


def test_one_candidate_is_greedy_and_rows_do_not_matter(make: Cycle, concepts: torch.Tensor) -> None:
    one = make(candidates=1)
    assert decode(one, concepts).texts == one.decoder.decode(concepts, CONTEXT, max_new_tokens=10)
    assert decode(make(rows=8), concepts).texts == decode(make(), concepts).texts
    assert decode(make(), concepts, 1).texts != decode(make(), concepts).texts


def test_fluency_counts_by_its_weight(make: Cycle, concepts: torch.Tensor) -> None:
    fluent = decode(make(fluency_weight=1000.0), concepts)
    for chosen, candidates in zip(fluent.chosen, fluent.candidates, strict=True):
        assert chosen.log_probability == max(candidate.log_probability for candidate in candidates)
        assert chosen.score == pytest.approx(chosen.cosine + 1000.0 * chosen.log_probability)


def test_what_stands_before_is_not_said_again(make: Cycle, concepts: torch.Tensor) -> None:
    first = decode(make(), concepts, context=None)
    said = [f"Once. {text} Then." for text in first.texts]
    decoder = make()
    decoder.decoder.max_context_tokens = 0  # so that the candidates are the same
    second = decode(decoder, concepts, context=said)
    assert all(a != b for a, b in zip(first.texts, second.texts, strict=True))
    kept = make(repetition_penalty=0.0)
    kept.decoder.max_context_tokens = 0
    assert decode(kept, concepts, context=said).texts == first.texts


def test_the_first_of_equals_is_kept() -> None:
    equal = [Candidate(text, torch.ones(2), 0.5, -1.0, 0.5) for text in "abc"]
    assert best(equal).text == "a"


def test_corrections_never_make_it_worse(make: Cycle, concepts: torch.Tensor) -> None:
    cosines = torch.stack([decode(make(corrects=True, corrections=c), concepts).cosine for c in (0, 1, 3)])
    assert (cosines[1:] >= cosines[:-1]).all()
    assert (cosines[-1] > cosines[0]).any()


def test_settings_that_cannot_be_are_named(make: Cycle, concepts: torch.Tensor, make_decoder: Make) -> None:
    with pytest.raises(ValueError, match="not trained to correct"):
        make(corrections=1)
    with pytest.raises(ValueError, match="temperature above 0"):
        make(temperature=0.0)
    with pytest.raises(ValueError, match="candidates >= 1"):
        make(candidates=0)
    with pytest.raises(ValueError, match="concepts of encoder hashing"):
        CycleDecoder(make_decoder(), HashingEncoder(17))
    assert make().decode(concepts[:0]) == []
