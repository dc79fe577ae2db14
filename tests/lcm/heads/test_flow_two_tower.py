"""For Gaussian data the velocity, its loss and what is drawn have a closed form."""

import math

import pytest
import torch
from torch import Tensor

from lcm.heads.flow import Solver, euler, midpoint
from lcm.heads.flow_two_tower import FlowTwoTowerHead, StraightLine, VelocityPrediction
from lcm.samplers import ddim

B, S, D, H = 2, 5, 3, 16
SD = 0.4  # of x under a context
MEAN = torch.tensor([1.0, -0.5, 0.3])  # of x where context is seen; 0 where none is


def exact_velocity(x_t: Tensor, t: Tensor, seen: Tensor) -> Tensor:
    """E[noise - x | x_t] for x ~ N(MEAN, SD^2), or N(0, SD^2) without a context; seen (...)."""
    t, mean = t[..., None], MEAN * seen[..., None]
    slope = (t - (1 - t) * SD**2) / (t**2 + (1 - t) ** 2 * SD**2)
    return slope * (x_t - (1 - t) * mean) - mean


@pytest.fixture
def exact() -> FlowTwoTowerHead:
    """A head that knows the velocity, at 1000 times."""
    head = FlowTwoTowerHead(D, H, num_layers=1, num_heads=2, num_times=1000).eval()

    def denoise(x_t: Tensor, t: Tensor, memory: object, visible: Tensor) -> Tensor:
        return x_t - t[..., None] * exact_velocity(x_t, t, visible.any(-1))

    head.tower.denoise = denoise  # type: ignore[method-assign, assignment]
    return head


@pytest.fixture(params=[False, True], ids=["plain", "first guess"])
def head(request: pytest.FixtureRequest) -> FlowTwoTowerHead:
    torch.manual_seed(0)
    head = FlowTwoTowerHead(D, H, num_layers=2, num_heads=2, dropout=0.0, first_guess=request.param)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


def before() -> Tensor:
    return torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)


def test_the_line_is_straight_and_known_at_both_ends() -> None:
    schedule = StraightLine(50)
    alpha, sigma = schedule(torch.tensor([0.0, 0.3, 1.0]))
    torch.testing.assert_close(alpha, torch.tensor([1.0, 0.7, 0.0]))
    torch.testing.assert_close(sigma, torch.tensor([0.0, 0.3, 1.0]))
    x, noise, t = torch.randn(4, D), torch.randn(4, D), torch.tensor(0.3)
    x_t = torch.lerp(x, noise, 0.3)
    torch.testing.assert_close(VelocityPrediction().x0(noise - x, x_t, *schedule(t)), x)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize(("solver", "num_steps"), [(euler, 250), (midpoint, 25)])
def test_draws_have_the_learnt_mean_and_the_deviation_that_the_temperature_says(
    exact: FlowTwoTowerHead,
    solver: Solver,
    num_steps: int,
    guidance_scale: float,
    temperature: float,
    generator: torch.Generator,
) -> None:
    visible, memory = torch.ones(1, 20_000, 1, dtype=torch.bool), exact.remember(torch.zeros(1, 1, H))
    options = {"num_steps": num_steps, "guidance_scale": guidance_scale, "temperature": temperature}
    found = exact.sample(memory, visible, generator=generator, solver=solver, **options)[0]  # type: ignore[arg-type]
    # Without a context the mean is 0, and the velocity is linear in the mean, so guidance multiplies it.
    torch.testing.assert_close(found.mean(0), guidance_scale * MEAN, atol=0.015, rtol=0)
    torch.testing.assert_close(found.std(0), torch.full((D,), SD * temperature), atol=0.015, rtol=0)


def test_the_loss_of_the_exact_velocity_is_its_integral(exact: FlowTwoTowerHead, generator: torch.Generator) -> None:
    num = 80_000
    x = MEAN + SD * torch.randn(num, 1, D, generator=generator)
    seen = torch.ones(num, 1, 1, dtype=torch.bool)
    found = exact.loss(torch.zeros(num, 1, H), x, seen[..., 0], seen, generator)
    # Var(noise - x | x_t) = SD^2 / (t^2 + (1 - t)^2 SD^2), whose integral up to t is SD arctan(t / (1 - t) / SD).
    assert found["loss"].item() == pytest.approx(SD * math.pi / 2, rel=0.02)
    thirds = SD * math.atan(0.5 / SD), SD * math.atan(2 / SD), SD * math.pi / 2
    assert found["loss_low_noise"].item() == pytest.approx(3 * thirds[0], rel=0.02)
    assert found["loss_middle_noise"].item() == pytest.approx(3 * (thirds[1] - thirds[0]), rel=0.02)
    assert found["loss_high_noise"].item() == pytest.approx(3 * (thirds[2] - thirds[1]), rel=0.02)


def test_eulers_steps_are_those_of_ddim_on_the_straight_line(head: FlowTwoTowerHead) -> None:
    memory, seen = head.remember(torch.randn(B, S, H)), torch.ones(B, 1, S, dtype=torch.bool)
    options = {"num_steps": 20, "guidance_scale": 2.0}
    found = head.sample(memory, seen, generator=torch.Generator().manual_seed(1), solver=euler, **options)  # type: ignore[arg-type]
    same = {**options, "guidance_rescale": 0.0, "initial_noise": 1.0}
    other = head.tower.sample(memory, seen, generator=torch.Generator().manual_seed(1), sampler=ddim, **same)  # type: ignore[arg-type]
    torch.testing.assert_close(found, other, atol=1e-4, rtol=1e-4)


def test_a_large_batch_is_drawn_as_a_small_one(head: FlowTwoTowerHead) -> None:
    x_t, t = torch.randn(B, 300, D), torch.rand(1).expand(B, 300)  # more positions than the grid has times
    memory, visible = head.remember(torch.randn(B, S, H)), torch.ones(B, 300, S, dtype=torch.bool)
    whole = head.velocity(x_t, t, memory, visible)
    part = head.velocity(x_t[:, :2], t[:, :2], memory, visible[:, :2])
    torch.testing.assert_close(whole[:, :2], part, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("solver", "calls"), [(euler, 10), (midpoint, 20)])
def test_calls_of_the_network_and_their_times(head: FlowTwoTowerHead, solver: Solver, calls: int) -> None:
    times, denoise = [], head.tower.denoise

    def count(x_t: Tensor, t: Tensor, memory: object, visible: Tensor) -> Tensor:
        times.append(t.flatten()[0].item())
        return denoise(x_t, t, memory, visible)  # type: ignore[arg-type]

    head.tower.denoise = count  # type: ignore[method-assign, assignment]
    head.sample(head.remember(torch.randn(B, S, H)), torch.ones(B, 1, S, dtype=torch.bool), solver=solver)
    assert times == pytest.approx([1 - i / calls for i in range(calls)])


def test_memory_grows_by_appending_and_a_seed_repeats(head: FlowTwoTowerHead) -> None:
    context, seen = torch.randn(B, S, H), torch.ones(B, 1, S, dtype=torch.bool)
    whole, parts = head.remember(context), head.remember(context[:, 2:], head.remember(context[:, :2]))
    first, again, other = (
        head.sample(memory, seen, generator=torch.Generator().manual_seed(seed))
        for memory, seed in ((whole, 0), (parts, 0), (whole, 1))
    )
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, other)


def test_all_visible_contexts_count_and_no_other(head: FlowTwoTowerHead) -> None:
    context = torch.randn(B, S, H)
    found = head.sample(head.remember(context), before(), generator=torch.Generator().manual_seed(0))
    for s in range(S):
        changed = context.clone()
        changed[:, s] += 1
        again = head.sample(head.remember(changed), before(), generator=torch.Generator().manual_seed(0))
        assert torch.equal(again[:, : s + 1], found[:, : s + 1])
        assert not torch.isclose(again[:, s + 1 :], found[:, s + 1 :]).all(-1).any()


def test_a_trained_head_recovers_mean_and_deviation_under_each_context(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    head = FlowTwoTowerHead(D, H, num_layers=1, num_heads=2, dropout=0.0, cond_dropout=0.0)
    contexts, means = torch.randn(4, 1, H, generator=generator), torch.randn(4, 1, D, generator=generator)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=120)
    seen = torch.ones(256, 1, 1, dtype=torch.bool)
    for _ in range(120):
        which = torch.randint(4, (256,), generator=generator)
        x = means[which] + SD * torch.randn(256, 1, D, generator=generator)
        optimizer.zero_grad()
        head.loss(contexts[which], x, seen[..., 0], seen, generator)["loss"].backward()
        optimizer.step()
        schedule.step()
    visible = torch.ones(4, 1000, 1, dtype=torch.bool)
    found = head.eval().sample(head.remember(contexts), visible, generator=generator)
    torch.testing.assert_close(found.mean(1), means[:, 0], atol=0.15, rtol=0)
    torch.testing.assert_close(found.std(1), torch.full((4, D), SD), atol=0.15, rtol=0)


def test_one_step_estimates_with_a_gradient_to_the_contexts(head: FlowTwoTowerHead) -> None:
    context, x = torch.randn(B, S, H, requires_grad=True), torch.randn(B, S, D)
    found = head.estimate(context, x, before(), torch.Generator().manual_seed(0))
    assert found.shape == x.shape
    found[0, 3].sum().backward()
    assert context.grad is not None
    assert context.grad[0, :3].any() and not context.grad[0, 3:].any() and not context.grad[1].any()


@pytest.mark.parametrize(
    ("options", "message"), [({"cond_dropout": 1.0}, "cond_dropout"), ({"num_times": 1}, "2 steps")]
)
def test_wrong_options_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowTwoTowerHead(D, H, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("num_steps", 0), ("temperature", -1.0)])
def test_wrong_sampling_options_are_errors(exact: FlowTwoTowerHead, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        exact.sample(exact.remember(torch.randn(1, 1, H)), torch.ones(1, 1, 1, dtype=torch.bool), **{name: value})  # type: ignore[arg-type]
