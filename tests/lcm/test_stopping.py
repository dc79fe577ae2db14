import pytest
import torch
from torch import Tensor

from lcm.stopping import SAME, Stopping, StopRule, calibrate_end, calibrate_repetition, reached_rarely

D = 7


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_cosine(concept: Tensor, cosine: float) -> Tensor:
    """Returns a concept (D,) of another length that has this cosine with the given one."""
    other = torch.randn(concept.shape, generator=seeded(9))
    unit = concept / concept.norm()
    across = other - (other @ unit) * unit
    return 3 * (cosine * unit + (1 - cosine**2) ** 0.5 * across / across.norm())


def test_a_cosine_at_or_above_the_threshold_stops() -> None:
    end = torch.randn(D, generator=seeded())
    concepts = torch.stack([at_cosine(end, cosine) for cosine in (-0.5, 0.0, 0.79, 0.81, 1.0)])
    rule = StopRule(end, end_cosine=0.8, repeat_cosine=0.8)
    assert rule.ends(concepts).tolist() == [False, False, False, True, True]
    assert rule.ends(concepts.view(1, 5, D)).shape == (1, 5)
    assert rule.repeats(concepts, end.expand(5, D)).tolist() == [False, False, False, True, True]
    assert not StopRule(end).repeats(concepts, concepts).any()
    assert not StopRule(repeat_cosine=0.5).ends(concepts).any()


def test_rules_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="never stops"):
        StopRule()
    with pytest.raises(ValueError, match="above -1 and at most 1, found 90"):
        StopRule(torch.ones(D), 90)
    with pytest.raises(ValueError, match="min_concepts must be at least 0, found -1"):
        StopRule(torch.ones(D), min_concepts=-1)


@pytest.mark.parametrize("num", [1, 10, 999, 1001, 5000])
def test_at_most_one_real_pair_in_a_thousand_reaches_the_threshold_and_no_smaller_one_would_do(num: int) -> None:
    cosine = torch.rand(num, generator=seeded()) * 0.9
    threshold = reached_rarely(cosine, 1e-3)
    allowed = num // 1000
    assert int((cosine >= threshold).sum()) == allowed
    assert int((cosine >= threshold - 1e-6).sum()) == allowed + 1


def test_what_is_repeated_word_for_word_always_stops_and_does_not_count_in_calibration() -> None:
    walk = torch.randn(3000, D, generator=seeded()).cumsum(0)  # neighbours are alike
    twice = walk.repeat_interleave(2, 0)
    plain, stuttering = calibrate_repetition(walk), calibrate_repetition(twice)
    assert plain == pytest.approx(stuttering, abs=1e-6) and plain < SAME
    rule = StopRule(repeat_cosine=plain)
    assert rule.repeats(twice[1:], twice[:-1])[::2].all()
    assert rule.repeats(walk[1:], walk[:-1]).float().mean() <= 1e-3
    assert calibrate_repetition(walk[:1].expand(9, D)) == calibrate_repetition(walk[:1]) == SAME


def test_the_end_is_told_from_real_sentences_of_an_encoder_whose_concepts_are_all_alike() -> None:
    end = torch.randn(D, generator=seeded(1))
    for common in (0.0, 5.0):  # a direction that all concepts share makes every cosine high
        sentences = torch.randn(5000, D, generator=seeded()) + common
        threshold = calibrate_end(sentences, end + common)
        rule = StopRule(end + common, threshold)
        assert rule.ends(sentences).float().mean() < 1e-3
        assert rule.ends(end + common) and rule.ends(1.1 * (end + common))
        assert not rule.ends(sentences.mean(0))
    assert threshold > 0.9  # where .9 would do for one encoder and not for the other


def test_what_was_measured_comes_back_with_the_weights_and_makes_the_rule() -> None:
    concepts, end = torch.randn(2000, D, generator=seeded()), torch.randn(D, generator=seeded(1))
    stopping, again = Stopping(D), Stopping(D)
    stopping.fit(concepts, end)
    again.load_state_dict(stopping.state_dict())
    rule = again.rule(repetition=True, min_concepts=3)
    assert rule is not None and rule.end is not None and rule.min_concepts == 3
    assert torch.equal(rule.end, end)
    assert rule.end_cosine == pytest.approx(calibrate_end(concepts, end))
    assert rule.repeat_cosine == pytest.approx(calibrate_repetition(concepts))
    by_default, never = again.rule(), again.rule(end=False)
    assert by_default is not None and by_default.repeat_cosine is None and never is None
    repeating = again.rule(end=False, repetition=True)
    assert repeating is not None and repeating.end is None


def test_a_model_that_has_not_learnt_to_end_says_so_if_asked() -> None:
    stopping = Stopping(D)
    with pytest.raises(ValueError, match="has not been measured"):
        stopping.rule(repetition=True)
    stopping.fit(torch.randn(50, D, generator=seeded()))
    assert stopping.rule() is None
    assert stopping.rule(repetition=True) is not None
    with pytest.raises(ValueError, match="has not learnt where texts end"):
        stopping.rule(end=True)
