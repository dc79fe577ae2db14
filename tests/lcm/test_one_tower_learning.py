"""What a one-tower learns: the closed form of Gaussian data, and three documents by heart."""

from functools import partial

import pytest
import torch
from torch import Tensor

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.diffusion import NoiseSchedule, QuadraticSchedule, SigmoidSchedule, add_noise
from lcm.model import earlier
from lcm.one_tower import OneTowerModel
from lcm.predictions import ClampedSNR, EpsilonPrediction, Prediction, VPrediction, X0Prediction
from lcm.samplers import ddim, dpm_solver, heun

D = 7


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PHI = 0.8  # x_s = PHI x_{s-1} + noise of variance 1 - PHI^2: a Gaussian walk of variance 1


def walks(num: int, generator: torch.Generator) -> ConceptBatch:
    x = torch.randn(num, 5, 1, generator=generator)
    for s in range(1, 5):
        x[:, s] = PHI * x[:, s - 1] + (1 - PHI**2) ** 0.5 * x[:, s]
    shape = num, 5
    return ConceptBatch(x, torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.long))


def posterior_mean(x_t: Tensor, previous: Tensor | None, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x_s | x_t, x_{s-1}] of the walk, E[x_s | x_t] without a previous one."""
    mean, variance = (0.0, 1.0) if previous is None else (PHI * previous, 1 - PHI**2)
    return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x_t - alpha * mean)


@pytest.mark.parametrize(
    ("decays", "first_guess", "near"),
    [(None, False, 0.1), ((0.5, 1.0), False, 0.15), ((0.5, 1.0), True, 0.15)],
    ids=["attention alone", "with means", "first guess"],
)
def test_gaussian_walks_are_denoised_and_drawn_as_the_closed_form_says(
    decays: tuple[float, ...] | None, first_guess: bool, near: float
) -> None:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=32, num_layers=1, num_heads=2, dropout=0.0, decays=decays)
    model = OneTowerModel(1, backbone, first_guess=first_guess)
    model.normalizer.fit(torch.randn(10_000, 1, generator=seeded()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=400)
    generator = seeded(1)
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(walks(128, generator), generator)["loss"].backward()
        optimizer.step()
        rate.step()
    batch, t = walks(2000, generator), torch.tensor([0.2, 0.5, 0.8, 1.0])[torch.randint(4, (2000, 5))]
    x = model.eval().normalizer(batch.concepts)
    x_t = add_noise(x, torch.randn(x.shape, generator=generator), t, model.head.schedule)
    alpha, sigma = (level[..., None] for level in model.head.schedule(t))
    with torch.no_grad():
        tower = partial(model.along, model.contexts(x, batch.level)[1])
        found = model.head.denoise(x_t, t, tower, earlier(batch))
        free = model.head.denoise(x_t, t, tower, torch.zeros_like(earlier(batch)))
    expected = torch.cat(
        (
            posterior_mean(x_t[:, :1], None, alpha[:, :1], sigma[:, :1]),
            posterior_mean(x_t[:, 1:], x[:, :-1], alpha[:, 1:], sigma[:, 1:]),
        ),
        dim=1,
    )
    context_free = posterior_mean(x_t, None, alpha, sigma)  # .28 away from what the context gives
    assert (found - expected).square().mean() < 0.02
    assert (free - context_free).square().mean() < 0.04  # trained on one position in seven, and the first ones
    prefix = torch.tensor([[[0.0], [1.0]], [[0.3], [-1.0]]]).repeat_interleave(1000, dim=0)
    options = {"guidance_scale": 1.0, "initial_noise": 1.0, "num_steps": 20}
    drawn = model.predict_next(prefix, generator=generator, **options).unflatten(0, (2, -1))
    torch.testing.assert_close(drawn.mean(1), torch.tensor([[PHI], [-PHI]]), atol=near, rtol=0)
    torch.testing.assert_close(drawn.std(1), torch.full((2, 1), (1 - PHI**2) ** 0.5), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("prediction", "weight", "schedule"),
    [
        (X0Prediction(), ClampedSNR(0.1, 5.0), SigmoidSchedule()),
        (VPrediction(), None, QuadraticSchedule()),
        (EpsilonPrediction(), None, QuadraticSchedule(beta_start=0.02, beta_end=0.06, zero_terminal_snr=False)),
    ],
    ids=["x0", "v", "epsilon"],
)
def test_three_documents_are_learnt_by_heart(
    prediction: Prediction, weight: ClampedSNR | None, schedule: NoiseSchedule
) -> None:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=32, num_layers=2, num_heads=2, dropout=0.0)
    model = OneTowerModel(D, backbone, cond_dropout=0.0, schedule=schedule, prediction=prediction, weight=weight)
    documents = torch.randn(3, 4, D)
    model.normalizer.fit(documents.flatten(0, 1))
    concepts = documents.repeat(16, 1, 1)  # many noise levels
    batch = ConceptBatch(concepts, torch.ones(48, 4, dtype=torch.bool), torch.zeros(48, 4, dtype=torch.long))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    few = ConceptBatch(documents, batch.mask[:3], batch.level[:3])
    for sampler in (ddim, dpm_solver, heun):
        options = {"num_steps": 20, "guidance_scale": 1.0, "initial_noise": 1.0}
        found = model.eval().predict(few, sampler=sampler, generator=seeded(), **options)
        assert (found - documents)[:, 1:].square().mean() < 0.1, sampler  # of a variance of 1
