import copy

import pytest
import torch

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.regression import RegressionHead
from lcm.model import ConceptModel
from lcm.whitening import WhiteningNormalizer, moments

N, D = 2000, 6


@pytest.fixture
def concepts(generator: torch.Generator) -> torch.Tensor:
    """Correlated concepts (N, D) around 3, float32."""
    mixing = torch.randn(D, D, generator=generator) + torch.eye(D)
    return torch.randn(N, D, generator=generator) @ mixing + 3


def covariance(x: torch.Tensor) -> torch.Tensor:
    return torch.cov(x.double().T, correction=0)


def fitted(concepts: torch.Tensor, **options: float) -> WhiteningNormalizer:
    normalizer = WhiteningNormalizer(concepts.shape[-1], **options)
    normalizer.fit(concepts)
    return normalizer


@pytest.mark.parametrize("options", [{}, {"strength": 0.4}, {"floor": 0.5, "shrinkage": 0.3}], ids=str)
def test_round_trip_returns_the_raw_concept(concepts: torch.Tensor, options: dict[str, float]) -> None:
    normalizer = fitted(concepts, **options)
    x = normalizer(concepts.view(20, 100, D))
    assert x.shape == (20, 100, D) and x.dtype == torch.float32
    torch.testing.assert_close(normalizer.inverse(x).view(N, D), concepts, atol=1e-5, rtol=1e-5)


def test_without_floor_and_shrinkage_the_covariance_is_the_identity(concepts: torch.Tensor) -> None:
    x = fitted(concepts, floor=1e-9, shrinkage=0.0)(concepts)
    torch.testing.assert_close(covariance(x), torch.eye(D).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.mean(0), torch.zeros(D), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"strength": 0.3}, {"strength": 0.0}, {"floor": 2.0}], ids=str)
def test_the_mean_variance_is_one(concepts: torch.Tensor, options: dict[str, float]) -> None:
    variance = covariance(fitted(concepts, **options)(concepts)).diagonal().mean()
    torch.testing.assert_close(variance, torch.ones(()).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"shrinkage": 1.0}, {"floor": 100.0}], ids=str)
def test_no_strength_full_shrinkage_or_a_high_floor_only_scale(
    concepts: torch.Tensor, options: dict[str, float]
) -> None:
    expected = concepts - concepts.double().mean(0).float()
    expected = expected / covariance(concepts).diagonal().mean().sqrt().float()
    torch.testing.assert_close(fitted(concepts, **options)(concepts), expected, atol=1e-4, rtol=1e-4)


def test_it_is_a_symmetric_root_so_turning_the_concepts_turns_x(
    concepts: torch.Tensor, generator: torch.Generator
) -> None:
    turn = torch.linalg.qr(torch.randn(D, D, generator=generator)).Q
    torch.testing.assert_close(
        fitted(concepts @ turn)(concepts @ turn), fitted(concepts)(concepts) @ turn, atol=1e-3, rtol=1e-3
    )


def test_a_floor_keeps_what_hardly_varies_small(generator: torch.Generator) -> None:
    concepts = torch.randn(N, 4, generator=generator) * torch.tensor([1.0, 1.0, 1.0, 1e-3]) + 2
    variance = covariance(fitted(concepts, floor=0.1, shrinkage=0.0)(concepts)).diagonal()
    assert variance[3] < 1e-4
    torch.testing.assert_close(variance[:3], torch.full((3,), 4 / 3).double(), atol=0.01, rtol=0)


def test_unit_vectors_with_two_constant_dimensions(generator: torch.Generator) -> None:
    direction = torch.nn.functional.normalize(torch.randn(300, 14, generator=generator), dim=-1)
    concepts = torch.cat((direction, torch.full((300, 1), 0.03), torch.zeros(300, 1)), dim=-1)
    normalizer = fitted(concepts)
    x = normalizer(concepts)
    assert x.abs().max() < 10
    assert x[:, 14:].abs().max() < 1e-5
    torch.testing.assert_close(normalizer.inverse(x), concepts, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("num", [5, 40, 9000])
def test_shrinkage_and_covariance_are_those_of_scikit_learn(num: int, generator: torch.Generator) -> None:
    covariances = pytest.importorskip("sklearn.covariance")
    concepts = torch.randn(num, 7, generator=generator) * torch.linspace(0.5, 3, 7) + 100
    mean, found, shrinkage = moments(concepts)
    expected, share = covariances.ledoit_wolf(concepts.double().numpy())
    assert shrinkage == pytest.approx(share, rel=1e-6)
    mixed = torch.lerp(found, found.trace() / 7 * torch.eye(7).double(), shrinkage)
    torch.testing.assert_close(mixed, torch.from_numpy(expected))
    torch.testing.assert_close(mean, concepts.double().mean(0))


def test_fewer_concepts_than_dimensions_are_enough(generator: torch.Generator) -> None:
    concepts = torch.randn(5, 16, generator=generator)
    normalizer = fitted(concepts)
    torch.testing.assert_close(normalizer.inverse(normalizer(concepts)), concepts, atol=1e-5, rtol=1e-5)


def test_autocast_changes_nothing(concepts: torch.Tensor) -> None:
    normalizer = fitted(concepts)
    x = normalizer(concepts)
    raw = normalizer.inverse(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(normalizer(concepts), x)
        assert torch.equal(normalizer.inverse(x), raw)


def test_unfitted_and_constant_concepts_are_errors() -> None:
    with pytest.raises(ValueError, match="has not been fitted"):
        WhiteningNormalizer(3)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="do not vary"):
        WhiteningNormalizer(3).fit(torch.full((50, 3), 0.1))
    with pytest.raises(ValueError, match="at least 2"):
        WhiteningNormalizer(3).fit(torch.ones(1, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": 0.0}, "floor must be above 0"),
        ({"shrinkage": 1.5}, r"shrinkage must be in \[0, 1\], found 1.5"),
        ({"strength": -0.1}, r"strength must be in \[0, 1\], found -0.1"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WhiteningNormalizer(3, **options)


def test_a_model_takes_it_and_its_state_carries_it(concepts: torch.Tensor) -> None:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=16, num_layers=1, num_heads=2, dropout=0.0)
    model = ConceptModel(D, backbone, RegressionHead(D, 16), normalizer=WhiteningNormalizer(D))
    other = copy.deepcopy(model)
    model.fit(concepts)
    other.load_state_dict(model.state_dict())
    batch = ConceptBatch.pad([concepts[:5], concepts[5:12]], [torch.zeros(5).long(), torch.zeros(7).long()])
    torch.testing.assert_close(other.eval().predict(batch), model.eval().predict(batch))
    with pytest.raises(ValueError, match="width 5, the model for 6"):
        ConceptModel(D, backbone, RegressionHead(D, 16), normalizer=WhiteningNormalizer(5))
