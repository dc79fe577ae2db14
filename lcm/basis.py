"""The plane in which trajectories are drawn: principal components of a corpus, shared by all its documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]
MIN_VARIANCE = 1e-12  # share of the squared length of a concept; below, all concepts are one


@dataclass(frozen=True)
class Basis:
    """Principal components of a cloud of concepts.

    Args:
        mean: (D,) centre of the cloud.
        axes: (C, D) orthonormal directions, by falling variance.
        explained: (C,) share of the total variance along each.
        encoder: fingerprint of the encoder whose concepts these are; empty if unknown.
    """

    mean: FloatArray
    axes: FloatArray
    explained: FloatArray
    encoder: str = ""

    def project(self, concepts: npt.ArrayLike) -> FloatArray:
        """Coordinates (S, C) of raw concepts (S, D).

        Raises:
            ValueError: the concepts have another width, so they come from another encoder.
        """
        points = np.asarray(concepts, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != len(self.mean):
            raise ValueError(f"concepts have shape {points.shape}, the basis needs (S, {len(self.mean)}); fit it again")
        return np.asarray((points - self.mean) @ self.axes.T, dtype=np.float32)


def fit_basis(concepts: npt.ArrayLike, *, num_components: int = 2, encoder: str = "", block: int = 65536) -> Basis:
    """Fit principal components to raw concepts (N, D).

    Exact, by the covariance in float64, a block of rows at a time: a memory-mapped store of any length will do, and the
    same concepts give the same basis. Each axis points to where its largest entry is positive.

    Args:
        concepts: (N, D), N > `num_components`, any float type.
        num_components: axes to keep, 2 for a plane.
        encoder: fingerprint to keep with the basis.
        block: rows converted at a time.

    Raises:
        ValueError: too few concepts, concepts that are not finite, or all the same.
    """
    rows = np.asarray(concepts)
    if rows.ndim != 2 or len(rows) <= num_components or rows.shape[1] < num_components:
        raise ValueError(f"concepts have shape {rows.shape}; {num_components} components need more rows than that")
    dim = rows.shape[1]
    blocks = [slice(start, start + block) for start in range(0, len(rows), block)]
    mean = sum((_float64(rows[part]).sum(0) for part in blocks), torch.zeros(dim, dtype=torch.float64)) / len(rows)
    if not mean.isfinite().all():
        raise ValueError("some concepts are not finite; encode the corpus again")
    scatter = torch.zeros(dim, dim, dtype=torch.float64)
    for part in blocks:
        centred = _float64(rows[part]) - mean
        scatter += centred.T @ centred
    variance, vectors = torch.linalg.eigh(scatter / len(rows))  # rising variance, vectors in columns
    total = variance.sum()
    if total <= MIN_VARIANCE * max(float(mean.square().sum()), 1e-30):
        raise ValueError("all concepts are the same; a basis needs different sentences")
    axes = vectors.T.flip(0)[:num_components]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    explained = (variance.flip(0)[:num_components] / total).clamp(min=0)
    axes = axes * largest.sign()
    mean, axes, explained = (part.float().contiguous() for part in (mean, axes, explained))
    return Basis(mean.numpy(), axes.numpy(), explained.numpy(), encoder)


def _float64(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows.astype(np.float64))
