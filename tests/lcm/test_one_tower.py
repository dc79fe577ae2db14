"""What only the one-tower has; tests/lcm/test_model.py and test_packed.py hold for it as for every model."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import lcm.one_tower
from data.batch import ConceptBatch
from data.store import ConceptStore
from lcm.backbone import CausalTransformer, feed_forward_width, rotary_angles
from lcm.checkpoint import load_model
from lcm.diffusion import CosineSchedule, NoiseSchedule, QuadraticSchedule, SigmoidSchedule, add_noise, embed_time
from lcm.generation import continue_concepts
from lcm.heads.head import drop_contexts
from lcm.model import earlier
from lcm.one_tower import OneTowerModel, TimedInput
from lcm.predictions import ClampedSNR, EpsilonPrediction, Prediction, VPrediction, X0Prediction
from lcm.samplers import ddim, dpm_solver, heun
from lcm.task import LCMTask

B, S, D, H = 2, 6, 7, 16


@pytest.fixture
def tower() -> OneTowerModel:
    torch.manual_seed(0)
    model = OneTowerModel(D, CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.0))
    for parameter in model.parameters():  # the level table starts at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    model.normalizer.fit(torch.randn(50, D) * 0.1 + 1)
    return model.eval()


@pytest.fixture
def packed() -> ConceptBatch:
    random = np.random.default_rng(0)

    def piece(num: int) -> tuple[np.ndarray, np.ndarray]:
        levels = (np.arange(num) % 4 == 3).astype(np.int8)
        return (1 + 0.1 * random.standard_normal((num, D))).astype(np.float16), levels

    return ConceptBatch.pack([[piece(3), piece(1), piece(4)], [piece(2), piece(2)], [piece(5)]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy_copies(batch: ConceptBatch) -> tuple[Tensor, Tensor]:
    """Some x_t (B, S, D) and their times (B, S)."""
    t = torch.randint(1, 101, batch.mask.shape, generator=seeded(1)) / 100
    return torch.randn(batch.concepts.shape, generator=seeded(2)), t


def denoise(model: OneTowerModel, batch: ConceptBatch, x_t: Tensor, t: Tensor, visible: Tensor) -> Tensor:
    _, cache = model.contexts(model.normalizer(batch.concepts), batch.level, None, batch.document)
    return model.head.denoise(x_t, t, partial(model.along, cache), visible)


def interleaved(model: OneTowerModel, batch: ConceptBatch, x_t: Tensor, t: Tensor, visible: Tensor) -> Tensor:
    """The paper's way: x_0^t, x_0, x_1^t, x_1, ... in one sequence, Figure 7's mask over all of it."""
    clean = model.input(model.normalizer(batch.concepts), torch.zeros_like(t)) + model.level(batch.level)
    h = torch.stack((model.input(x_t, t), clean), dim=2).flatten(1, 2)  # (B, 2S, H)
    num = x_t.shape[1]
    order = torch.arange(num)
    document = torch.zeros_like(batch.level) if batch.document is None else batch.document
    up_to_itself = (order <= order[:, None]) & (document[:, :, None] == document[:, None])
    allowed = torch.zeros(len(h), 2 * num, 2 * num, dtype=torch.bool)
    allowed[:, 1::2, 1::2] = up_to_itself
    allowed[:, 0::2, 1::2] = visible
    allowed[:, 0::2, 0::2] = torch.eye(num, dtype=torch.bool)
    angles = rotary_angles(order.repeat_interleave(2)[None], model.backbone.head_dim)
    for block in model.backbone.blocks:
        h, _ = block(h, angles, allowed[:, None], None)
    return model.head.to_x0(model.head.output(model.backbone.norm(h[:, 0::2])), x_t, t)


@pytest.mark.parametrize("queries_at_once", [1, 3, 256])
def test_two_streams_equal_the_interleaved_sequence(
    tower: OneTowerModel, packed: ConceptBatch, queries_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lcm.one_tower, "QUERIES_AT_ONCE", queries_at_once)
    x_t, t = noisy_copies(packed)
    for visible in (earlier(packed), drop_contexts(earlier(packed), 0.5, seeded())):
        found = denoise(tower, packed, x_t, t, visible)
        torch.testing.assert_close(found, interleaved(tower, packed, x_t, t, visible), atol=1e-5, rtol=1e-5)


def test_packed_documents_are_denoised_as_each_alone(tower: OneTowerModel, packed: ConceptBatch) -> None:
    x_t, t = noisy_copies(packed)
    whole = denoise(tower, packed, x_t, t, earlier(packed))
    assert packed.document is not None
    for i, number in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)):
        here = packed.document[i] == number
        rows = (tensor[i, here][None] for tensor in (packed.concepts, packed.mask, packed.level))
        alone = ConceptBatch(*rows)
        found = denoise(tower, alone, x_t[i, here][None], t[i, here][None], earlier(alone))
        torch.testing.assert_close(found[0], whole[i, here], atol=1e-5, rtol=1e-5)


def test_a_noisy_copy_sees_no_clean_one_from_its_own_on_nor_other_noisy_ones(
    tower: OneTowerModel, batch: ConceptBatch
) -> None:
    (x_t, t), visible = noisy_copies(batch), earlier(batch)
    before = denoise(tower, batch, x_t, t, visible)
    for s in range(S):
        concepts, others = batch.concepts.clone(), x_t.clone()
        concepts[:, s] += 1
        others[:, s] += 1
        after = denoise(tower, dataclasses.replace(batch, concepts=concepts), x_t, t, visible)
        assert torch.equal(after[:, : s + 1], before[:, : s + 1])
        assert not torch.isclose(after[:, s + 1 :], before[:, s + 1 :]).all(-1).any()
        after, rest = denoise(tower, batch, others, t, visible), torch.arange(S) != s
        assert torch.equal(after[:, rest], before[:, rest])
        assert not torch.isclose(after[:, s], before[:, s]).all(-1).any()


def test_without_contexts_only_the_noisy_concept_counts(tower: OneTowerModel, batch: ConceptBatch) -> None:
    x_t, t = noisy_copies(batch)
    _, cache = tower.contexts(tower.normalizer(batch.concepts), batch.level)
    unseen, memory = torch.zeros(B, S, S, dtype=torch.bool), partial(tower.along, cache)
    free = tower.head.denoise(x_t, t, memory, unseen)
    given, found = tower.head.denoise_both(x_t, t, memory, earlier(batch))
    assert torch.equal(given, tower.head.denoise(x_t, t, memory, earlier(batch)))
    torch.testing.assert_close(found, free, atol=1e-5, rtol=1e-5)
    one = partial(tower.noisy, cache, torch.full((B, 1), S))
    seen = torch.ones(B, 1, S, dtype=torch.bool)
    given, found = tower.head.denoise_both(x_t[:, :1], t[:, :1], one, seen)  # both at once
    torch.testing.assert_close(given, tower.head.denoise(x_t[:, :1], t[:, :1], one, seen), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, free[:, :1], atol=1e-5, rtol=1e-5)


def test_contexts_are_dropped_in_training_only(tower: OneTowerModel, batch: ConceptBatch) -> None:
    tower.head.cond_dropout = 1 - 1e-9
    visible = torch.zeros(B, S, S, dtype=torch.bool)
    deaf = tower.head.denoising_loss(
        tower.normalizer(batch.concepts),
        batch.target,
        lambda x_t, t, seen: tower.noisy(*empty_cache(tower), x_t, t, None),
        visible,
        seeded(),
    )
    torch.testing.assert_close(tower.train().loss(batch, seeded())["loss"], deaf["loss"])
    assert not torch.isclose(tower.eval().loss(batch, seeded())["loss"], deaf["loss"])


def empty_cache(model: OneTowerModel):  # type: ignore[no-untyped-def]
    _, cache = model.contexts(torch.zeros(B, S, D))
    return cache, torch.arange(S).expand(B, S)


def test_guidance_one_is_no_guidance(tower: OneTowerModel, batch: ConceptBatch) -> None:
    def draw(**options: float) -> Tensor:
        return tower.predict_next(batch.concepts, generator=seeded(), num_steps=7, **options)

    state = tower.read(batch.concepts)
    alone = partial(tower.noisy, state.cache, state.mask.sum(1, keepdim=True))
    x = tower.head.sample(alone, state.mask[:, None], generator=seeded(), num_steps=7, guidance_scale=1.0)
    assert torch.equal(draw(guidance_scale=1.0), tower.normalizer.inverse(x[:, 0]))
    torch.testing.assert_close(draw(guidance_scale=1.0), draw(guidance_scale=1.0 + 1e-7, guidance_rescale=0.0))
    assert not torch.allclose(draw(guidance_scale=1.0), draw(guidance_scale=3.0))


def test_temperature_zero_needs_no_seed(tower: OneTowerModel, batch: ConceptBatch) -> None:
    zero = [
        continue_concepts(tower, batch.concepts, 3, generator=seeded(seed), temperature=0.0, num_steps=5)
        for seed in (0, 1)
    ]
    assert torch.equal(*zero)


def test_the_table_of_times_equals_each_times_own(tower: OneTowerModel) -> None:
    x_t, t = torch.randn(3, 60, D), torch.randint(1, 101, (3, 60)) / 100  # more positions than the grid has steps
    assert isinstance(tower.input, TimedInput)
    each = torch.stack([tower.input(x_t[:, i], t[:, i]) for i in range(60)], dim=1)
    torch.testing.assert_close(tower.input(x_t, t), each)
    torch.testing.assert_close(tower.input(x_t), tower.input(x_t, torch.zeros(3, 60)))


def test_the_sum_of_two_maps_is_the_map_of_the_concatenation(tower: OneTowerModel) -> None:
    x_t, t = torch.randn(B, S, D), torch.full((B, S), 0.37)
    inputs = tower.input
    assert isinstance(inputs, TimedInput)
    embedded = inputs.time[:-1](embed_time(t, 100))
    weight = torch.cat((inputs.concept.weight, inputs.time[-1].weight), dim=1)  # (H, D + H)
    together = torch.cat((x_t, embedded), dim=-1) @ weight.T + inputs.concept.bias
    torch.testing.assert_close(inputs(x_t, t), together)


@pytest.mark.parametrize(("dim", "width", "num_layers"), [(7, 32, 3), (1024, 2048, 32)], ids=["small", "paper's"])
def test_the_parameters_equal_the_closed_form(dim: int, width: int, num_layers: int) -> None:
    f = feed_forward_width(width)
    layer = (4 * width**2 + 4 * width) + (3 * width * f + 2 * f + width) + 2 * width
    time = (256 * width + width) + (width**2 + width)
    ends = ((dim + width) * width + width) + time + 5 * width + width + (width * dim + dim)
    with torch.device("meta"):
        model = OneTowerModel(dim, CausalTransformer(width, num_layers, 2), schedule=CosineSchedule())
    assert sum(p.numel() for p in model.parameters()) == num_layers * layer + ends


def test_it_runs_under_bfloat16(tower: OneTowerModel, packed: ConceptBatch) -> None:
    exact = tower.loss(packed, seeded())["loss"].item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = tower.train().loss(packed, seeded())["loss"]
        loss.backward()
        rounded = tower.eval().loss(packed, seeded())["loss"].item()
        predicted = tower.predict(packed, generator=seeded(), num_steps=4)
        state = tower.read(packed.concepts)
        following = tower.predict_from(state, generator=seeded(), num_steps=4)
    following_late = tower.predict_from(state, generator=seeded(), num_steps=4)  # read in bfloat16, drawn in float32
    assert rounded == pytest.approx(exact, rel=0.05)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())
    for each in (predicted, following, following_late):
        assert each.isfinite().all() and each.dtype == torch.float32


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


def test_gaussian_walks_are_denoised_and_drawn_as_the_closed_form_says() -> None:
    torch.manual_seed(0)
    model = OneTowerModel(1, CausalTransformer(width=32, num_layers=1, num_heads=2, dropout=0.0))
    model.normalizer.fit(torch.randn(10_000, 1, generator=seeded()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=250)
    generator = seeded(1)
    for _ in range(250):
        optimizer.zero_grad()
        model.loss(walks(64, generator), generator)["loss"].backward()
        optimizer.step()
        rate.step()
    batch, t = walks(2000, generator), torch.tensor([0.2, 0.5, 0.8, 1.0])[torch.randint(4, (2000, 5))]
    x = model.eval().normalizer(batch.concepts)
    x_t = add_noise(x, torch.randn(x.shape, generator=generator), t, model.head.schedule)
    alpha, sigma = (level[..., None] for level in model.head.schedule(t))
    with torch.no_grad():
        found = denoise(model, batch, x_t, t, earlier(batch))
        free = denoise(model, batch, x_t, t, torch.zeros_like(earlier(batch)))
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
    torch.testing.assert_close(drawn.mean(1), torch.tensor([[PHI], [-PHI]]), atol=0.2, rtol=0)
    torch.testing.assert_close(drawn.std(1), torch.full((2, 1), (1 - PHI**2) ** 0.5), atol=0.15, rtol=0)


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


def test_yaml_makes_it_and_a_checkpoint_rebuilds_it(fit: Callable[..., Path], store: ConceptStore) -> None:
    chosen = {"schedule": "SigmoidSchedule", "schedule.gamma": "3.5", "prediction": "VPrediction"}
    flags = [f"--model.model.{key}={value}" for key, value in chosen.items()]
    folder = fit(*flags, "--model.model.cond_dropout=0.25", head="one_tower", steps=2)
    task = load_model(folder / "last.ckpt")
    again = LCMTask.load_from_checkpoint(folder / "last.ckpt", weights_only=True)
    model = task.model
    assert isinstance(model, OneTowerModel) and model.normalizer.fitted
    assert (model.backbone.width, model.context_noise, model.head.cond_dropout) == (16, 0.5, 0.25)
    assert isinstance(model.head.prediction, VPrediction)
    torch.testing.assert_close(model.head.schedule.alpha, SigmoidSchedule(gamma=3.5).alpha)
    prefix = torch.from_numpy(store[0][:5].astype("float32"))[None]
    first, second = (t.eval().model.predict_next(prefix, generator=seeded()) for t in (task, again))
    assert torch.equal(first, second)


def test_it_tells_its_sampling_options(tower: OneTowerModel) -> None:
    assert {"num_steps", "guidance_scale", "temperature", "sampler"} <= tower.sampling_options()
    assert not {"memory", "visible", "generator"} & tower.sampling_options()


def test_epsilon_cannot_be_predicted_at_zero_terminal_snr() -> None:
    with pytest.raises(ValueError, match=r"EpsilonPrediction divides by alpha.*zero_terminal_snr to false"):
        OneTowerModel(D, CausalTransformer(width=H, num_layers=1, num_heads=2), prediction=EpsilonPrediction())
