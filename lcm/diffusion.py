"""Noise: the schedule, the DDIM sampler and classifier-free guidance. Time t is in [0, 1]; 0 is data, 1 is noise."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t (..., D), t (...)) -> x0 (..., D)
Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]  # t (...) -> alpha (...), sigma (...)


class CosineSchedule(nn.Module):
    """Cosine noise schedule on a grid of T steps: t (...) -> alpha (...), sigma (...), alpha^2 + sigma^2 = 1.

    arXiv:2102.09672, Eq. 17, with steps capped at beta = 0.999, then rescaled so that the last step is pure noise
    (zero terminal SNR, arXiv:2305.08891, Algorithm 1).

    Args:
        num_steps: grid points T; a time is rounded to the nearest i / T.
        offset: keeps the first step's noise from vanishing.
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, num_steps: int = 100, offset: float = 0.008) -> None:
        super().__init__()
        if num_steps < 2:
            raise ValueError(f"a noise schedule needs at least 2 steps, found {num_steps}")
        self.num_steps = num_steps
        t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
        f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        alpha = (1 - beta).cumprod(0).sqrt()
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        alpha = torch.cat((torch.ones(1, dtype=torch.float64), alpha))
        self.register_buffer("alpha", alpha.float(), persistent=False)
        self.register_buffer("sigma", (1 - alpha**2).sqrt().float(), persistent=False)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """T (...) -> alpha (...), sigma (...)."""
        step = (t * self.num_steps).round().long()
        return self.alpha[step], self.sigma[step]

    def times(self, num_steps: int) -> Tensor:
        """Return falling times (num_steps + 1,) on the grid from 1 to 0; "40 steps" is 40 calls of the denoiser."""
        if not 1 <= num_steps <= self.num_steps:
            raise ValueError(f"num_steps must be between 1 and the schedule's {self.num_steps}, found {num_steps}")
        steps = torch.linspace(self.num_steps, 0, num_steps + 1, device=self.alpha.device)
        return steps.round() / self.num_steps


def add_noise(x: Tensor, noise: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """x_t = alpha x + sigma noise for x, noise (..., D) and t (...)."""
    alpha, sigma = schedule(t)
    return alpha[..., None] * x + sigma[..., None] * noise


def ddim(denoise: Denoise, x: Tensor, times: Iterable[Tensor], schedule: Schedule) -> Tensor:
    """Carry noise x (..., D) to data along falling times, deterministically (DDIM, arXiv:2010.02502, Eq. 12).

    Args:
        denoise: predicts x0 (..., D) from x_t (..., D) and t (...).
        x: the start, normally Gaussian noise.
        times: falling from 1 to 0.
        schedule: t -> alpha, sigma.
    """
    grid = list(times)
    for t, s in pairwise(grid):
        alpha, sigma = schedule(t)
        x0 = denoise(x, t.expand(x.shape[:-1]))
        noise = (x - alpha * x0) / sigma
        alpha, sigma = schedule(s)
        x = alpha * x0 + sigma * noise
    return x


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
