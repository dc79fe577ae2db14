import pytest
import torch
from torch.testing import assert_close

from lcm.baselines import last_concepts, ridge, sum_products

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
    assert_close(products.features, read.T @ read)
    assert_close(products.targets, read.T @ concepts[1:][kept].double())


def test_the_solution_is_that_of_scikit_learn(generator: torch.Generator) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    made = documents(torch.eye(D) * 0.5, 1.0, generator)
    products = sum_products(made, torch.zeros(D), 2)
    read = torch.cat([last_concepts(concepts, 2) for concepts, _ in made]).double()
    true = torch.cat([concepts[1:] for concepts, _ in made]).double()
    penalty = 0.3 * products.features.diagonal().mean().item()
    reference = linear_model.Ridge(alpha=penalty, fit_intercept=False).fit(read.numpy(), true.numpy())
    assert_close(products.solve(0.3), torch.from_numpy(reference.coef_.T))
    error = (read @ products.solve(0.3) - true).square().sum() - true.square().sum()
    assert products.error(products.solve(0.3)) == pytest.approx(error.item())


def test_one_document_is_an_error(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="found 1 and 8"):
        ridge(documents(torch.eye(D), 1.0, generator, num=1))
