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
from lcm.diffusion import CosineSchedule, SigmoidSchedule, embed_time
from lcm.generation import continue_concepts
from lcm.heads.head import drop_contexts
from lcm.heads.one_tower import TimedInput
from lcm.model import earlier
from lcm.one_tower import OneTowerModel
from lcm.predictions import EpsilonPrediction, VPrediction
from lcm.retention import RetentiveTransformer
from lcm.task import LCMTask

B, S, D, H = 2, 6, 7, 16
DECAYS = (0.5, 0.9, 1.0)


@pytest.fixture(
    params=[(None, False), (DECAYS, False), (DECAYS, True)], ids=["attention alone", "with means", "first guess"]
)
def tower(request: pytest.FixtureRequest) -> OneTowerModel:
    return make_tower(*request.param)


def make_tower(decays: tuple[float, ...] | None, first_guess: bool = False) -> OneTowerModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.0, decays=decays)
    model = OneTowerModel(D, backbone, first_guess=first_guess)
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


def mixed(model: OneTowerModel, clean: Tensor, seen: Tensor, own: Tensor) -> Tensor:
    """What the means make of clean concepts (B, S, H), where each query sees some (B, Q, S) and has one (B, Q, H)."""
    means = model.backbone.recent_means
    assert means is not None
    order, out = torch.arange(clean.shape[1]), means.gains[0] * own
    for gain, log_decay in zip(means.gains[1:], means.log_decays, strict=True):
        weight = (log_decay * (order[:, None] - order)).exp() * seen
        out = out + gain * ((weight / weight.sum(-1, keepdim=True).clamp_min(1e-6)) @ clean)
    return out


def recent(model: OneTowerModel, clean: Tensor, visible: Tensor) -> Tensor:
    """What the means make of the clean concepts that each query sees, zero where it sees none."""
    last = torch.arange(visible.shape[-1]).mul(visible).argmax(-1)  # (B, S)
    previous = clean.gather(1, last[..., None].expand(-1, -1, clean.shape[-1]))
    return mixed(model, clean, visible, previous) * visible.any(-1, keepdim=True)


def embedded(model: OneTowerModel, clean: Tensor, x_t: Tensor, t: Tensor, visible: Tensor) -> Tensor:
    """What goes into the first block for noisy copies: with means, those of what each sees, by the closed form."""
    if model.backbone.recent_means is None:
        return model.input(x_t, t)
    alpha, sigma = (level[..., None] for level in model.head.schedule(t))
    return model.input(alpha * x_t, t) + 0.2 * sigma**2 * recent(model, clean, visible)


def interleaved(model: OneTowerModel, batch: ConceptBatch, x_t: Tensor, t: Tensor, visible: Tensor) -> Tensor:
    """The paper's way: x_0^t, x_0, x_1^t, x_1, ... in one sequence, Figure 7's mask over all of it, means too."""
    clean = model.input(model.normalizer(batch.concepts), torch.zeros_like(t)) + model.level(batch.level)
    num = x_t.shape[1]
    order = torch.arange(num)
    document = torch.zeros_like(batch.level) if batch.document is None else batch.document
    up_to_itself = (order <= order[:, None]) & (document[:, :, None] == document[:, None])
    noisy = embedded(model, clean, x_t, t, visible)
    guess = None
    if model.head.regression is not None:
        guess = model.head.regression(recent(model, clean, visible))
    if model.backbone.recent_means is not None:
        clean = mixed(model, clean, up_to_itself, clean)
    h = torch.stack((noisy, clean), dim=2).flatten(1, 2)  # (B, 2S, H)
    allowed = torch.zeros(len(h), 2 * num, 2 * num, dtype=torch.bool)
    allowed[:, 1::2, 1::2] = up_to_itself
    allowed[:, 0::2, 1::2] = visible
    allowed[:, 0::2, 0::2] = torch.eye(num, dtype=torch.bool)
    angles = rotary_angles(order.repeat_interleave(2)[None], model.backbone.head_dim)
    for block in model.backbone.blocks:
        h, _ = block(h, angles, allowed[:, None], None)
    return model.head.to_x0(model.head.output(model.backbone.norm(h[:, 0::2])), x_t, t, guess)


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


def test_what_is_predicted_depends_on_no_later_concept_to_the_bit(tower: OneTowerModel, packed: ConceptBatch) -> None:
    def predict(concepts: Tensor) -> Tensor:
        changed = dataclasses.replace(packed, concepts=concepts)
        return tower.predict(changed, generator=seeded(), num_steps=3, guidance_scale=2.0)

    before = predict(packed.concepts)
    assert packed.document is not None
    for s in range(packed.concepts.shape[1]):
        concepts = packed.concepts.clone()
        concepts[:, s] += 1
        after = predict(concepts)
        assert torch.equal(after[:, : s + 1], before[:, : s + 1])
        behind = (packed.document == packed.document[:, s, None]) & packed.mask & packed.mask[:, s, None]
        behind[:, : s + 1] = False
        assert torch.equal(after[~behind], before[~behind])  # nor does what is of another document
        assert not torch.isclose(after[behind], before[behind]).all(-1).any()


@pytest.mark.parametrize("first", [1, 3, 5])
def test_read_in_parts_equals_read_at_once_and_the_whole_pass(
    tower: OneTowerModel, batch: ConceptBatch, first: int
) -> None:
    (x_t, t), tail = noisy_copies(batch), slice(S - 1, S)
    whole = denoise(tower, batch, x_t, t, earlier(batch))[:, tail]
    state = tower.read(batch.concepts[:, :first], level=batch.level[:, :first])
    for s in range(first, S - 1):
        state = tower.read(batch.concepts[:, s : s + 1], level=batch.level[:, s : s + 1], state=state)
    at_once = tower.read(batch.concepts[:, :-1], level=batch.level[:, :-1])
    for each in (state, at_once):
        reader = partial(tower.noisy, each.cache, each.mask.sum(1, keepdim=True))
        found = tower.head.denoise(x_t[:, tail], t[:, tail], reader, each.mask[:, None])
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_padding_in_what_is_read_changes_nothing(tower: OneTowerModel, batch: ConceptBatch) -> None:
    sampling = {"num_steps": 4, "guidance_scale": 2.0}
    plain = continue_concepts(tower, batch.concepts, 3, level=batch.level, generator=seeded(), **sampling)
    mask = torch.tensor([False, True, True, False, True, True, False, True, True, False])
    padded, level = torch.full((B, 10, D), 7.0), torch.zeros(B, 10, dtype=torch.long)
    padded[:, mask], level[:, mask] = batch.concepts, batch.level
    found = continue_concepts(tower, padded, 3, mask.expand(B, -1), level=level, generator=seeded(), **sampling)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)


def test_a_tower_without_means_has_no_weights_for_them() -> None:
    without, given = (make_tower(decays).state_dict().keys() for decays in (None, DECAYS))
    assert given - without == {"backbone.recent_means.gains"} and not without - given


def test_the_means_reach_the_noisy_copies(batch: ConceptBatch) -> None:
    """Without blocks, a noisy copy knows of the text by its means alone."""
    tower, (x_t, t) = make_tower(DECAYS), noisy_copies(batch)
    tower.backbone.blocks = torch.nn.ModuleList()
    _, cache = tower.contexts(tower.normalizer(batch.concepts), batch.level)
    order = torch.arange(S).expand(B, S)
    free, given = (tower.noisy(cache, order, x_t, t, visible)[0] for visible in (None, earlier(batch)))
    assert torch.equal(given[:, 0], free[:, 0])  # nothing is before it
    assert not torch.isclose(given[:, 1:], free[:, 1:]).all(-1).any()
    changed = dataclasses.replace(batch, concepts=batch.concepts.clone())
    changed.concepts[:, 2] += 1
    _, cache = tower.contexts(tower.normalizer(changed.concepts), batch.level)
    found, _ = tower.noisy(cache, order, x_t, t, earlier(batch))
    assert (found != given).any(-1).equal(order > 2)


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


@pytest.mark.parametrize("decays", [None, DECAYS], ids=["attention alone", "with means"])
@pytest.mark.parametrize(("dim", "width", "num_layers"), [(7, 32, 3), (1024, 2048, 32)], ids=["small", "paper's"])
def test_the_parameters_equal_the_closed_form(
    dim: int, width: int, num_layers: int, decays: tuple[float, ...] | None
) -> None:
    f = feed_forward_width(width)
    layer = (4 * width**2 + 4 * width) + (3 * width * f + 2 * f + width) + 2 * width
    time = (256 * width + width) + (width**2 + width)
    ends = ((dim + width) * width + width) + time + 5 * width + width + (width * dim + dim)
    with torch.device("meta"):
        model = OneTowerModel(dim, CausalTransformer(width, num_layers, 2, decays=decays), schedule=CosineSchedule())
    means = (len(decays) + 1) * width if decays else 0
    assert sum(p.numel() for p in model.parameters()) == num_layers * layer + ends + means


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


def test_yaml_makes_it_and_a_checkpoint_rebuilds_it(fit: Callable[..., Path], store: ConceptStore) -> None:
    chosen = {"schedule": "SigmoidSchedule", "schedule.gamma": "3.5", "prediction": "VPrediction"}
    flags = [f"--model.model.{key}={value}" for key, value in chosen.items()]
    folder = fit(*flags, "--model.model.cond_dropout=0.25", head="one_tower", steps=2)
    task = load_model(folder / "last.ckpt")
    again = LCMTask.load_from_checkpoint(folder / "last.ckpt", weights_only=True)
    model = task.model
    assert isinstance(model, OneTowerModel) and model.normalizer.fitted
    assert (model.backbone.width, model.context_noise, model.head.cond_dropout) == (16, 0.5, 0.25)
    assert model.backbone.recent_means is not None  # those of base.yaml
    assert isinstance(model.head.prediction, VPrediction)
    torch.testing.assert_close(model.head.schedule.alpha, SigmoidSchedule(gamma=3.5).alpha)
    prefix = torch.from_numpy(store[0][:5].astype("float32"))[None]
    first, second = (m.predict_next(prefix, generator=seeded()) for m in (model, again.eval().model))
    assert torch.equal(first, second)


def test_it_tells_its_sampling_options(tower: OneTowerModel) -> None:
    assert {"num_steps", "guidance_scale", "temperature", "sampler"} <= tower.sampling_options()
    assert not {"memory", "visible", "generator"} & tower.sampling_options()


def test_epsilon_cannot_be_predicted_at_zero_terminal_snr() -> None:
    with pytest.raises(ValueError, match=r"EpsilonPrediction divides by alpha.*zero_terminal_snr to false"):
        OneTowerModel(D, CausalTransformer(width=H, num_layers=1, num_heads=2), prediction=EpsilonPrediction())


def test_a_backbone_without_keys_and_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a CausalTransformer.*found a RetentiveTransformer"):
        OneTowerModel(D, RetentiveTransformer(width=H, num_layers=1, num_heads=2))  # type: ignore[arg-type]
