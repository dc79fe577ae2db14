from itertools import pairwise

import pytest
import torch

from lcm.residual_quantizer import ResidualQuantizer

pytest.importorskip("faiss", reason="faiss is an extra")

N, D, M, U = 600, 7, 4, 16


@pytest.fixture
def x(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(N, D, generator=generator) * torch.linspace(0.3, 2, D)


@pytest.fixture
def quantizer(x: torch.Tensor) -> ResidualQuantizer:
    quantizer = ResidualQuantizer(D, M, U)
    quantizer.fit(x)
    return quantizer


def test_each_codebook_brings_the_sum_nearer(
    quantizer: ResidualQuantizer, x: torch.Tensor, generator: torch.Generator
) -> None:
    unseen = torch.randn(N, D, generator=generator) * torch.linspace(0.3, 2, D)
    for some in (x, unseen):
        units = quantizer.encode(some)
        assert units.shape == (N, M)
        errors = [(quantizer.decode(units[:, :k]) - some).square().mean().item() for k in range(M + 1)]
        assert all(after < 0.8 * before for before, after in pairwise(errors)), errors


def test_units_are_the_nearest_centroids_of_what_is_left_over(quantizer: ResidualQuantizer, x: torch.Tensor) -> None:
    left = x.clone()
    for k, unit in enumerate(quantizer.encode(x).unbind(-1)):
        assert torch.equal(unit, torch.cdist(left.double(), quantizer.codebooks[k].double()).argmin(-1))
        left = left - quantizer.codebooks[k][unit]


def test_a_sum_of_centroids_that_lie_apart_has_these_units() -> None:
    quantizer = ResidualQuantizer(D, M, 2 * D)
    axes = torch.cat((torch.eye(D), -torch.eye(D)))
    quantizer.codebooks.copy_(torch.stack([axes * 10.0**-k for k in range(M)]))
    quantizer.fitted.fill_(True)
    units = torch.randint(2 * D, (5, 3, M), generator=torch.Generator().manual_seed(1))
    assert torch.equal(quantizer.encode(quantizer.decode(units)), units)


def test_a_depth_stops_the_sum(quantizer: ResidualQuantizer, x: torch.Tensor) -> None:
    units = quantizer.encode(x[: M + 1])
    found = quantizer.decode(units, torch.arange(M + 1))
    for k in range(M + 1):
        torch.testing.assert_close(found[k], quantizer.decode(units[k, :k]))
    assert not found[0].any()


def test_a_single_codebook_is_k_means(x: torch.Tensor) -> None:
    quantizer = ResidualQuantizer(D, 1, U)
    quantizer.fit(x, num_iterations=100)
    units = quantizer.encode(x)[:, 0]
    means = torch.stack([x[units == unit].mean(0) for unit in range(U)])
    torch.testing.assert_close(quantizer.codebooks[0], means, atol=1e-4, rtol=0)  # Lloyd's fixed point


def test_the_same_concepts_give_the_same_codebooks(quantizer: ResidualQuantizer, x: torch.Tensor) -> None:
    again, other = ResidualQuantizer(D, M, U), ResidualQuantizer(D, M, U)
    again.fit(x)
    other.fit(x, seed=7)
    assert torch.equal(again.codebooks, quantizer.codebooks)
    assert not torch.equal(other.codebooks, quantizer.codebooks)


def test_autocast_changes_no_unit(quantizer: ResidualQuantizer, x: torch.Tensor) -> None:
    units = quantizer.encode(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.encode(x), units)


def test_a_state_holds_the_codebooks(quantizer: ResidualQuantizer, x: torch.Tensor) -> None:
    again = ResidualQuantizer(D, M, U)
    again.load_state_dict(quantizer.state_dict())
    assert again.fitted
    assert torch.equal(again.encode(x), quantizer.encode(x))


def test_sentences_that_return_are_no_trouble() -> None:
    x = torch.eye(D).repeat(9, 1)
    quantizer = ResidualQuantizer(D, 2, 16)  # more units than there are different concepts
    quantizer.fit(x)
    torch.testing.assert_close(quantizer.decode(quantizer.encode(x)), x, atol=1e-2, rtol=0)


def test_what_cannot_be_fitted_is_an_error(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="16 units cannot be learnt from 15 concepts"):
        ResidualQuantizer(D, M, U).fit(x[:15])
    with pytest.raises(ValueError, match="have not been fitted"):
        ResidualQuantizer(D, M, U).encode(x)
    with pytest.raises(ValueError, match="found 0 and 16"):
        ResidualQuantizer(D, 0, 16)
