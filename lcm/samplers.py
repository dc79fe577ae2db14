"""Samplers: functions that carry noise to data along falling times, calling a denoiser at each."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from lcm.diffusion import Denoise, Schedule


class Sampler(Protocol):
    """Carries noise x (..., D) to data.

    A perfect denoiser, one that knows the data, is recovered in any number of steps by every sampler here.
    """

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        times: Iterable[Tensor],
        schedule: Schedule,
        *,
        epsilon_scale: float = 1.0,
    ) -> Tensor:
        """Return data (..., D).

        Args:
            denoise: predicts x0 (..., D) from x_t (..., D) and t (...).
            x: the start, normally Gaussian noise.
            times: falling, normally from 1 to 0; all but the last must have noise.
            schedule: t -> alpha, sigma.
            epsilon_scale: divides the noise that x still holds, for a network sees more of it in sampling than it did
                in training (arXiv:2308.15321); after x0 is formed, as in Meta's LCM, which takes 1.00045.
        """


def advance(
    x: Tensor, x0: Tensor, level: tuple[Tensor, Tensor], following: tuple[Tensor, Tensor], epsilon_scale: float
) -> Tensor:
    """Carry x (..., D) from one level (alpha, sigma) to the following as if x0 (..., D) were the data.

    This is the step of DDIM without fresh noise (arXiv:2010.02502, Eq. 12). The samplers differ in the x0 they follow.
    """
    alpha, sigma = level
    noise = (x - alpha * x0) / sigma
    alpha, sigma = following
    return alpha * x0 + sigma * (noise / epsilon_scale)


def ddim(
    denoise: Denoise, x: Tensor, times: Iterable[Tensor], schedule: Schedule, *, epsilon_scale: float = 1.0
) -> Tensor:
    """Follow each prediction for one step: first order, one call of the denoiser a step (arXiv:2010.02502)."""
    for t, s in pairwise(times):
        x0 = denoise(x, t.expand(x.shape[:-1]))
        x = advance(x, x0, schedule(t), schedule(s), epsilon_scale)
    return x


def dpm_solver(
    denoise: Denoise, x: Tensor, times: Iterable[Tensor], schedule: Schedule, *, epsilon_scale: float = 1.0
) -> Tensor:
    """DPM-Solver++(2M): second order with one call of the denoiser a step (arXiv:2211.01095, Algorithm 2).

    It follows x0 as the last two predictions extrapolate it to the middle of the step, in units of log(alpha / sigma).
    A step from pure noise or to pure data is infinitely long in these units, and there it is DDIM's.
    """
    previous, previous_length = None, None
    for t, s in pairwise(times):
        level, following = schedule(t), schedule(s)
        length = (following[0] / following[1]).log() - (level[0] / level[1]).log()
        x0 = middle = denoise(x, t.expand(x.shape[:-1]))
        if previous is not None and previous_length is not None:
            share = (length / (2 * previous_length)).nan_to_num(0.0, posinf=0.0)  # of the last change of x0
            middle = x0 + share * (x0 - previous)
        x = advance(x, middle, level, following, epsilon_scale)
        previous, previous_length = x0, length
    return x


def heun(
    denoise: Denoise, x: Tensor, times: Iterable[Tensor], schedule: Schedule, *, epsilon_scale: float = 1.0
) -> Tensor:
    """Follow the mean of the noise at both ends of a step: second order (arXiv:2206.00364, Algorithm 1).

    The first and the last step are DDIM's, for its coordinates x / alpha and sigma / alpha are infinite at pure noise,
    and data has no noise; n steps make 2 n - 2 calls of the denoiser, a single step makes one.
    """
    grid = list(times)
    x = ddim(denoise, x, grid[:2], schedule, epsilon_scale=epsilon_scale)
    for t, s in pairwise(grid[1:-1]):
        (alpha, sigma), (alpha_s, sigma_s) = level, following = schedule(t), schedule(s)
        x0 = denoise(x, t.expand(x.shape[:-1]))
        guess = advance(x, x0, level, following, 1.0)
        guess_x0 = denoise(guess, s.expand(x.shape[:-1]))
        noise = ((x - alpha * x0) / sigma + (guess - alpha_s * guess_x0) / sigma_s) / 2
        x = advance(x, (x - sigma * noise) / alpha, level, following, epsilon_scale)
    return ddim(denoise, x, grid[-2:], schedule, epsilon_scale=epsilon_scale) if len(grid) > 2 else x
