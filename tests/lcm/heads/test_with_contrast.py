from typing import Any

import pytest
import torch

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.quantised import QuantisedHead
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import ConceptModel
from lcm.one_tower import OneTowerModel

B, S, D, H = 2, 5, 7, 16


def before() -> torch.Tensor:
    return torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["regression", "two_tower"])
def head(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    head = RegressionHead(D, H) if request.param == "regression" else TwoTowerHead(D, H, num_layers=1, num_heads=2)
    return head.eval()


def test_the_loss_is_the_sum_and_both_are_told(head: torch.nn.Module) -> None:
    both = WithContrast(head, D, H, weight=0.3).eval()
    arguments = torch.randn(B, S, H), torch.randn(B, S, D), torch.ones(B, S, dtype=torch.bool), before()
    values, alone = both.loss(*arguments, seeded()), head.loss(*arguments, seeded())
    assert torch.equal(values["head_loss"], alone["loss"])  # the head's noise is what it would be without contrast
    assert {name: values[name] for name in alone if name != "loss"} == {n: v for n, v in alone.items() if n != "loss"}
    torch.testing.assert_close(values["loss"], alone["loss"] + 0.3 * values["contrastive_loss"])
    assert 0 <= values["contrastive_accuracy"] <= 1


def test_the_concept_is_that_of_the_head(head: torch.nn.Module) -> None:
    both, context = WithContrast(head, D, H), torch.randn(B, S, H)
    memory = both.remember(context[:, 2:], both.remember(context[:, :2]))
    expected = head.sample(head.remember(context), before(), generator=seeded())
    torch.testing.assert_close(both.sample(memory, before(), generator=seeded()), expected)


def test_options_of_sampling_reach_the_head() -> None:
    both = WithContrast(ContrastiveHead(D, H), D, H)
    bank = torch.randn(9, D)
    assert (both.sample(torch.randn(B, S, H), before(), bank=bank)[0, 0] == bank).all(-1).any()


def test_contrast_moves_the_backbone_where_the_head_does_not(head: torch.nn.Module) -> None:
    torch.manual_seed(0)
    both = WithContrast(head, D, H)
    model = ConceptModel(D, CausalTransformer(H, num_layers=1, num_heads=2, dropout=0.0), both)
    model.normalizer.fit(torch.randn(50, D))
    ones = torch.ones(B, S, dtype=torch.bool)
    batch = ConceptBatch(torch.randn(B, S, D), ones, torch.zeros(B, S, dtype=torch.long))
    gradients = []
    for weight in (1e-9, 1.0):
        both.weight = weight
        model.zero_grad()
        model.loss(batch, seeded())["loss"].backward()
        gradients.append(model.input.weight.grad)
    assert not torch.allclose(*gradients)
    assert both.contrast.query.weight.grad is not None and both.contrast.query.weight.grad.any()


def make_tower(**options: Any) -> OneTowerModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(H, num_layers=1, num_heads=2, dropout=0.0, decays=(1.0,))
    return OneTowerModel(D, backbone, first_guess=True, **options)


def test_a_one_tower_takes_contrast_over_its_clean_contexts() -> None:
    plain, both = make_tower(), make_tower(contrast=ContrastiveHead(D, H, num_banked=4), contrast_weight=0.3)
    concepts, ones = torch.randn(B, S, D), torch.ones(B, S, dtype=torch.bool)
    batch = ConceptBatch(concepts, ones, torch.zeros(B, S, dtype=torch.long))
    for model in (plain, both):
        model.fit(torch.randn(50, D, generator=seeded()))
    both.load_state_dict(plain.state_dict(), strict=False)
    assert both.contrast is not None and both.contrast.bank.any()
    torch.testing.assert_close(both.contrast.query.weight, both.input.concept.weight.T)
    alone, values = plain.eval().loss(batch, seeded()), both.eval().loss(batch, seeded())
    assert torch.equal(values["head_loss"], alone["loss"])
    torch.testing.assert_close(values["loss"], alone["loss"] + 0.3 * values["contrastive_loss"])
    assert torch.equal(plain.predict(batch, generator=seeded()), both.predict(batch, generator=seeded()))
    assert plain.sampling_options() == both.sampling_options()


def test_contrast_reads_the_clean_contexts_of_a_one_tower_and_teaches_them() -> None:
    model = make_tower(contrast=ContrastiveHead(D, H)).eval()
    ones = torch.ones(B, S, dtype=torch.bool)
    batch = ConceptBatch(torch.randn(B, S, D), ones, torch.zeros(B, S, dtype=torch.long))
    model.normalizer.fit(torch.randn(50, D))
    assert model.contrast is not None
    x = model.normalizer(batch.concepts)
    expected = model.contrast.loss(model.contexts(x)[0], x, ones, before())
    values = model.loss(batch, seeded())
    torch.testing.assert_close(values["contrastive_loss"], expected["loss"])
    gradients = []
    for weight in (1e-9, 1.0):
        model.contrast_weight = weight
        model.zero_grad()
        model.loss(batch, seeded())["loss"].backward()
        gradients.append(model.input.concept.weight.grad)
    assert not torch.allclose(*gradients, atol=1e-4)


def test_settings_of_a_contrast_that_is_not_there_or_does_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match=r"a contrast_weight of 5.0 needs a contrast"):
        make_tower(contrast_weight=5.0)
    with pytest.raises(ValueError, match=r"dim 7 and width 16, found \(7, 17\)"):
        make_tower(contrast=ContrastiveHead(D, H + 1))


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_contrast_without_weight_is_an_error(weight: float) -> None:
    with pytest.raises(ValueError, match=f"above 0, found {weight}"):
        WithContrast(RegressionHead(D, H), D, H, weight=weight)
    with pytest.raises(ValueError, match=f"above 0, found {weight}"):
        make_tower(contrast=ContrastiveHead(D, H), contrast_weight=weight)


def test_a_head_that_measures_data_does_so_inside(generator: torch.Generator) -> None:
    inner = QuantisedHead(4, 6, num_codebooks=2, num_units=3)
    WithContrast(inner, 4, 6).fit(torch.randn(20, 4, generator=generator))
    assert inner.quantizer.fitted
    WithContrast(RegressionHead(4, 6), 4, 6).fit(torch.zeros(2, 4))
