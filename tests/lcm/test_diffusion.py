import math

import pytest
import torch

from lcm.diffusion import CosineSchedule, NoiseSchedule, QuadraticSchedule, SigmoidSchedule, add_noise, guide

TIMES = [0.01, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99, 1.0]
REFERENCE = [  # alpha^2 at TIMES: meta_lcm.md, section 5
    (CosineSchedule(), [0.9994, 0.9721, 0.8469, 0.4936, 0.1440, 0.0240, 0.0002, 0]),
    (SigmoidSchedule(), [0.9972, 0.9085, 0.6564, 0.2686, 0.0659, 0.0133, 0.0004, 0]),
    (SigmoidSchedule(delta=-2.0), [0.9926, 0.7851, 0.4127, 0.1190, 0.0253, 0.0049, 0.0001, 0]),
    (SigmoidSchedule(gamma=0.8), [0.9356, 0.6801, 0.4685, 0.2675, 0.1311, 0.0585, 0.0087, 0]),
    (SigmoidSchedule(gamma=3.5, delta=0.0), [1.0000, 0.9995, 0.9791, 0.5000, 0.0209, 0.0005, 0.0000, 0]),
    (QuadraticSchedule(), [0.9990, 0.8353, 0.5914, 0.2712, 0.0699, 0.0114, 0.0001, 0]),
    (
        QuadraticSchedule(beta_start=0.02, beta_end=0.022),
        [0.9800, 0.7345, 0.4338, 0.1476, 0.0284, 0.0039, 0.0000, 0],
    ),
]
IDS = ["cosine", "sigmoid-1.5", "sigmoid-1.5-2", "sigmoid-0.8", "sigmoid-3.5", "quadratic-1", "quadratic-2"]


@pytest.mark.parametrize(("schedule", "expected"), REFERENCE, ids=IDS)
def test_a_schedule_has_the_reference_values_and_ends_in_pure_noise(
    schedule: NoiseSchedule, expected: list[float]
) -> None:
    alpha, sigma = schedule(torch.tensor([0.0, *TIMES]))
    torch.testing.assert_close(alpha**2, torch.tensor([1.0, *expected]), atol=6e-5, rtol=0)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(9))
    assert (alpha[0], sigma[0], alpha[-1], sigma[-1]) == (1, 0, 0, 1)
    assert (schedule.alpha.diff() <= 0).all()


def test_the_cosine_has_not_changed_by_a_bit() -> None:  # models were trained with it
    t = torch.arange(101, dtype=torch.float64) / 100
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha = (1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)).cumprod(0).sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    alpha = torch.cat((torch.ones(1, dtype=torch.float64), alpha))
    schedule = CosineSchedule()
    assert torch.equal(schedule.alpha, alpha.float())
    assert torch.equal(schedule.sigma, (1 - alpha**2).sqrt().float())


def test_the_log_snr_of_a_sigmoid_is_what_it_says() -> None:
    gamma, delta = 1.3, -0.4
    schedule, t = SigmoidSchedule(gamma=gamma, delta=delta, zero_terminal_snr=False), torch.tensor([0.2, 0.5, 0.8])
    alpha, sigma = schedule(t)
    torch.testing.assert_close((alpha**2 / sigma**2).log(), delta - gamma * torch.logit(t), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (QuadraticSchedule(zero_terminal_snr=False), 0.8959),  # meta_lcm.md, section 5
        (QuadraticSchedule(beta_start=0.02, beta_end=0.022, zero_terminal_snr=False), 0.1198),
    ],
)
def test_without_zero_terminal_snr_some_data_remains(schedule: NoiseSchedule, end: float) -> None:
    alpha, sigma = schedule(torch.ones(()))
    assert alpha.item() ** 2 == pytest.approx(end, abs=6e-5)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(()))


@pytest.mark.parametrize("kind", [CosineSchedule, SigmoidSchedule])
def test_without_zero_terminal_snr_alpha_stays_above_zero(kind: type[CosineSchedule] | type[SigmoidSchedule]) -> None:
    assert 0 < kind(zero_terminal_snr=False).alpha[-1] < 1e-2


def test_times_fall_along_the_grid_and_outside_it_are_an_error() -> None:
    schedule = CosineSchedule(10)
    times = schedule.times(4)
    assert (times[0], times[-1], len(times)) == (1, 0, 5)
    torch.testing.assert_close((times * 10).round(), times * 10)
    with pytest.raises(ValueError, match="between 1 and the schedule's 10, found 11"):
        schedule.times(11)


def test_wrong_schedules_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 2 steps, found 1"):
        CosineSchedule(1)
    with pytest.raises(ValueError, match=r"gamma must be above 0.*found -1"):
        SigmoidSchedule(gamma=-1.0)
    with pytest.raises(ValueError, match=r"found 0\.5 and 0\.1"):
        QuadraticSchedule(beta_start=0.5, beta_end=0.1)


def test_no_noise_at_time_zero_and_only_noise_at_time_one(generator: torch.Generator) -> None:
    x, noise = torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)
    schedule = CosineSchedule()
    torch.testing.assert_close(add_noise(x, noise, torch.zeros(2), schedule), x)
    torch.testing.assert_close(add_noise(x, noise, torch.ones(2), schedule), noise)


def test_guidance_one_is_no_guidance_and_the_rescale_restores_the_deviation(generator: torch.Generator) -> None:
    conditional, unconditional = torch.randn(2, 4, 9, generator=generator)
    assert torch.equal(guide(conditional, unconditional, 1.0, 0.7), conditional)
    guided = guide(conditional, unconditional, 3.0, 1.0)
    torch.testing.assert_close(guided.std(-1), conditional.std(-1))
    plain = guide(conditional, unconditional, 3.0, 0.0)
    torch.testing.assert_close(plain, unconditional + 3 * (conditional - unconditional))
