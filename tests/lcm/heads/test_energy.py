"""The energy score is proper, unbiased and in one dimension has a closed form; the head learns a distribution by it."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from lcm.heads.energy import EnergyHead, distances

D, H = 3, 32


def energy_score(samples: Tensor, targets: Tensor) -> Tensor:
    to_targets, apart = distances(samples, targets)
    return to_targets - apart / 2


def ask_often(context: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Memory and visible for num queries to each of contexts (B, H)."""
    return context[:, None], torch.ones(len(context), num, 1, dtype=torch.bool)


@pytest.mark.parametrize(("mean", "sd", "target"), [(0.0, 1.0, 0.3), (1.0, 0.5, -1.0), (-2.0, 2.0, 1.0)])
def test_in_one_dimension_it_is_the_crps_of_a_gaussian(
    mean: float, sd: float, target: float, generator: torch.Generator
) -> None:
    samples = mean + sd * torch.randn(20_000, 8, 1, generator=generator)
    found = energy_score(samples, torch.full((1, 1), target)).mean()
    z, normal = (target - mean) / sd, NormalDist()
    crps = sd * (z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / math.sqrt(math.pi))
    assert found.item() == pytest.approx(crps, abs=0.01 * max(sd, 1))


def mixture(num: int, generator: torch.Generator, *, shares: float = 0.5, sd: float = 0.3, at: float = 2.0) -> Tensor:
    """Draw (num, 8, D) from two Gaussians at (-at, 0, ...) and (at, 0, ...), the second with its share."""
    x = sd * torch.randn(num, 8, D, generator=generator)
    side = torch.where(torch.rand(num, 8, generator=generator) < shares, at, -at)
    x[..., 0] += side
    return x


def test_it_is_lowest_for_the_distribution_that_the_targets_come_from(generator: torch.Generator) -> None:
    num = 20_000
    targets = mixture(num, generator)[:, :1]
    forecasts = {
        "true": mixture(num, generator),
        "one mode": mixture(num, generator, shares=1.0),
        "wrong shares": mixture(num, generator, shares=0.8),
        "too wide": mixture(num, generator, sd=0.8),
        "too narrow": mixture(num, generator, sd=0.01),
        "the mean": torch.zeros(num, 8, D),
        "one Gaussian of the right moments": torch.randn(num, 8, D, generator=generator)
        * torch.tensor([math.sqrt(4 + 0.09), 0.3, 0.3]),
    }
    scores = {name: energy_score(samples, targets) for name, samples in forecasts.items()}
    for name, score in scores.items():
        gap = score - scores["true"]
        error = (gap.std() / math.sqrt(num)).item()
        assert name == "true" or gap.mean().item() > 4 * error, (name, gap.mean().item(), error)


@pytest.mark.parametrize("num", [2, 3, 32])
def test_its_expectation_is_the_same_for_every_number_of_samples(num: int, generator: torch.Generator) -> None:
    target, rows = torch.tensor([[0.5, 0, 0]]), 640_000 // num
    score = energy_score(torch.randn(rows, num, D, generator=generator), target)
    # E|X - y| by many samples, E|X - X'| = sqrt(2) E|X| = sqrt(2) * 2 sqrt(2 / pi) in three dimensions.
    to_target = (torch.randn(1_000_000, D, generator=generator) - target).norm(dim=-1).mean()
    expected = (to_target - 2 / math.sqrt(math.pi)).item()
    assert score.mean().item() == pytest.approx(expected, abs=5 * (score.std() / math.sqrt(rows)).item() + 0.003)


def test_samples_that_coincide_have_a_gradient_without_nan() -> None:
    head = EnergyHead(D, H)  # draws zeros before training
    context, x = torch.randn(2, 1, H, requires_grad=True), torch.randn(2, 1, D)
    seen = torch.ones(2, 1, 1, dtype=torch.bool)
    head.loss(context, x, seen[..., 0], seen)["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert head.network.output.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_the_loss_is_the_score_over_the_root_of_the_width(generator: torch.Generator) -> None:
    head, context, x = EnergyHead(D, H, num_samples=5).eval(), torch.randn(2, 3, H), torch.randn(2, 3, D)
    samples = torch.randn(2, 3, 5, D, generator=generator)
    head.draw = lambda *_: samples  # type: ignore[method-assign]
    target = torch.tensor([[True, True, False], [True, False, False]])
    found = head.loss(context, x, target, torch.ones(2, 3, 3, dtype=torch.bool))
    pairs = [(samples[..., i, :] - samples[..., j, :]).norm(dim=-1) for i in range(5) for j in range(5) if i != j]
    near = (samples - x[:, :, None]).norm(dim=-1).mean(-1)
    score = (near - torch.stack(pairs).mean(0) / 2) / math.sqrt(D)
    torch.testing.assert_close(found["loss"], score[target].mean())
    torch.testing.assert_close(found["spread"], (torch.stack(pairs).mean(0) / math.sqrt(D))[target].mean())


def test_noisy_targets_are_for_training_only(generator: torch.Generator) -> None:
    head = EnergyHead(D, H, num_targets=400, target_noise=2.0)
    x, seen = torch.zeros(1, 1, D), torch.ones(1, 1, 1, dtype=torch.bool)
    trained, held_out = (
        h.loss(torch.randn(1, 1, H), x, seen[0], seen, generator)["distance"].item()
        for h in (head.train(), EnergyHead(D, H, num_targets=400, target_noise=2.0).eval())
    )
    assert trained == pytest.approx(2 * 2 * math.sqrt(2 / math.pi) / math.sqrt(3), rel=0.1)  # E|N(0, 2^2)| in 3-D
    assert held_out == 0


class Linear(torch.nn.Module):
    """A generator that is linear in its noise, whose first D numbers it adds to the context's."""

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        return condition[..., :D] + noise[..., :D]


def linear_head() -> EnergyHead:
    head = EnergyHead(D, H).eval()
    head.context, head.network = torch.nn.Identity(), Linear()  # type: ignore[assignment]
    return head


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_temperature_scales_the_deviation(temperature: float, generator: torch.Generator) -> None:
    context = torch.randn(1, H)
    found = linear_head().sample(*ask_often(context, 20_000), generator=generator, temperature=temperature)[0]
    torch.testing.assert_close(found.mean(0), context[0, :D], atol=0.03, rtol=0)
    torch.testing.assert_close(found.std(0), torch.full((D,), temperature), atol=0.01, rtol=0)
    if temperature == 0:  # the mean of a linear generator is exact
        torch.testing.assert_close(found, context[:, :D].expand_as(found))


def test_of_many_candidates_the_one_nearest_to_the_others_is_returned() -> None:
    head, candidates = linear_head(), torch.randn(2, 3, 5, D)
    candidates[:, :, 2:] = 4 + 0.1 * torch.randn(2, 3, 3, D)  # three of five are close together
    head.draw = lambda *_: candidates  # type: ignore[method-assign]
    found = head.sample(torch.randn(2, 3, H), torch.ones(2, 3, 3, dtype=torch.bool), num_candidates=5)
    total = torch.stack([(candidates - candidates[:, :, i : i + 1]).norm(dim=-1).sum(-1) for i in range(5)], -1)
    assert (total.argmin(-1) >= 2).all()
    expected = torch.stack([torch.stack([candidates[b, q, total[b, q].argmin()] for q in range(3)]) for b in range(2)])
    torch.testing.assert_close(found, expected)


def test_a_trained_head_recovers_mean_and_covariance_under_a_context(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    to_mean = torch.randn(H, D, generator=generator) / math.sqrt(H)
    root = torch.tensor([[0.6, 0, 0], [0.3, 0.3, 0], [0, 0, 0.2]])  # of the covariance
    head = EnergyHead(D, H, num_layers=2, noise_dim=8)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=300)
    seen = torch.ones(256, 1, 1, dtype=torch.bool)
    for _ in range(300):
        context = torch.randn(256, 1, H, generator=generator)
        x = context @ to_mean + torch.randn(256, 1, D, generator=generator) @ root.T
        optimizer.zero_grad()
        head.loss(context, x, seen[..., 0], seen, generator)["loss"].backward()
        optimizer.step()
        schedule.step()
    context = torch.randn(8, H, generator=generator)
    found = head.eval().sample(*ask_often(context, 4000), generator=generator)
    torch.testing.assert_close(found.mean(1), context @ to_mean, atol=0.15, rtol=0)
    covariances = torch.stack([torch.cov(rows.T) for rows in found])
    torch.testing.assert_close(covariances, (root @ root.T).expand(8, D, D), atol=0.12, rtol=0)
    torch.testing.assert_close(covariances.mean(0), root @ root.T, atol=0.04, rtol=0)
    coldest = head.sample(*ask_often(context, 1), temperature=0.0)[:, 0]
    torch.testing.assert_close(coldest, context @ to_mean, atol=0.25, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 1}, "num_samples must be at least 2, found 1"),
        ({"num_targets": 0}, "num_targets must be at least 1, found 0"),
        ({"target_noise": -0.1}, "target_noise must be at least 0, found -0.1"),
        ({"num_targets": 16}, "without target_noise all 16 targets are the same"),
        ({"num_layers": 0}, "num_layers must be at least 1, found 0"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnergyHead(D, H, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0, found -1.0"),
        ({"num_candidates": 0}, "num_candidates must be at least 1, found 0"),
        ({"num_candidates": 9, "temperature": 0.0}, "at temperature 0 all candidates are the same"),
    ],
)
def test_wrong_sampling_options_are_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnergyHead(D, H).sample(*ask_often(torch.randn(1, H), 1), **options)  # type: ignore[arg-type]
