import pytest
import torch

from lcm.normalizer import Normalizer


def test_round_trip_returns_the_raw_concept(generator: torch.Generator) -> None:
    concepts = torch.randn(100, 7, generator=generator) * 3 + 5
    normalizer = Normalizer(7)
    normalizer.fit(concepts)
    torch.testing.assert_close(normalizer.inverse(normalizer(concepts)), concepts)


def test_gaussian_data_has_unit_deviation_and_heavy_tails_do_not_matter(generator: torch.Generator) -> None:
    concepts = torch.randn(20_000, 5, generator=generator) * torch.tensor([0.5, 1.0, 2.0, 3.0, 0.7])
    normalizer = Normalizer(5)
    normalizer.fit(concepts)
    torch.testing.assert_close(normalizer(concepts).std(0), torch.ones(5), atol=0.03, rtol=0)
    scale = normalizer.scale.clone()
    concepts[:20] = 1e6
    normalizer.fit(concepts)
    torch.testing.assert_close(normalizer.scale, scale, atol=0, rtol=0.02)


def test_a_dead_dimension_gets_the_floor(generator: torch.Generator) -> None:
    concepts = torch.randn(1000, 3, generator=generator)
    concepts[:, 1] = 4.0
    normalizer = Normalizer(3, floor=0.1)
    normalizer.fit(concepts)
    assert normalizer.scale[1] == pytest.approx(0.1 * normalizer.scale.median().item(), rel=0.1)
    assert normalizer(concepts)[:, 1].abs().max() == 0


def test_unfitted_and_constant_concepts_are_errors() -> None:
    with pytest.raises(ValueError, match="has not been fitted"):
        Normalizer(3)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="do not vary"):
        Normalizer(3).fit(torch.full((50, 3), 0.1))
    with pytest.raises(ValueError, match="at least 2"):
        Normalizer(3).fit(torch.ones(1, 3))


def test_sparse_concepts_are_scaled_by_their_deviation(generator: torch.Generator) -> None:
    concepts = torch.randn(200, 4, generator=generator) * (torch.rand(200, 4, generator=generator) < 0.1)
    normalizer = Normalizer(4)
    normalizer.fit(concepts)
    torch.testing.assert_close(normalizer(concepts).std(0), torch.ones(4), atol=1e-4, rtol=0)
