from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lcm.backbone import CausalTransformer, feed_forward_width
from lcm.checkpoint import load_model
from lcm.diffusion import (
    CosineSchedule,
    NoiseSchedule,
    QuadraticSchedule,
    SigmoidSchedule,
    add_noise,
    embed_time,
    guide,
)
from lcm.heads.two_tower import TwoTowerHead
from lcm.model import ConceptModel
from lcm.predictions import ClampedSNR, EpsilonPrediction, Prediction, VPrediction, X0Prediction
from lcm.samplers import Sampler, ddim, dpm_solver, heun

B, S, D, H = 2, 5, 7, 16
PREDICTIONS = [X0Prediction(), VPrediction(), EpsilonPrediction()]
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS, ids=["x0", "v", "epsilon"])


def randomised(first_guess: bool = False) -> TwoTowerHead:
    torch.manual_seed(0)
    head = TwoTowerHead(D, H, num_layers=2, num_heads=2, dropout=0.0, first_guess=first_guess)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


@pytest.fixture(params=[False, True], ids=["plain", "first guess"])
def head(request: pytest.FixtureRequest) -> TwoTowerHead:
    return randomised(first_guess=request.param)


@pytest.fixture
def plain() -> TwoTowerHead:
    return randomised()


def before() -> torch.Tensor:
    return torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)


def test_adaln_zero_starts_without_branches() -> None:
    fresh = TwoTowerHead(D, H, num_layers=2, num_heads=2).eval()
    x_t, t = torch.randn(B, S, D), torch.full((B, S), 0.5)
    out = fresh.denoise(x_t, t, fresh.remember(torch.randn(B, S, H)), before())
    torch.testing.assert_close(out, fresh.output(fresh.norm(fresh.input(x_t))))


def test_a_table_of_modulations_equals_each_times_own(head: TwoTowerHead) -> None:
    num = 60  # more positions than the grid has steps
    x_t, t = torch.randn(B, num, D), torch.randint(1, 101, (B, num)) / 100
    memory, visible = head.remember(torch.randn(B, S, H)), torch.ones(B, num, S, dtype=torch.bool)
    whole = head.denoise(x_t, t, memory, visible)
    parts = [head.denoise(x_t[:, i : i + 1], t[:, i : i + 1], memory, visible[:, i : i + 1]) for i in range(num)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))


def test_memory_grows_by_appending(head: TwoTowerHead) -> None:
    context = torch.randn(B, S, H)
    whole, parts = head.remember(context), head.remember(context[:, 2:], head.remember(context[:, :2]))
    for (k, v), (part_k, part_v) in zip(whole.layers, parts.layers, strict=True):
        assert k.shape == (B, 2, 1 + S, H // 2)
        torch.testing.assert_close((part_k, part_v), (k, v))
    assert whole.contexts is None if head.regression is None else torch.equal(whole.contexts, context)
    torch.testing.assert_close(parts.contexts, whole.contexts)


def test_without_visible_contexts_only_the_zero_vector_counts(head: TwoTowerHead) -> None:
    unseen = torch.zeros(B, S, S, dtype=torch.bool)
    a, b = (
        head.sample(head.remember(torch.randn(B, S, H)), unseen, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    torch.testing.assert_close(a, b)


def test_guidance_one_is_no_guidance(head: TwoTowerHead) -> None:
    memory = head.remember(torch.randn(B, S, H))
    seen = torch.ones(B, 1, S, dtype=torch.bool)

    def draw(scale: float, visible: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return head.sample(memory, visible, generator=generator, num_steps=7, guidance_scale=scale)

    assert not torch.allclose(draw(1.0, seen), draw(3.0, seen))
    unseen = torch.zeros_like(seen)
    torch.testing.assert_close(draw(3.0, unseen), draw(1.0, unseen))  # nothing to push away from


def test_contexts_are_dropped_position_by_position_and_only_in_training(head: TwoTowerHead) -> None:
    rows = []
    denoise = head.denoise

    def spy(x_t: torch.Tensor, t: torch.Tensor, memory: object, visible: torch.Tensor) -> torch.Tensor:
        rows.append(visible.any(-1)[:, 1:].float().mean(-1))  # position 0 sees nothing anyway
        return denoise(x_t, t, memory, visible)

    head.denoise = spy  # type: ignore[method-assign]
    num = 400
    context, x = torch.randn(3, num, H), torch.randn(3, num, D)
    visible = torch.ones(num, num, dtype=torch.bool).tril(-1).expand(3, num, num)
    target = torch.ones(3, num, dtype=torch.bool)
    head.train().loss(context, x, target, visible, torch.Generator().manual_seed(0))
    head.eval().loss(context, x, target, visible, torch.Generator().manual_seed(0))
    trained, evaluated = rows
    torch.testing.assert_close(trained, torch.full((3,), 0.85), atol=0.06, rtol=0)
    assert len(set(trained.tolist())) > 1  # each row of the batch loses other positions
    assert (evaluated == 1).all()


def meta_count(dim: int, d: int, context_layers: int, denoiser_layers: int) -> int:
    """Parameters of Meta's two-tower: the closed form of meta_lcm.md, section 4."""
    f = feed_forward_width(d)
    attention, feed_forward = 4 * d * d + 4 * d, 3 * d * f + 2 * f + d
    context = attention + feed_forward + 2 * d
    denoiser = 2 * attention + feed_forward + 3 * d + 9 * d * d + 9 * d
    ends = 2 * (dim * d + d) + (d * dim + dim) + 2 * d + (256 * d + d) + (d * d + d)
    return context_layers * context + denoiser_layers * denoiser + ends


@pytest.mark.parametrize(
    ("dim", "d", "context_layers", "denoiser_layers", "total"),
    [(1024, 2048, 5, 13, 1_645_538_304), (1024, 4096, 5, 14, 6_930_781_696), (7, 32, 2, 3, None)],
    ids=["1.6B", "7B", "small"],
)
def test_the_parameters_equal_the_closed_form(
    dim: int, d: int, context_layers: int, denoiser_layers: int, total: int | None
) -> None:
    # Their layer has self-attention over one vector, which is a linear map: a norm, an attention and three of the nine
    # modulations that ours has not. Ours has a vector for each of five levels of headings.
    theirs = meta_count(dim, d, context_layers, denoiser_layers)
    if total is not None:
        assert theirs == total
    schedule = CosineSchedule()
    with torch.device("meta"):
        head = TwoTowerHead(dim, d, num_layers=denoiser_layers, num_heads=2, schedule=schedule)
        model = ConceptModel(dim, CausalTransformer(d, context_layers, 2), head)
    self_attention = d + (4 * d * d + 4 * d) + 3 * (d * d + d)
    ours = sum(p.numel() for p in model.parameters())
    assert ours == theirs - denoiser_layers * self_attention + 5 * d


def test_times_are_told_apart() -> None:
    embedded = embed_time(torch.arange(1, 101) / 100, 100)
    assert embedded.shape == (100, 256)
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 0.1


def test_a_wrong_dropping_rate_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\), found 1.5"):
        TwoTowerHead(D, H, cond_dropout=1.5)


def test_the_defaults_have_not_changed_by_a_bit(head: TwoTowerHead) -> None:
    context, x, noise = torch.randn(B, S, H), torch.randn(B, S, D), torch.Generator().manual_seed(3)
    target, memory = torch.ones(B, S, dtype=torch.bool), head.remember(context)
    t = torch.randint(1, 101, (B, S), generator=noise) / 100
    x_t = add_noise(x, torch.randn(x.shape, generator=noise), t, head.schedule)
    error = (head.denoise(x_t, t, memory, before()) - x).square().mean(-1)
    found = head.loss(context, x, target, before(), torch.Generator().manual_seed(3))["loss"]
    assert torch.equal(found, error.sum() / target.sum())

    seen, unseen = torch.ones(B, 1, S, dtype=torch.bool), torch.zeros(B, 1, S, dtype=torch.bool)
    x_t = 0.6 * torch.randn(B, 1, D, generator=torch.Generator().manual_seed(4))
    for t, s in pairwise(head.schedule.times(40)):
        alpha, sigma = head.schedule(t)
        given, free = (head.denoise(x_t, t.expand(B, 1), memory, visible) for visible in (seen, unseen))
        x0 = guide(given, free, 3.0, 0.7)
        left = (x_t - alpha * x0) / sigma
        alpha, sigma = head.schedule(s)
        x_t = alpha * x0 + sigma * left
    assert torch.equal(head.sample(memory, seen, generator=torch.Generator().manual_seed(4)), x_t)


@every_prediction
def test_the_loss_is_the_squared_error_of_what_is_predicted(plain: TwoTowerHead, prediction: Prediction) -> None:
    schedule = SigmoidSchedule(50, zero_terminal_snr=False)
    network, other = (
        TwoTowerHead(D, H, num_layers=2, num_heads=2, schedule=schedule, prediction=each).eval()
        for each in (X0Prediction(), prediction)
    )
    network.load_state_dict(plain.state_dict())  # x0 prediction: denoise() is the network's output
    other.load_state_dict(plain.state_dict())
    context, x, generator = torch.randn(B, S, H), torch.randn(B, S, D), torch.Generator().manual_seed(3)
    t = torch.randint(1, 51, (B, S), generator=generator) / 50
    noise = torch.randn(x.shape, generator=generator)
    output = network.denoise(add_noise(x, noise, t, schedule), t, plain.remember(context), before())
    alpha, sigma = (level[..., None] for level in schedule(t))
    target = {X0Prediction: x, VPrediction: alpha * noise - sigma * x, EpsilonPrediction: noise}[type(prediction)]
    found = other.loss(context, x, torch.ones(B, S, dtype=torch.bool), before(), torch.Generator().manual_seed(3))
    torch.testing.assert_close(found["loss"], (output - target).square().mean(), atol=1e-3, rtol=1e-3)


def test_a_loss_weight_has_mean_one_and_leaves_checkpoints_as_they_are(plain: TwoTowerHead) -> None:
    weighted = TwoTowerHead(D, H, num_layers=2, num_heads=2, weight=ClampedSNR()).eval()
    weighted.load_state_dict(plain.state_dict())  # strict
    alpha, sigma = weighted.schedule.alpha[1:], weighted.schedule.sigma[1:]
    least = (alpha**2 / sigma**2).clamp(max=5)
    torch.testing.assert_close(weighted.loss_weight[1:], least / least.mean())
    torch.testing.assert_close(weighted.loss_weight[1:].mean(), torch.ones(()))
    context, x = torch.randn(B, S, H), torch.randn(B, S, D)
    chosen = torch.zeros(B, S, dtype=torch.bool)
    chosen[0, 3] = True  # one target, hence one noise level
    even, found = (
        each.loss(context, x, chosen, before(), torch.Generator().manual_seed(3))["loss"] for each in (plain, weighted)
    )
    step = torch.randint(1, 101, (B, S), generator=torch.Generator().manual_seed(3))[0, 3]
    torch.testing.assert_close(found, even * weighted.loss_weight[step])


def test_guidance_needs_a_model_trained_without_contexts_too() -> None:
    head = TwoTowerHead(D, H, num_layers=1, num_heads=2, cond_dropout=0.0)
    memory, seen = head.remember(torch.randn(B, S, H)), torch.ones(B, 1, S, dtype=torch.bool)
    head.sample(memory, seen, num_steps=2)  # unguided where nothing is said
    with pytest.raises(ValueError, match=r"guidance of 2\.0 needs a model trained with cond_dropout"):
        head.sample(memory, seen, num_steps=2, guidance_scale=2.0)


def test_temperature_scales_the_noise_and_zero_needs_no_seed(head: TwoTowerHead) -> None:
    memory, seen = head.remember(torch.randn(B, S, H)), torch.ones(B, 1, S, dtype=torch.bool)

    def draw(seed: int, **options: float) -> torch.Tensor:
        return head.sample(memory, seen, generator=torch.Generator().manual_seed(seed), num_steps=5, **options)

    assert torch.equal(draw(1), draw(1)) and not torch.allclose(draw(1), draw(2))
    assert torch.equal(draw(1, temperature=0.0), draw(2, temperature=0.0))
    assert torch.equal(draw(1, temperature=0.5, initial_noise=1.0), draw(1, initial_noise=0.5))
    assert not torch.allclose(draw(1, epsilon_scale=1.1), draw(1))
    with pytest.raises(ValueError, match=r"need temperature .* found -1"):
        draw(1, temperature=-1.0)


@pytest.mark.parametrize(("sampler", "calls"), [(ddim, 40), (dpm_solver, 40), (heun, 78)], ids=["ddim", "dpm", "heun"])
def test_the_samplers_call_the_denoiser_as_often_as_they_say(head: TwoTowerHead, sampler: Sampler, calls: int) -> None:
    made, denoise = [], head.denoise
    head.denoise = lambda *given: made.append(given) or denoise(*given)  # type: ignore[method-assign]
    memory, seen = head.remember(torch.randn(B, S, H)), torch.ones(B, 1, S, dtype=torch.bool)
    assert head.sample(memory, seen, num_steps=40, guidance_scale=1.0, sampler=sampler).isfinite().all()
    assert len(made) == calls


@pytest.mark.parametrize("first_guess", [False, True])
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
    prediction: Prediction, weight: ClampedSNR | None, schedule: NoiseSchedule, first_guess: bool
) -> None:
    torch.manual_seed(0)
    head = TwoTowerHead(
        D,
        32,
        num_layers=2,
        num_heads=2,
        dropout=0.0,
        cond_dropout=0.0,
        schedule=schedule,
        prediction=prediction,
        weight=weight,
        first_guess=first_guess,
    )
    context, x = torch.randn(3, 4, 32), torch.randn(3, 4, D)
    visible = torch.ones(4, 4, dtype=torch.bool).tril(-1).expand(3, 4, 4)
    target = visible.any(-1)
    many = [each.repeat(16, *[1] * (each.dim() - 1)) for each in (context, x, target, visible)]  # many noise levels
    optimizer = torch.optim.AdamW(head.parameters(), lr=4e-3)
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(*many)["loss"].backward()
        optimizer.step()
    memory = head.eval().remember(context)
    for sampler in (ddim, dpm_solver, heun):
        options = {"num_steps": 20, "guidance_scale": 1.0, "initial_noise": 1.0}
        found = head.sample(memory, visible, sampler=sampler, **options)
        assert (found - x)[target].square().mean() < 0.1, sampler  # of a variance of 1


def test_the_gradient_reaches_the_contexts_before_a_target_only(head: TwoTowerHead) -> None:
    context, target = torch.randn(B, S, H, requires_grad=True), torch.zeros(B, S, dtype=torch.bool)
    target[0, 3] = True
    head.loss(context, torch.randn(B, S, D), target, before())["loss"].backward()
    assert context.grad is not None
    assert (context.grad[0, :3].abs().sum(-1) > 0).all()
    assert not context.grad[0, 3:].any() and not context.grad[1].any()


def test_epsilon_cannot_be_predicted_at_zero_terminal_snr() -> None:
    with pytest.raises(ValueError, match=r"EpsilonPrediction divides by alpha.*zero_terminal_snr to false"):
        TwoTowerHead(D, H, prediction=EpsilonPrediction())


def test_yaml_chooses_schedule_prediction_and_weight_and_a_checkpoint_keeps_them(fit: Callable[..., Path]) -> None:
    chosen = {"schedule": "SigmoidSchedule", "schedule.gamma": "3.5", "prediction": "VPrediction"}
    chosen |= {"weight": "ClampedSNR", "weight.maximum": "10"}
    folder = fit(*(f"--model.model.head.{key}={value}" for key, value in chosen.items()), steps=1)
    head = load_model(folder / "last.ckpt").model.head
    assert isinstance(head, TwoTowerHead) and isinstance(head.prediction, VPrediction)
    expected = TwoTowerHead(D, H, schedule=SigmoidSchedule(gamma=3.5), weight=ClampedSNR(maximum=10.0))
    torch.testing.assert_close(head.schedule.alpha, expected.schedule.alpha)
    torch.testing.assert_close(head.loss_weight, expected.loss_weight)
