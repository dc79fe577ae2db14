"""For Gaussian data the velocity, its loss and what is drawn have a closed form."""

import math

import pytest
import torch
from torch import Tensor

from lcm.heads.flow import FlowHead, Solver, Velocity, euler, midpoint

D, H = 3, 32
SD = 0.4  # of x under a context
MEAN = torch.randn(H, D, generator=torch.Generator().manual_seed(0)) / math.sqrt(H)  # context @ MEAN is the mean of x


def exact_velocity(x_t: Tensor, t: Tensor, context: Tensor, guess: None = None) -> Tensor:
    """E[noise - x | x_t] for x ~ N(context @ MEAN, SD^2); a head that knows it needs no guess."""
    t, mean = t[..., None], context @ MEAN.to(x_t.dtype)
    slope = (t - (1 - t) * SD**2) / (t**2 + (1 - t) ** 2 * SD**2)
    return slope * (x_t - (1 - t) * mean) - mean


def toy(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts, x, target and visible of rows with one position, which sees its own context."""
    context = torch.randn(num, 1, H, generator=generator)
    x = context @ MEAN + SD * torch.randn(num, 1, D, generator=generator)
    return context, x, torch.ones(num, 1, dtype=torch.bool), torch.ones(num, 1, 1, dtype=torch.bool)


def ask_often(context: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Memory and visible for num queries to each of contexts (B, H)."""
    return context[:, None], torch.ones(len(context), num, 1, dtype=torch.bool)


@pytest.fixture
def exact() -> FlowHead:
    """A head that knows the velocity of the toy."""
    head = FlowHead(D, H).eval()
    head.context = torch.nn.Identity()  # type: ignore[assignment]
    head.velocity = exact_velocity  # type: ignore[method-assign]
    return head


def observed_order(solver: Solver, velocity: Velocity, noise: Tensor, expected: Tensor) -> float:
    """Return how often the error halves when the step does."""
    errors = []
    for num_steps in (64, 128):
        found = solver(velocity, noise, torch.linspace(1, 0, num_steps + 1, dtype=torch.float64))
        errors.append((found - expected).abs().max().item())
    assert errors[-1] < 0.02
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (midpoint, 2)])
def test_solvers_have_their_order(solver: Solver, order: int, generator: torch.Generator) -> None:
    noise = torch.randn(7, D, dtype=torch.float64, generator=generator)
    found = observed_order(solver, lambda x_t, t: x_t, noise, noise / math.e)
    assert found == pytest.approx(order, abs=0.1)


# For Gaussian data along straight lines the leading errors of the midpoint method cancel.
@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (midpoint, 3)])
def test_solvers_reach_the_exact_distribution(solver: Solver, order: int, generator: torch.Generator) -> None:
    context = torch.randn(7, H, dtype=torch.float64, generator=generator)
    noise = torch.randn(7, D, dtype=torch.float64, generator=generator)
    expected = context @ MEAN.double() + SD * noise  # the flow keeps each point's place in units of the deviation
    found = observed_order(solver, lambda x_t, t: exact_velocity(x_t, t, context), noise, expected)
    assert found == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("solver", "calls"), [(euler, 40), (midpoint, 80)])
def test_forty_steps_are_forty_calls_for_euler_and_eighty_for_midpoint(
    exact: FlowHead, solver: Solver, calls: int
) -> None:
    times = []

    def count(x_t: Tensor, t: Tensor, context: Tensor, guess: None) -> Tensor:
        times.append(t.flatten()[0].item())
        return exact_velocity(x_t, t, context)

    exact.velocity = count  # type: ignore[method-assign]
    exact.sample(*ask_often(torch.randn(2, H), 5), num_steps=40, solver=solver)
    assert len(times) == calls
    assert times == sorted(times, reverse=True)
    assert (times[0], times[-1]) == pytest.approx((1, 1 / calls))  # never 0, where nothing is left to do


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_draws_have_the_learnt_mean_and_the_deviation_that_the_temperature_says(
    exact: FlowHead, temperature: float, guidance_scale: float, generator: torch.Generator
) -> None:
    context = torch.randn(1, H, generator=generator)
    options = {"num_steps": 40, "guidance_scale": guidance_scale, "temperature": temperature}
    found = exact.sample(*ask_often(context, 20_000), generator=generator, **options)[0]  # type: ignore[arg-type]
    # Without a context the mean is 0, and the velocity is linear in the mean, so guidance multiplies it.
    torch.testing.assert_close(found.mean(0), guidance_scale * (context @ MEAN)[0], atol=0.015, rtol=0)
    torch.testing.assert_close(found.std(0), torch.full((D,), SD * temperature), atol=0.01, rtol=0)


def test_the_loss_of_the_exact_velocity_is_its_integral(exact: FlowHead, generator: torch.Generator) -> None:
    found = exact.loss(*toy(20_000, generator), generator)
    # Var(noise - x | x_t) = SD^2 / (t^2 + (1 - t)^2 SD^2), whose integral up to t is SD arctan(t / (1 - t) / SD).
    assert found["loss"].item() == pytest.approx(SD * math.pi / 2, rel=0.02)
    thirds = SD * math.atan(0.5 / SD), SD * math.atan(2 / SD), SD * math.pi / 2
    assert found["loss_low_noise"].item() == pytest.approx(3 * thirds[0], rel=0.02)
    assert found["loss_middle_noise"].item() == pytest.approx(3 * (thirds[1] - thirds[0]), rel=0.02)
    assert found["loss_high_noise"].item() == pytest.approx(3 * (thirds[2] - thirds[1]), rel=0.02)


def test_times_are_logit_normal_in_training_and_uniform_otherwise(generator: torch.Generator) -> None:
    head = FlowHead(D, H, time_deviation=0.5)
    logits = head.train().draw_times((50_000,), torch.zeros(1), generator).logit()
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((0, 0.5), abs=0.01)
    for uniform in (head.eval(), FlowHead(D, H).train()):
        t = uniform.draw_times((50_000,), torch.zeros(1), generator)
        assert (t.mean().item(), t.std().item()) == pytest.approx((0.5, 12**-0.5), abs=0.01)


@pytest.mark.parametrize("time_deviation", [None, 1.0])
def test_a_trained_head_recovers_mean_and_deviation_under_a_context(
    time_deviation: float | None, generator: torch.Generator
) -> None:
    torch.manual_seed(0)
    head = FlowHead(D, H, num_layers=2, cond_dropout=0.0, time_deviation=time_deviation)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=300)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(*toy(256, generator), generator)["loss"].backward()
        optimizer.step()
        schedule.step()
    context = torch.randn(8, H, generator=generator)
    found = head.eval().sample(*ask_often(context, 2000), generator=generator)
    torch.testing.assert_close(found.mean(1), context @ MEAN, atol=0.15, rtol=0)
    torch.testing.assert_close(found.std(1), torch.full((8, D), SD), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cond_dropout": 1.0}, r"cond_dropout must be in \[0, 1\), found 1.0"),
        ({"num_draws": 0}, "num_draws must be at least 1, found 0"),
        ({"time_deviation": 0.0}, "time_deviation must be above 0, found 0.0"),
        ({"num_layers": 0}, "num_layers must be at least 1, found 0"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowHead(D, H, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("num_steps", 0), ("temperature", -1.0)])
def test_wrong_sampling_options_are_errors(exact: FlowHead, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        exact.sample(*ask_often(torch.randn(1, H), 1), **{name: value})  # type: ignore[arg-type]
