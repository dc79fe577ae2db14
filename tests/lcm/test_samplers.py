import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lcm.diffusion import CosineSchedule, Denoise, Schedule
from lcm.samplers import Sampler, ddim, dpm_solver, heun

SAMPLERS = {"ddim": ddim, "dpm_solver": dpm_solver, "heun": heun}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
MEAN, SD = 0.7, 0.6


def smooth(t: Tensor) -> tuple[Tensor, Tensor]:
    """The cosine schedule without a grid, so that an order of convergence can be seen."""
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def gaussian(schedule: Schedule) -> Denoise:
    """The best denoiser of data N(MEAN, SD^2): the mean of x0 given x_t."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (level[..., None] for level in schedule(t))
        return MEAN + alpha * SD**2 / (alpha**2 * SD**2 + sigma**2) * (x_t - alpha * MEAN)

    return denoise


def carried(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Where the exact path of that denoiser carries x from time t to time s: as many deviations from the mean."""
    (alpha, sigma), (alpha_s, sigma_s) = smooth(t), smooth(s)
    deviations = (x - alpha * MEAN) / (alpha**2 * SD**2 + sigma**2).sqrt()
    return alpha_s * MEAN + (alpha_s**2 * SD**2 + sigma_s**2).sqrt() * deviations


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver, 2), (heun, 2)], ids=SAMPLERS.keys())
def test_a_sampler_converges_to_the_exact_answer_at_its_order(sampler: Sampler, order: int) -> None:
    x = torch.tensor([[1.3], [-0.4]], dtype=torch.float64)
    errors = []
    for num_steps in (32, 64, 128):
        times = torch.linspace(0.9, 0.1, num_steps + 1, dtype=torch.float64)
        found = sampler(gaussian(smooth), x, times.unbind(), smooth)
        errors.append((found - carried(x, times[0], times[-1])).abs().max().item())
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize(("sampler", "tolerance"), [(ddim, 0.02), (dpm_solver, 0.004), (heun, 0.004)])
def test_noise_becomes_the_data_from_end_to_end(sampler: Sampler, tolerance: float) -> None:
    schedule, deviations = CosineSchedule(1000), torch.tensor([[-1.5], [0.0], [1.0]])
    data = sampler(gaussian(schedule), deviations, schedule.times(200).unbind(), schedule)
    torch.testing.assert_close(data, MEAN + SD * deviations, atol=tolerance, rtol=0)


@every_sampler
@pytest.mark.parametrize("num_steps", [1, 2, 7, 40, 60, 100])
def test_a_perfect_denoiser_is_recovered_in_any_number_of_steps(
    sampler: Sampler, num_steps: int, generator: torch.Generator
) -> None:
    schedule, data = CosineSchedule(100), torch.randn(3, 5, generator=generator)
    calls = []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        assert t.shape == x_t.shape[:-1]
        return data

    noise = torch.randn(3, 5, generator=generator)
    found = sampler(denoise, noise, schedule.times(num_steps).unbind(), schedule, epsilon_scale=1.1)
    torch.testing.assert_close(found, data)
    assert len(calls) == (max(2 * num_steps - 2, 1) if sampler is heun else num_steps)  # "40 steps" is 40


def test_ddim_has_not_changed_by_a_bit(generator: torch.Generator) -> None:
    schedule, weight = CosineSchedule(), torch.randn(5, 5, generator=generator) / 5

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x_t @ weight)

    start = x = torch.randn(3, 5, generator=generator)
    times = schedule.times(40).unbind()
    for t, s in pairwise(times):
        alpha, sigma = schedule(t)
        x0 = denoise(x, t.expand(3))
        noise = (x - alpha * x0) / sigma
        alpha, sigma = schedule(s)
        x = alpha * x0 + sigma * noise
    assert torch.equal(ddim(denoise, start, times, schedule), x)


def test_dpm_solver_is_the_published_formula(generator: torch.Generator) -> None:
    denoise, times = gaussian(smooth), torch.linspace(0.8, 0.2, 6, dtype=torch.float64)
    start = x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    half_log_snr = [(alpha / sigma).log() for alpha, sigma in map(smooth, times)]
    steps = [b - a for a, b in pairwise(half_log_snr)]  # h of the paper
    seen = []
    for i, (t, s) in enumerate(pairwise(times)):
        seen.append(denoise(x, t.expand(3)))
        extrapolated = seen[-1]
        if i:
            ratio = steps[i - 1] / steps[i]
            extrapolated = (1 + 1 / (2 * ratio)) * seen[-1] - seen[-2] / (2 * ratio)
        x = smooth(s)[1] / smooth(t)[1] * x - smooth(s)[0] * torch.expm1(-steps[i]) * extrapolated
    torch.testing.assert_close(dpm_solver(denoise, start, times.unbind(), smooth), x)


@every_sampler
def test_epsilon_scale_shrinks_the_noise_that_is_left(sampler: Sampler, generator: torch.Generator) -> None:
    data, noise = torch.randn(2, 3, 5, generator=generator)
    times = torch.tensor([0.8, 0.7, 0.5, 0.3]).unbind()
    x_t = smooth(times[0])[0] * data + smooth(times[0])[1] * noise
    found = sampler(lambda x_t, t: data, x_t, times, smooth, epsilon_scale=1.25)
    alpha, sigma = smooth(times[-1])
    torch.testing.assert_close(found, alpha * data + sigma * noise / 1.25**3)  # once a step
