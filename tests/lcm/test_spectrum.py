import pytest
import torch

from lcm.spectrum import dims_for, effective_rank, eigenvalues


def test_the_effective_rank_of_isotropic_concepts_is_their_width() -> None:
    axes = torch.cat([torch.eye(6), -torch.eye(6)])  # equal variance along every axis
    assert effective_rank(eigenvalues(axes + 3)) == pytest.approx(6)


def test_the_effective_rank_of_a_line_is_one() -> None:
    line = torch.arange(9.0)[:, None] * torch.tensor([[1.0, -2.0, 0.5, 4.0]])
    assert effective_rank(eigenvalues(line)) == pytest.approx(1, abs=1e-6)


def test_a_rotation_changes_nothing_and_a_scale_neither(generator: torch.Generator) -> None:
    concepts = torch.randn(50, 5, generator=generator) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5])
    turned = concepts @ torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    assert effective_rank(eigenvalues(7 * turned)) == pytest.approx(effective_rank(eigenvalues(concepts)), rel=1e-5)


def test_dimensions_that_hold_a_share_of_the_variance() -> None:
    values = torch.tensor([6.0, 3.0, 1.0, 0.0])
    assert [dims_for(values, share) for share in (0.5, 0.6, 0.61, 0.9, 0.99, 1.0)] == [1, 1, 2, 2, 3, 3]


def test_one_concept_has_no_spectrum() -> None:
    with pytest.raises(ValueError, match="at least 2 concepts"):
        eigenvalues(torch.ones(1, 3))
