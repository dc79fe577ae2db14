import pytest
import torch
from torch.testing import assert_close

from data.store import ConceptStore
from lcm import metrics
from lcm.baselines import (
    BLOCK,
    choose_recent_mean,
    draw,
    fit_baselines,
    last_concepts,
    recent_mean,
    ridge,
    sum_products,
)

S, D = 40, 3
Documents = list[tuple[torch.Tensor, torch.Tensor]]


def documents(step: torch.Tensor, noise: float, generator: torch.Generator, num: int = 10) -> Documents:
    """Documents in which each concept is `step` applied to the one before, plus noise, around (5, 5, 5)."""
    made = []
    for _ in range(num):
        rows = [torch.randn(D, generator=generator)]
        while len(rows) < S:
            rows.append(step @ rows[-1] + noise * torch.randn(D, generator=generator))
        made.append((torch.stack(rows) + 5, torch.zeros(S, dtype=torch.long)))
    return made


def test_a_linear_process_is_recovered(generator: torch.Generator) -> None:
    step = torch.tensor([[0.0, -0.9, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, -0.8]])
    concepts, level = documents(step, 0.5, generator, num=1)[0]
    found = ridge(documents(step, 0.5, generator, num=50), num_concepts=2)(concepts, level)
    assert_close(found, (concepts[:-1] - 5) @ step.T + 5, atol=0.3, rtol=0)


def test_where_nothing_is_to_be_known_it_predicts_the_mean(generator: torch.Generator) -> None:
    made = documents(torch.zeros(D, D), 1.0, generator)
    predicted = ridge(made)(*made[0])
    assert predicted.shape == (S - 1, D)
    assert_close(predicted, torch.full((S - 1, D), 5.0), atol=0.4, rtol=0)


def test_a_prediction_sees_the_rows_before_it_the_nearest_first() -> None:
    concepts = torch.arange(1.0, 5.0)[:, None]
    assert last_concepts(concepts, 3).tolist() == [[1, 0, 0], [2, 1, 0], [3, 2, 1]]


def test_headings_are_read_and_not_fitted(generator: torch.Generator) -> None:
    concepts, level = documents(torch.eye(D), 0.1, generator, num=1)[0]
    level[3] = 2
    kept = torch.arange(S - 1) != 2
    read, mean = last_concepts(concepts, 2)[kept].double(), torch.zeros(D)
    products = sum_products([(concepts, level)], mean, 2)
    assert_close(products.features, read.T @ read, rtol=1e-5, atol=1e-3)  # multiplied in float32
    assert_close(products.targets, read.T @ concepts[1:][kept].double(), rtol=1e-5, atol=1e-3)


def test_the_solution_is_that_of_scikit_learn(generator: torch.Generator) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    made = documents(torch.eye(D) * 0.5, 1.0, generator)
    products = sum_products(made, torch.zeros(D), 2)
    read = torch.cat([last_concepts(concepts, 2) for concepts, _ in made]).double()
    true = torch.cat([concepts[1:] for concepts, _ in made]).double()
    penalty = 0.3 * products.features.diagonal().mean().item()
    reference = linear_model.Ridge(alpha=penalty, fit_intercept=False).fit(read.numpy(), true.numpy())
    assert_close(products.solve(0.3), torch.from_numpy(reference.coef_.T), rtol=1e-4, atol=1e-5)
    error = (read @ products.solve(0.3) - true).square().sum() - true.square().sum()
    assert products.error(products.solve(0.3)) == pytest.approx(error.item(), rel=1e-4)


def test_one_document_is_an_error(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="found 1 and 8"):
        ridge(documents(torch.eye(D), 1.0, generator, num=1))


def test_blocks_of_short_and_long_documents_sum_to_the_same(generator: torch.Generator) -> None:
    concepts = torch.randn(2 * BLOCK + 90, D, generator=generator)
    made = [(part, torch.zeros(len(part), dtype=torch.long)) for part in concepts.split([BLOCK + 60, 5, 20, BLOCK + 5])]
    products = sum_products(made, torch.zeros(D), 2)
    read = torch.cat([last_concepts(part, 2) for part, _ in made]).double()
    assert_close(products.features, read.T @ read, rtol=1e-5, atol=1e-2)
    assert_close(products.targets, read.T @ torch.cat([part[1:] for part, _ in made]).double(), rtol=1e-5, atol=1e-2)


def test_a_recent_mean_is_the_decayed_mean_less_the_running_mean(generator: torch.Generator) -> None:
    concepts, level = documents(torch.eye(D), 1.0, generator, num=1)[0]
    found = recent_mean(0.6, 0.25)(concepts, level)
    for n in (1, 2, 30):
        share = 0.6 ** torch.arange(n).flip(0)
        expected = (share[:, None] * concepts[:n]).sum(0) / share.sum() - 0.25 * concepts[:n].mean(0)
        assert_close(found[n - 1], expected, rtol=1e-4, atol=1e-4)


def test_the_ends_of_the_recent_mean_are_the_last_concept_and_the_running_mean(generator: torch.Generator) -> None:
    concepts, level = documents(torch.eye(D), 1.0, generator, num=1)[0]
    assert torch.equal(recent_mean(0.0, 0.0)(concepts, level), metrics.copy_last(concepts))
    assert_close(recent_mean(1 - 1e-6, 0.0)(concepts, level), metrics.running_mean(concepts), atol=1e-2, rtol=1e-3)
    with pytest.raises(ValueError, match=r"in \[0, 1\), found 1"):
        recent_mean(1.0, 0.0)


def test_a_recent_mean_sees_nothing_of_what_comes(generator: torch.Generator) -> None:
    concepts, level = documents(torch.eye(D), 1.0, generator, num=1)[0]
    changed = concepts.clone()
    changed[20:] += 1
    predict = recent_mean(0.7, 0.75)
    assert torch.equal(predict(changed, level)[:20], predict(concepts, level)[:20])
    assert not torch.isclose(predict(changed, level)[20:], predict(concepts, level)[20:]).any()


def test_what_is_chosen_beats_the_last_concept_where_documents_drift_around_a_theme(
    generator: torch.Generator,
) -> None:
    made = []
    for _ in range(5):  # a slow walk seen through noise, on top of what all rows of the document share
        walk = torch.randn(60, D, generator=generator).cumsum(0)
        seen = walk + 2 * torch.randn(60, D, generator=generator) + 9 * torch.randn(D, generator=generator)
        made.append((torch.nn.functional.normalize(seen, dim=-1), torch.zeros(60, dtype=torch.long)))
    decay, weight = choose_recent_mean(made)
    assert decay > 0 and weight > 0
    chosen, copied = (
        torch.cat([metrics.contrastive_accuracy(recent_mean(*choice)(*one), one[0]) for one in made]).mean()
        for choice in ((decay, weight), (0.0, 0.0))
    )
    assert chosen > copied + 0.03


def test_baselines_are_fitted_to_a_store_and_say_to_what(store: ConceptStore) -> None:
    fitted = fit_baselines([store])
    assert set(fitted.predictors) == {"recent mean", "ridge regression"}
    assert f"fitted to {len(store.split('train'))} of {len(store.split('train'))} training documents" in fitted.note
    assert f"best on {len(store.split('validation'))} validation documents" in fitted.note
    assert "fitted to 3 of" in fit_baselines([store], max_fitted=100).note  # a tale has 41 rows
    assert not fit_baselines([]).predictors


def test_documents_are_drawn_whole_with_a_seed_until_there_are_enough(store: ConceptStore) -> None:
    drawn, again, other = (draw([store], "train", 100, seed) for seed in (0, 0, 1))
    assert [len(concepts) for concepts, _ in drawn] == [41, 41, 41]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(drawn, again, strict=True))
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(drawn, other, strict=True))
