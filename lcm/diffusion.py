"""Noise: schedules, the embedding of time and classifier-free guidance. Time t is in [0, 1]; 0 is data, 1 is noise."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t (..., D), t (...)) -> x0 (..., D)
Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]  # t (...) -> alpha (...), sigma (...)


def grid_times(num_steps: int) -> Tensor:
    """Times i / T of a schedule with T steps, float64 (T + 1,)."""
    if num_steps < 2:
        raise ValueError(f"a noise schedule needs at least 2 steps, found {num_steps}")
    return torch.arange(num_steps + 1, dtype=torch.float64) / num_steps


def steps_of(alpha_squared: Tensor) -> Tensor:
    """Steps beta (T,) of a falling alpha^2 (T + 1,), capped at 0.999 as in arXiv:2102.09672."""
    return (1 - alpha_squared[1:] / alpha_squared[:-1]).clamp(max=0.999)


class NoiseSchedule(nn.Module):
    """Noise on a grid of T steps: t (...) -> alpha (...), sigma (...), alpha^2 + sigma^2 = 1.

    Args:
        beta: (T,), the share of the variance that each step replaces by noise.
        zero_terminal_snr: shift and scale alpha so that the last step is pure noise (arXiv:2305.08891, Algorithm 1).
            Without it a sampler starts from a noise that training never showed, but epsilon can be predicted.
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, beta: Tensor, *, zero_terminal_snr: bool = True) -> None:
        super().__init__()
        self.num_steps = len(beta)
        alpha = (1 - beta).cumprod(0).sqrt()
        if zero_terminal_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        alpha = torch.cat((torch.ones(1, dtype=torch.float64), alpha))
        self.register_buffer("alpha", alpha.float(), persistent=False)
        self.register_buffer("sigma", (1 - alpha**2).sqrt().float(), persistent=False)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """T (...), rounded to the grid -> alpha (...), sigma (...)."""
        step = (t * self.num_steps).round().long()
        return self.alpha[step], self.sigma[step]

    def times(self, num_steps: int) -> Tensor:
        """Return falling times (num_steps + 1,) on the grid from 1 to 0."""
        if not 1 <= num_steps <= self.num_steps:
            raise ValueError(f"num_steps must be between 1 and the schedule's {self.num_steps}, found {num_steps}")
        steps = torch.linspace(self.num_steps, 0, num_steps + 1, device=self.alpha.device)
        return steps.round() / self.num_steps


class CosineSchedule(NoiseSchedule):
    """Cosine noise schedule (arXiv:2102.09672, Eq. 17).

    Args:
        num_steps: grid points T; a time is rounded to the nearest i / T.
        offset: keeps the first step's noise from vanishing.
        zero_terminal_snr: make the last step pure noise.
    """

    def __init__(self, num_steps: int = 100, offset: float = 0.008, *, zero_terminal_snr: bool = True) -> None:
        t = grid_times(num_steps)
        alpha_squared = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        super().__init__(steps_of(alpha_squared), zero_terminal_snr=zero_terminal_snr)


class SigmoidSchedule(NoiseSchedule):
    """Sigmoid noise schedule, alpha^2 = sigmoid(delta - gamma logit(t)) (arXiv:2412.08821, Eq. 14).

    The logarithm of the SNR is delta - gamma logit(t). The paper's tables give (gamma, delta): (1.5, -1) and (1.5, -2)
    are near the cosine, (0.8, -1) stays at middle noise and regresses, (3.5, 0) shows the extremes and contrasts.

    Args:
        num_steps: grid points T; a time is rounded to the nearest i / T.
        gamma: width of the log-SNR over the times.
        delta: log-SNR in the middle, at t = 1/2; below 0 is more noise.
        zero_terminal_snr: make the last step pure noise.
    """

    def __init__(
        self, num_steps: int = 100, *, gamma: float = 1.5, delta: float = -1.0, zero_terminal_snr: bool = True
    ) -> None:
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, or the noise would not grow with time, found {gamma}")
        alpha_squared = torch.sigmoid(delta - gamma * torch.logit(grid_times(num_steps)))
        super().__init__(steps_of(alpha_squared), zero_terminal_snr=zero_terminal_snr)


class QuadraticSchedule(NoiseSchedule):
    """Quadratic noise schedule, the square root of beta grows evenly (arXiv:2412.08821, Tables 5 and 6).

    Quadratic-1 is (0.001, 0.0012), Quadratic-2 (0.02, 0.022). Of 100 steps Quadratic-1 ends with alpha^2 = 0.90, which
    is data; only the rescaling to zero terminal SNR makes a noise schedule of it. Quadratic-2 ends with 0.12.

    Args:
        num_steps: grid points T; a time is rounded to the nearest i / T.
        beta_start: share of the variance that the first step replaces.
        beta_end: share of the variance that the last step replaces.
        zero_terminal_snr: make the last step pure noise.
    """

    def __init__(
        self,
        num_steps: int = 100,
        *,
        beta_start: float = 0.001,
        beta_end: float = 0.0012,
        zero_terminal_snr: bool = True,
    ) -> None:
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(f"betas must be 0 < beta_start <= beta_end < 1, found {beta_start} and {beta_end}")
        num_betas = len(grid_times(num_steps)) - 1
        beta = torch.linspace(beta_start**0.5, beta_end**0.5, num_betas, dtype=torch.float64) ** 2
        super().__init__(beta, zero_terminal_snr=zero_terminal_snr)


def add_noise(x: Tensor, noise: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """x_t = alpha x + sigma noise for x, noise (..., D) and t (...)."""
    alpha, sigma = schedule(t)
    return alpha[..., None] * x + sigma[..., None] * noise


def posterior_mean(x_t: Tensor, mean: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x | alpha x + sigma noise = x_t] for x of variance 1 about a mean; x_t, mean (..., D), levels (..., 1)."""
    return (alpha * x_t + sigma**2 * mean) / (alpha**2 + sigma**2)


def guide(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float) -> Tensor:
    """Push x0 (..., D) away from the unconditional prediction (classifier-free guidance, arXiv:2207.12598).

    Guidance on x0 equals guidance on the noise wherever alpha > 0, and also works at t = 1. The rescale pulls the
    standard deviation over D back to the conditional prediction's (arXiv:2305.08891, Eq. 15-16).

    Args:
        conditional: x0 that saw the context.
        unconditional: x0 that did not.
        scale: 1 is no guidance, exactly.
        rescale: 0 keeps the guided deviation, 1 restores the conditional one.
    """
    guided = torch.lerp(unconditional, conditional, scale)
    ratio = conditional.std(-1, keepdim=True) / guided.std(-1, keepdim=True).clamp_min(1e-6)
    return torch.lerp(guided, guided * ratio, rescale)


def embed_time(t: Tensor, num_steps: int) -> Tensor:
    """Sines and cosines of the step number t * num_steps: (...) -> (..., 256), 128 frequencies 10000^(-k/128)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(128, device=t.device) / 128)
    angles = (t * num_steps)[..., None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)
