"""What heads give to a loss of their text: concepts with gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead, euler
from lcm.heads.head import DifferentiableHead
from lcm.heads.quantised import QuantisedContinuousHead, QuantisedHead
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import ConceptModel, earlier
from lcm.one_tower import OneTowerModel

B, S, D, H = 2, 6, 7, 16
SIZES = {"num_codebooks": 3, "num_units": 8, "num_layers": 1}
HEADS: dict[str, Callable[[], nn.Module]] = {
    "regression": lambda: RegressionHead(D, H),
    "energy": lambda: EnergyHead(D, H, num_layers=1, noise_dim=4),
    "flow": lambda: FlowHead(D, H, num_layers=1),
    "two_tower": lambda: TwoTowerHead(D, H, num_layers=1, num_heads=2, dropout=0.0),
    "contrastive": lambda: ContrastiveHead(D, H),
    "quantised": lambda: QuantisedHead(D, H, **SIZES),
    "quantised_continuous": lambda: QuantisedContinuousHead(D, H, **SIZES),
    "with_contrast": lambda: WithContrast(RegressionHead(D, H), D, H),
}
TAKES_STEPS = ("flow", "two_tower", "one_tower")


def seeded(seed: int = 3) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(params=[*HEADS, "one_tower"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(kind: str) -> ConceptModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.0)
    model = OneTowerModel(D, backbone) if kind == "one_tower" else ConceptModel(D, backbone, HEADS[kind]())
    for parameter in model.parameters():  # some start at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    model.fit(torch.randn(50, D) * 0.1 + 1)
    return model.eval()


@pytest.fixture
def batch() -> ConceptBatch:
    concepts = torch.randn(B, S, D, generator=seeded(1)) * 0.1 + 1
    level = torch.zeros(B, S, dtype=torch.long)
    level[:, 0] = 2
    return ConceptBatch(concepts, torch.ones(B, S, dtype=torch.bool), level)


def context_of(model: ConceptModel, batch: ConceptBatch) -> tuple[Tensor, Tensor]:
    x = model.normalizer(batch.concepts)
    return model.contexts(x, batch.level)[0], x


def test_gradients_reach_backbone_and_head(model: ConceptModel, batch: ConceptBatch, kind: str) -> None:
    found = model.estimate(batch, seeded())
    assert found.shape == (B, S, D) and found.dtype == torch.float32
    found.square().sum().backward()
    moved = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {"input.weight", "input.concept.weight"} & moved
    assert {name for name, _ in model.backbone.named_parameters(prefix="backbone")} <= moved
    assert kind == "one_tower" or any(name.startswith("head.") for name in moved)


def test_an_estimate_knows_only_what_is_before_it(model: ConceptModel, batch: ConceptBatch) -> None:
    concepts = batch.concepts.clone()
    concepts[:, 4:] += 1
    changed = ConceptBatch(concepts, batch.mask, batch.level)
    one, other = (model.estimate(each, seeded()) for each in (batch, changed))
    assert torch.equal(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5], other[:, 5])


def test_the_same_seed_gives_the_same_estimate(model: ConceptModel, batch: ConceptBatch) -> None:
    assert torch.equal(model.estimate(batch, seeded()), model.estimate(batch, seeded()))


@pytest.mark.parametrize("kind", TAKES_STEPS, indirect=True)
def test_more_steps_are_another_estimate_with_gradients(model: ConceptModel, batch: ConceptBatch) -> None:
    one, three = (model.estimate(batch, seeded(), num_steps=steps) for steps in (1, 3))
    assert not torch.allclose(one, three)
    three.sum().backward()
    assert model.backbone.norm.weight.grad is not None


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("regression", {}),
        ("with_contrast", {}),
        ("energy", {}),
        ("contrastive", {"reach": 1.0}),
        ("quantised", {}),  # straight through: what is drawn is a concept that sampling gives
        ("flow", {"num_steps": 1, "solver": euler}),
        ("two_tower", {"num_steps": 1, "guidance_scale": 1.0, "initial_noise": 1.0}),
        ("one_tower", {"num_steps": 1, "guidance_scale": 1.0, "initial_noise": 1.0}),
    ],
    indirect=["kind"],
)
def test_an_estimate_is_a_sample(model: ConceptModel, batch: ConceptBatch, options: dict[str, object]) -> None:
    sampled = model.predict(batch, generator=seeded(), **options)
    torch.testing.assert_close(model.estimate(batch, seeded()), sampled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["quantised"], indirect=True)
def test_drawn_units_have_the_gradient_of_the_expected_concept(model: ConceptModel, batch: ConceptBatch) -> None:
    head = model.head
    assert isinstance(head, QuantisedHead)
    head.quantizer.codebooks[1:] = 0  # one codebook: the expectation has a closed form
    context, x = context_of(model, batch)
    visible, weight = earlier(batch), torch.randn(D, generator=seeded())
    wanted = head.network.output.weight
    (given,) = torch.autograd.grad((head.estimate(context, x, visible, seeded()) @ weight).sum(), wanted)
    last = context.gather(1, (torch.arange(S) - 1).clamp_min(0)[None, :, None].expand(B, S, H)).clone()
    last[:, 0] = 0
    expected = head.logits(torch.zeros(B, S, D), 0, last).softmax(-1) @ head.quantizer.codebooks[0]
    (closed,) = torch.autograd.grad((expected @ weight).sum(), wanted)
    torch.testing.assert_close(given, closed)


@pytest.mark.parametrize("kind", ["quantised_continuous"], indirect=True)
def test_the_continuous_estimate_stands_behind_each_number_of_units(model: ConceptModel, batch: ConceptBatch) -> None:
    head = model.head
    assert isinstance(head, QuantisedContinuousHead)
    context, x = context_of(model, batch)
    found = [head.estimate(context, x, earlier(batch), seeded(seed)) for seed in range(20)]
    assert len({tuple(each.flatten().tolist()) for each in found}) == 3
    sampled = head.sample(context, earlier(batch), temperature=0.0)
    head.quantizer.num_codebooks -= 1
    partial = head.sample(context, earlier(batch), temperature=0.0)
    last = head.quantizer.codebooks[2]
    deepest = [
        each
        for each in found
        if torch.allclose(last[head.quantizer.closeness(each - partial, 2).argmax(-1)] + partial, sampled, atol=1e-5)
    ]
    assert deepest  # the nearest centroid to the continuous residual is the unit that sampling takes


@pytest.mark.parametrize("kind", ["regression"], indirect=True)
def test_a_head_without_an_estimate_is_refused_in_one_sentence(model: ConceptModel, batch: ConceptBatch) -> None:
    class Bare(nn.Module):
        pass

    assert isinstance(model.head, DifferentiableHead)
    model.head = Bare()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="a Bare gives no concept with gradients"):
        model.estimate(batch)
    with pytest.raises(ValueError, match="a Bare gives no concept with gradients"):
        WithContrast(Bare(), D, H).estimate(*context_of(model, batch), earlier(batch))
