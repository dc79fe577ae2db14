import pytest
import torch

from lcm.diffusion import CosineSchedule, add_noise, ddim, guide


def test_the_schedule_has_the_reference_values_and_ends_in_pure_noise() -> None:
    schedule = CosineSchedule(100)
    t = torch.tensor([0.0, 0.01, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99, 1.0])
    alpha, sigma = schedule(t)
    expected = torch.tensor([1, 0.9994, 0.9721, 0.8469, 0.4936, 0.1440, 0.0240, 0.0002, 0])  # meta_lcm.md, section 5
    torch.testing.assert_close(alpha**2, expected, atol=6e-5, rtol=0)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(9))
    assert (alpha[-1], sigma[-1]) == (0, 1)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 40, 60, 100])
def test_a_perfect_denoiser_is_recovered_in_any_number_of_steps(num_steps: int, generator: torch.Generator) -> None:
    schedule, data = CosineSchedule(100), torch.randn(3, 5, generator=generator)
    calls = []

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append(t)
        assert t.shape == x_t.shape[:-1]
        return data

    noise = torch.randn(3, 5, generator=generator)
    torch.testing.assert_close(ddim(denoise, noise, schedule.times(num_steps), schedule), data)
    assert len(calls) == num_steps  # "40 steps" is 40


def test_sampled_deviation_tends_to_the_datas(generator: torch.Generator) -> None:
    schedule, sd = CosineSchedule(100), 0.6

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # the optimum for data N(0, sd^2)
        alpha, sigma = schedule(t)
        return (alpha * sd**2 / (alpha**2 * sd**2 + sigma**2))[..., None] * x_t

    noise = torch.randn(4000, 2, generator=generator)
    found = [ddim(denoise, noise, schedule.times(n), schedule).std().item() for n in (5, 20, 100)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(sd, abs=0.02)


def test_steps_outside_the_grid_are_an_error() -> None:
    with pytest.raises(ValueError, match="between 1 and the schedule's 10, found 11"):
        CosineSchedule(10).times(11)


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
