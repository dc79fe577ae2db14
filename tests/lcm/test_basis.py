import numpy as np
import pytest
from numpy.testing import assert_allclose

from lcm.basis import fit_basis


def cloud(rows: int = 200, dim: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, dim)) * np.arange(1, dim + 1) + 5 * rng.normal(size=dim)).astype(np.float32)


def test_it_equals_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")  # comes with sentence-transformers
    concepts = cloud()
    reference = decomposition.PCA(3, svd_solver="full").fit(concepts.astype(np.float64))
    basis = fit_basis(concepts, num_components=3)
    assert_allclose(basis.explained, reference.explained_variance_ratio_, rtol=1e-5)
    assert_allclose(basis.mean, reference.mean_, rtol=1e-5)
    assert_allclose(np.abs(basis.axes @ reference.components_.T), np.eye(3), atol=1e-5)
    assert_allclose(np.abs(basis.project(concepts)), np.abs(reference.transform(concepts)), rtol=1e-3, atol=1e-4)


def test_blocks_order_and_sign_are_settled() -> None:
    concepts = cloud()
    basis = fit_basis(concepts)
    assert (basis.axes[np.arange(2), np.abs(basis.axes).argmax(1)] > 0).all()
    for other in (fit_basis(concepts, block=33), fit_basis(concepts[::-1])):
        assert_allclose(other.axes, basis.axes, atol=1e-5)
    mirrored = fit_basis(2 * basis.mean - concepts)
    assert_allclose(mirrored.axes, basis.axes, atol=1e-5)
    assert_allclose(basis.project(basis.mean[None]), np.zeros((1, 2)), atol=1e-6)


def test_half_precision_and_tensors_go_in() -> None:
    import torch

    concepts = cloud()
    assert_allclose(fit_basis(concepts.astype(np.float16)).explained, fit_basis(concepts).explained, rtol=1e-3)
    assert_allclose(fit_basis(torch.from_numpy(concepts)).axes, fit_basis(concepts).axes)


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        (np.zeros((2, 7)), r"shape \(2, 7\); 2 components need more rows"),
        (np.zeros(7), "need more rows"),
        (np.ones((9, 7)), "all concepts are the same"),
        (np.zeros((9, 7)), "all concepts are the same"),
        (np.full((9, 7), np.nan), "not finite"),
    ],
)
def test_clouds_without_a_basis(concepts: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_basis(concepts)


def test_concepts_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 5\), the basis needs \(S, 7\)"):
        fit_basis(cloud()).project(np.zeros((3, 5)))
