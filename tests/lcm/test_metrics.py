import math

import pytest
import torch
from torch.testing import assert_close

from lcm.metrics import (
    Interval,
    contrastive_accuracy,
    copy_last,
    corpus_mean,
    cosine,
    energy_score,
    l2,
    mean_interval,
    prior_alignment,
    recall_at,
    retrieval_ranks,
    running_mean,
)


def concepts(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_perfect_prediction_is_perfect() -> None:
    true = concepts(11, 7)
    predicted = true[3:]
    assert_close(l2(predicted, true), torch.zeros(8, dtype=torch.float64))
    assert_close(cosine(predicted, true), torch.ones(8, dtype=torch.float64))
    assert_close(contrastive_accuracy(predicted, true), torch.ones(8, dtype=torch.float64))
    assert_close(retrieval_ranks(predicted, true, concepts(50, 7, seed=1)), torch.ones(8, dtype=torch.float64))
    assert recall_at(1, retrieval_ranks(predicted, true, true)).mean() == 1


def test_a_random_prediction_is_at_chance() -> None:
    true, predicted = concepts(400, 16), concepts(400, 16, seed=1)
    assert abs(contrastive_accuracy(predicted, true).mean() - 0.5) < 0.05
    ranks = retrieval_ranks(predicted, true, concepts(99, 16, seed=2))
    assert abs(ranks.mean() - 50.5) < 5  # uniform over 1 to 100
    assert abs(recall_at(10, ranks).mean() - 0.1) < 0.05


def test_contrastive_accuracy_equals_its_definition() -> None:
    true, predicted = concepts(9, 5), concepts(6, 5, seed=1)
    expected = []
    for p in range(6):
        n = p + 3
        own = (predicted[p] - true[n]).norm()
        others = [m for m in range(9) if abs(m - n) > 1]
        expected.append(sum((predicted[p] - true[m]).norm() > own for m in others) / len(others))
    assert_close(contrastive_accuracy(predicted, true), torch.tensor(expected, dtype=torch.float64))


def test_ranks_equal_their_definition() -> None:
    true, predicted, pool = concepts(9, 5), concepts(6, 5, seed=1), concepts(13, 5, seed=2)
    nearer = torch.cdist(predicted, pool) < (predicted - true[3:]).norm(dim=-1, keepdim=True)
    assert_close(retrieval_ranks(predicted, true, pool), 1 + nearer.sum(-1).double())
    with_true = torch.cat([pool, true])
    nearer = torch.cdist(predicted, with_true) < (predicted - true[3:]).norm(dim=-1, keepdim=True) - 1e-6
    assert_close(retrieval_ranks(predicted, true, with_true), 1 + nearer.sum(-1).double())


@pytest.mark.parametrize("block", [1, 4, 1024])
def test_blocks_change_nothing(block: int) -> None:
    true, predicted, pool = concepts(9, 5), concepts(6, 5, seed=1), concepts(13, 5, seed=2)
    assert_close(contrastive_accuracy(predicted, true, block=block), contrastive_accuracy(predicted, true))
    assert_close(retrieval_ranks(predicted, true, pool, block=block), retrieval_ranks(predicted, true, pool))


def test_ties_count_one_half() -> None:
    constant = torch.ones(8, 3)
    assert_close(contrastive_accuracy(constant, constant), torch.full((8,), 0.5, dtype=torch.float64))
    corners = torch.eye(6)  # all equally far from the origin
    assert_close(retrieval_ranks(torch.zeros(1, 6), corners, corners), torch.tensor([1 + 5 / 2], dtype=torch.float64))


def test_a_far_offset_and_half_precision_do_not_blur_ranks() -> None:
    true = concepts(40, 8) * 1e-2
    predicted = true + 1e-4 * concepts(40, 8, seed=1)
    assert contrastive_accuracy(predicted + 10, true + 10).mean() == 1
    assert contrastive_accuracy(true.half(), true.half()).mean() == 1


def test_short_documents() -> None:
    for length in (1, 2, 3):
        true = concepts(length, 4)
        assert contrastive_accuracy(true, true)[length // 2].isnan()
        assert len(running_mean(true)) == len(copy_last(true)) == len(corpus_mean(true[0])(true)) == length - 1
        assert contrastive_accuracy(copy_last(true), true).shape == l2(copy_last(true), true).shape == (length - 1,)
        assert retrieval_ranks(copy_last(true), true, true).shape == (length - 1,)


def test_predictions_that_are_not_finite_are_an_error() -> None:
    true = concepts(4, 3)
    with pytest.raises(ValueError, match="not finite; the model has diverged"):
        retrieval_ranks(true * math.nan, true, true)


def test_baselines_are_what_they_say_and_causal() -> None:
    document = concepts(9, 5)
    assert_close(copy_last(document), document[:-1])
    assert_close(running_mean(document), torch.stack([document[:n].mean(0) for n in range(1, 9)]))
    mean = concepts(5, seed=3)
    assert_close(corpus_mean(mean)(document), mean.expand(8, 5))
    for n in range(1, 9):
        changed = document.clone()
        changed[n:] = 7.0
        for baseline in (copy_last, running_mean, corpus_mean(mean)):
            assert torch.equal(baseline(document)[:n], baseline(changed)[:n])


def test_the_corpus_mean_cannot_tell_concepts_apart() -> None:
    true = concepts(300, 8)
    accuracy = contrastive_accuracy(corpus_mean(true.mean(0))(true), true)
    assert abs(accuracy.mean() - 0.5) < 0.01


def test_the_interval_covers_the_mean_of_correlated_documents() -> None:
    """Documents of unequal length with a value of their own: 95 % of the intervals hold the mean, naive ones do not."""
    generator = torch.Generator().manual_seed(0)
    covered = naive = 0
    for _ in range(1000):
        lengths = torch.randint(5, 60, (12,), generator=generator).tolist()
        documents = [torch.randn(1, generator=generator) + torch.randn(n, generator=generator) for n in lengths]
        interval = mean_interval(documents)
        covered += abs(interval.mean) <= interval.half_width
        naive += abs(interval.mean) <= 1.96 * float(torch.cat(documents).std()) / math.sqrt(sum(lengths))
    assert 0.92 < covered / 1000 < 0.97
    assert naive / 1000 < 0.6


def test_the_interval_of_documents_of_one_value_is_students() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    interval = mean_interval([value[None] for value in values])
    assert_close(interval.mean, 4.0)
    assert_close(interval.half_width, 3.182 * float(values.std()) / 2)


@pytest.mark.parametrize(("documents", "t"), [(12, 2.2010), (21, 2.0860), (61, 2.0003), (1001, 1.9623)])
def test_students_t(documents: int, t: float) -> None:
    values = concepts(documents).double()
    interval = mean_interval(list(values[:, None]))
    assert_close(interval.half_width, t * float(values.std()) / math.sqrt(documents), rtol=3e-4, atol=0)


def test_positions_without_a_measure_are_not_counted() -> None:
    nan = math.nan
    interval = mean_interval([torch.tensor([1.0, nan, 3.0]), torch.tensor([nan]), torch.tensor([2.0])])
    assert (interval.mean, interval.num_positions, interval.num_documents) == (2.0, 3, 2)
    with pytest.raises(ValueError, match="no positions to average"):
        mean_interval([torch.tensor([nan])])


@pytest.mark.parametrize(
    ("mean", "half_width", "text"),
    [
        (0.71234, 0.01299, "0.712 ± 0.013"),
        (0.71234, 0.0029, "0.712 ± 0.003"),
        (0.71234, 0.12, "0.71 ± 0.12"),
        (123.456, 2.345, "123.5 ± 2.3"),
        (12345.6, 321.0, "12346 ± 321"),
        (0.00052, 0.00041, "0.00052 ± 0.00041"),
        (0.5, 0.0, "0.500 ± 0.000"),
        (0.5, math.nan, "0.500"),
    ],
)
def test_an_interval_reads_with_the_digits_that_count(mean: float, half_width: float, text: str) -> None:
    assert str(Interval(mean, half_width, 100, 10)) == text


def test_measures_at_positions_are_those_of_all_taken_there() -> None:
    true, predicted, pool = concepts(9, 5), concepts(8, 5, seed=1), concepts(13, 5, seed=2)
    at = torch.tensor([7, 2, 2, 5])
    some = predicted[at - 1]
    assert_close(l2(some, true, at), l2(predicted, true)[at - 1])
    assert_close(cosine(some, true, at), cosine(predicted, true)[at - 1])
    assert_close(contrastive_accuracy(some, true, at), contrastive_accuracy(predicted, true)[at - 1])
    assert_close(retrieval_ranks(some, true, pool, at), retrieval_ranks(predicted, true, pool)[at - 1])
    assert_close(prior_alignment(some, true, at), prior_alignment(predicted, true)[at - 1], equal_nan=True)


def test_the_energy_score_equals_its_definition() -> None:
    samples, x = concepts(4, 3, 5), concepts(3, 5, seed=1)
    for p in range(3):
        distance = sum((samples[n, p] - x[p]).norm() for n in range(4)) / 4
        spread = sum((samples[n, p] - samples[m, p]).norm() for n in range(4) for m in range(4) if m != n) / 12
        expected = (distance - spread / 2) / 5**0.5
        assert_close(energy_score(samples, x)[p].float(), expected)
    assert_close(energy_score(samples[:1], x), l2(samples[0], x) / 5**0.5)


def test_the_energy_score_is_best_for_draws_of_the_truth() -> None:
    x = concepts(4000, 6, seed=3) + 1
    scores = {
        name: energy_score(draws, x).mean()
        for name, draws in {
            "truth": concepts(8, 4000, 6) + 1,
            "too tame": 0.5 * concepts(8, 4000, 6) + 1,
            "too wild": 1.5 * concepts(8, 4000, 6) + 1,
            "shifted": concepts(8, 4000, 6) + 1.5,
            "the mean": torch.ones(1, 4000, 6),
        }.items()
    }
    assert min(scores, key=scores.__getitem__) == "truth", scores


def test_prior_alignment_equals_its_definition() -> None:
    true, predicted = concepts(9, 5), concepts(6, 5, seed=1)
    found = prior_alignment(predicted, true)
    for p in range(6):
        before = true[: p + 3]
        largest = torch.cosine_similarity(true[p + 3], before).max()
        expected = torch.cosine_similarity(predicted[p], before).max() / largest
        assert found[p].isnan() if largest < 0.1 else torch.isclose(found[p].float(), expected)
    assert found.isfinite().any()


def test_who_copies_has_a_prior_alignment_above_one_and_the_author_has_one() -> None:
    true = concepts(30, 4)
    kept = prior_alignment(true[1:], true)
    assert_close(kept[~kept.isnan()], torch.ones(int((~kept.isnan()).sum()), dtype=torch.float64))
    copied = prior_alignment(copy_last(true), true)
    assert copied[~copied.isnan()].min() > 1
    assert prior_alignment(true, true)[0].isnan()  # nothing is before the first
