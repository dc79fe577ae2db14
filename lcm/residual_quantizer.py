"""Residual vector quantisation: an x as a few units, from coarse to fine."""

from typing import Any

import torch
from torch import Tensor, nn


class ResidualQuantizer(nn.Module):
    """Name x by M units, one of each codebook: x (..., D) <-> units (..., M).

    Codebook k holds U centroids of what codebooks 1 to k - 1 have left over, so the sum of the first k centroids is an
    ever finer picture of x (RVQ, arXiv:2107.03312, section III-C). Trained level by level by k-means in growing numbers
    of principal directions (improved RVQ, arXiv:1509.05195, faiss), searched greedily (beam 1), all as Quant-LCM does
    (arXiv:2412.08821, section 2.3.5).

    Args:
        dim: width D of x.
        num_codebooks: M, units a concept.
        num_units: U, centroids a codebook; at least as many concepts are needed to fit them.
    """

    codebooks: Tensor
    fitted: Tensor

    def __init__(self, dim: int, num_codebooks: int = 16, num_units: int = 64) -> None:
        super().__init__()
        if num_codebooks < 1 or num_units < 2:
            raise ValueError(
                f"need num_codebooks of 1 or more and num_units of 2 or more, found {num_codebooks} and {num_units}"
            )
        self.dim, self.num_codebooks, self.num_units = dim, num_codebooks, num_units
        self.register_buffer("codebooks", torch.zeros(num_codebooks, num_units, dim))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, x: Tensor, *, num_iterations: int = 10, seed: int = 0) -> None:
        """Set the codebooks from normalised x (N, D), N >= U; the same x and seed give the same codebooks.

        Args:
            x: concepts to learn from. A codebook takes no more than 256 U of them.
            num_iterations: of k-means at each number of directions.
            seed: of the first centroids.
        """
        assert x.ndim == 2 and x.shape[1] == self.dim, (x.shape, self.dim)
        if len(x) < self.num_units:
            raise ValueError(
                f"{self.num_units} units cannot be learnt from {len(x)} concepts; encode a larger corpus or lower "
                "num_units"
            )
        residual = x.float().clone()
        for index in range(self.num_codebooks):
            centroids = cluster(residual, self.num_units, num_iterations=num_iterations, seed=seed + index)
            self.codebooks[index] = centroids.to(self.codebooks.device)
            for some in residual.split(8192):  # a table of distances for each row would not fit
                some -= self.codebooks[index][self.closeness(some, index).argmax(-1)]
        self.fitted.fill_(True)

    def closeness(self, residual: Tensor, index: int | Tensor) -> Tensor:
        """Minus the squared distance (..., U) of residual (..., D) to each centroid of a codebook, plus its own square.

        What is added is the same for all centroids, so the order and a softmax are those of the distances.
        """
        codebook = self.codebooks[index]
        with torch.autocast(residual.device.type, enabled=False):  # bfloat16 cannot tell neighbours apart
            return 2 * residual.float() @ codebook.mT - codebook.square().sum(-1)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """X (..., D) -> units (..., M), each the nearest to what those before it have left over."""
        if not self.fitted:
            raise ValueError('the codebooks have not been fitted; run "lcm fit", or call fit(x)')
        residual, units = x.float(), []
        for index in range(self.num_codebooks):
            units.append(self.closeness(residual, index).argmax(-1))
            residual = residual - self.codebooks[index][units[-1]]
        return torch.stack(units, dim=-1)

    def decode(self, units: Tensor, depth: Tensor | None = None) -> Tensor:
        """Units (..., k), k <= M -> the sum x (..., D) of their centroids, or of the first depth (...) of them."""
        x = self.codebooks.new_zeros(*units.shape[:-1], self.dim)
        for index, unit in enumerate(units.unbind(-1)):
            centroid = self.codebooks[index][unit]
            x = x + (centroid if depth is None else centroid * (index < depth)[..., None])
        return x


def cluster(x: Tensor, num: int, *, num_iterations: int, seed: int) -> Tensor:
    """Return the centroids (num, D) of x (N, D) by k-means, on GPUs where faiss has some."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            'a quantised head needs faiss to be fitted: install the extra "cpu", or "gpu" on a machine with a GPU: '
            'pip install -e ".[cpu]"'
        ) from error
    options: dict[str, Any] = {"min_points_per_centroid": 1}  # faiss would print a warning
    kmeans = faiss.Kmeans(
        x.shape[1], num, niter=num_iterations, seed=seed, gpu=faiss.get_num_gpus(), progressive_dim_steps=10, **options
    )
    kmeans.train(x.cpu().contiguous().numpy())
    assert kmeans.centroids is not None
    return torch.from_numpy(kmeans.centroids.copy())
