"""What a denoiser's network may predict, and how much each noise level counts in its loss."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Prediction(ABC):
    """A way to read a network's output as x0.

    Every loss of this family is a weighted squared error of x0, so a prediction is two functions: the x0 of an output,
    and the weight that turns the error of that x0 into the error of the output.
    """

    divides_by_alpha = False  # such a prediction says nothing about x0 where there is only noise

    @abstractmethod
    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """X0 (..., D) from the output and x_t, both (..., D), at levels alpha and sigma (..., 1).

        It must be linear in both, without a constant: Denoiser.to_x0() relies on it.
        """

    @abstractmethod
    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Squared error of the output over that of x0, at levels alpha and sigma (...)."""


class X0Prediction(Prediction):
    """The network predicts the data itself; all of Meta's real models do (arXiv:2412.08821)."""

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the output."""
        return output

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(alpha)


class VPrediction(Prediction):
    """The network predicts v = alpha noise - sigma x0 (arXiv:2202.00512, Appendix D)."""

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return alpha x_t - sigma v."""
        return alpha * x_t - sigma * output

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return 1 / sigma^2."""
        return 1 / sigma**2


class EpsilonPrediction(Prediction):
    """The network predicts the noise (arXiv:2006.11239); needs a schedule that never reaches pure noise."""

    divides_by_alpha = True

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return (x_t - sigma noise) / alpha."""
        return (x_t - sigma * output) / alpha

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the SNR, alpha^2 / sigma^2."""
        return alpha**2 / sigma**2


class ClampedSNR:
    """Loss weight of the squared error of x0: the SNR alpha^2 / sigma^2, clamped.

    A minimum of 0 is Min-SNR-gamma, gamma being the maximum (arXiv:2303.09556). Meta's LCM tried (0, 10) and (0.001, 5)
    for x0 prediction (arXiv:2412.08821, Tables 5 and 6). At high noise, where sampling starts, little weight remains.

    Args:
        minimum: least weight, that of pure noise.
        maximum: greatest weight, that of low noise.
    """

    def __init__(self, minimum: float = 0.0, maximum: float = 5.0) -> None:
        if not 0 <= minimum < maximum < float("inf"):
            raise ValueError(f"weights must be 0 <= minimum < maximum, and finite, found {minimum} and {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Weight at levels alpha and sigma (...)."""
        return (alpha**2 / sigma**2).clamp(self.minimum, self.maximum)
