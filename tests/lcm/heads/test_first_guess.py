"""Heads with a first guess; untrained, what they denoise is exact for Gaussian data of variance 1."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.diffusion import CosineSchedule, NoiseSchedule, SigmoidSchedule, posterior_mean
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead, mean_velocity
from lcm.heads.flow_two_tower import FlowTwoTowerHead
from lcm.heads.head import SHRUNK
from lcm.heads.one_tower import TimedInput
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import earlier
from lcm.one_tower import OneTowerModel
from lcm.predictions import EpsilonPrediction, Prediction, VPrediction, X0Prediction

B, S, D, H = 2, 5, 7, 16
HEADS: dict[str, Callable[..., nn.Module]] = {
    "two_tower": lambda **options: TwoTowerHead(D, H, num_layers=2, num_heads=2, **options),
    "flow_two_tower": lambda **options: FlowTwoTowerHead(D, H, num_layers=2, num_heads=2, **options),
    "flow": lambda **options: FlowHead(D, H, num_layers=2, **options),
    "energy": lambda **options: EnergyHead(D, H, num_layers=2, **options),
}


def knowing(head: Any) -> Any:
    """Return a head whose regression reads the mean of x off the first D entries of a context."""
    head.align(torch.eye(H, D) / SHRUNK)
    return head.eval()


def before() -> Tensor:
    return torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)


@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [
        (X0Prediction(), CosineSchedule(50)),
        (VPrediction(), SigmoidSchedule(50)),
        (EpsilonPrediction(), CosineSchedule(50, zero_terminal_snr=False)),
    ],
    ids=["x0", "v", "epsilon"],
)
def test_a_fresh_two_tower_denoises_gaussian_data_exactly(prediction: Prediction, schedule: NoiseSchedule) -> None:
    head = knowing(HEADS["two_tower"](prediction=prediction, schedule=schedule, first_guess=True))
    context, x_t, t = torch.randn(B, S, H), torch.randn(B, S, D), torch.randint(1, 51, (B, S)) / 50
    mean = torch.cat((torch.zeros(B, 1, D), context[:, :-1, :D]), 1)  # the first query sees nothing
    alpha, sigma = (level[..., None] for level in schedule(t))
    expected = mean + alpha / (alpha**2 + sigma**2) * (x_t - alpha * mean)  # Cov(x, x_t) / Var(x_t)
    found = head.denoise(x_t, t, head.remember(context), before())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("two_tower", {"num_steps": 100, "guidance_scale": 1.0, "initial_noise": 1.0}),
        ("flow_two_tower", {"num_steps": 40}),
        ("flow", {"num_steps": 40}),
    ],
)
def test_a_fresh_head_draws_gaussians_about_its_guess(
    name: str, options: dict[str, Any], generator: torch.Generator
) -> None:
    head, context, visible = knowing(HEADS[name](first_guess=True)), torch.randn(1, 1, H), torch.ones(1, 4000, 1)
    with torch.no_grad():
        found = head.sample(head.remember(context), visible.bool(), generator=generator, **options)[0]
    torch.testing.assert_close(found.mean(0), context[0, 0, :D], atol=0.06, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(D), atol=0.06, rtol=0)
    assert (found.T.corrcoef() - torch.eye(D)).abs().max() < 0.06


def test_a_fresh_energy_head_draws_its_guess() -> None:
    head, context = knowing(HEADS["energy"](first_guess=True)), torch.randn(B, S, H)
    found = head.sample(context, before())
    torch.testing.assert_close(found, torch.cat((torch.zeros(B, 1, D), context[:, :-1, :D]), 1))


def test_the_implied_velocity_is_that_to_the_posterior_mean() -> None:
    x_t, mean, t = torch.randn(B, S, D), torch.randn(B, S, D), torch.rand(B, S, 1) * 0.9 + 0.1
    expected = (x_t - posterior_mean(x_t, mean, 1 - t, t)) / t
    torch.testing.assert_close(mean_velocity(x_t, mean, t), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mean_velocity(x_t, mean, torch.zeros(1)), -x_t)  # x is known, the noise is 0 on average


def test_a_fresh_one_tower_denoises_what_its_input_layer_reads() -> None:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=1, num_heads=2, decays=(1.0,))
    model = OneTowerModel(D, backbone, first_guess=True).eval()
    model.normalizer.fit(torch.randn(100, D))
    mask = torch.ones(B, S, dtype=torch.bool)
    batch = ConceptBatch(torch.randn(B, S, D), mask, torch.zeros(B, S, dtype=torch.long))
    assert isinstance(model.input, TimedInput)
    for parameter in model.input.time.parameters():
        torch.nn.init.zeros_(parameter)
    x = model.normalizer(batch.concepts)
    _, cache = model.contexts(x)
    x_t, t = torch.randn(B, S, D), torch.full((B, S), 0.5)
    found = model.head.denoise(x_t, t, partial(model.along, cache), earlier(batch))
    previous = torch.cat((torch.zeros(B, 1, D), x[:, :-1]), 1)  # a lone mean of all starts with no weight
    alpha, sigma = (level[..., None] for level in model.head.schedule(t))
    torch.testing.assert_close(found, posterior_mean(x_t, SHRUNK * previous, alpha, sigma), atol=1e-5, rtol=1e-5)


def test_a_one_tower_without_means_has_nothing_to_guess_from() -> None:
    with pytest.raises(ValueError, match="made of recent means; give its backbone decays"):
        OneTowerModel(D, CausalTransformer(width=H, num_layers=1, num_heads=2), first_guess=True)


def test_a_contrastive_loss_beside_a_head_leaves_its_guess_aligned() -> None:
    head, reading = HEADS["energy"](first_guess=True), nn.init.orthogonal_(torch.empty(H, D))
    WithContrast(head, D, H).align(reading)
    torch.testing.assert_close(head.regression.weight, SHRUNK * reading.T)


@pytest.mark.parametrize("name", HEADS)
def test_the_guess_starts_with_a_part_of_what_was_read_and_is_learnt(name: str, generator: torch.Generator) -> None:
    head, reading = HEADS[name](first_guess=True), nn.init.orthogonal_(torch.empty(H, D))
    head.align(reading)
    regression = getattr(head, "tower", head).regression
    x = torch.randn(B, S, D)
    torch.testing.assert_close(regression(x @ reading.T), SHRUNK * x)
    target = torch.ones(B, S, dtype=torch.bool)
    head.loss(torch.randn(B, S, H), x, target, before(), generator)["loss"].backward()
    assert regression.weight.grad.any() and regression.bias.grad.any()


@pytest.mark.parametrize("name", HEADS)
def test_a_guess_is_one_matrix_and_without_one_there_is_nothing_to_align(name: str) -> None:
    plain, guessing = HEADS[name](), HEADS[name](first_guess=True)
    plain.align(torch.randn(H, D))
    count, more = (sum(p.numel() for p in head.parameters()) for head in (plain, guessing))
    steering = H * H + H if "tower" in name else 0  # the network of a tower is told of the context too
    assert more - count == H * D + D + steering
