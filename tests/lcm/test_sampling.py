"""What temperature and seed do for every head, and how options are named."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead, euler
from lcm.heads.flow_two_tower import FlowTwoTowerHead
from lcm.heads.quantised import QuantisedContinuousHead, QuantisedHead
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import ConceptModel
from lcm.one_tower import OneTowerModel
from lcm.samplers import heun
from lcm.sampling import read_sampling

D, H, NUM = 8, 16, 400


def backbone() -> CausalTransformer:
    return CausalTransformer(width=H, num_layers=1, num_heads=2, dropout=0.0)


HEADS: dict[str, Callable[[], torch.nn.Module]] = {
    "two_tower": lambda: TwoTowerHead(D, H, num_layers=1, num_heads=2),
    "flow": lambda: FlowHead(D, H, num_layers=2),
    "flow_two_tower": lambda: FlowTwoTowerHead(D, H, num_layers=1, num_heads=2),
    "energy": lambda: EnergyHead(D, H, num_layers=2),
    "contrastive": lambda: ContrastiveHead(D, H),
    "quantised": lambda: QuantisedHead(D, H, num_codebooks=3, num_units=8, num_layers=1),
    "quantised_continuous": lambda: QuantisedContinuousHead(D, H, num_codebooks=3, num_units=8, num_layers=1),
    "with_contrast": lambda: WithContrast(FlowHead(D, H, num_layers=2), D, H),
    "regression": lambda: RegressionHead(D, H),
}
DRAWING = [*sorted(HEADS.keys() - {"regression"}), "one_tower"]


def make(name: str) -> ConceptModel:
    torch.manual_seed(0)
    model = OneTowerModel(D, backbone()) if name == "one_tower" else ConceptModel(D, backbone(), HEADS[name]())
    for parameter in model.parameters():
        if parameter.numel() > 1:  # what starts at zero would be deaf; the scale of a cosine stays
            torch.nn.init.normal_(parameter, std=0.2)
    model.fit(torch.randn(300, D) * 0.1 + 1)
    return model.eval()


def draw(model: ConceptModel, temperature: float, seed: int) -> Tensor:
    """Returns concepts (NUM, D) that are put behind the same prefix."""
    prefix = (torch.randn(1, 3, D, generator=torch.Generator().manual_seed(7)) * 0.1 + 1).expand(NUM, -1, -1)
    options: dict[str, Any] = {"temperature": temperature}
    if "bank" in model.sampling_options():  # a head that answers from a bank draws nothing without one
        options |= {"bank": torch.randn(200, D, generator=torch.Generator().manual_seed(8)), "top_k": 50}
    if "num_steps" in model.sampling_options():
        options["num_steps"] = 6
    return model.predict_next(prefix, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("name", DRAWING)
def test_a_seed_says_which_concepts_are_drawn(name: str) -> None:
    model = make(name)
    first, again, other = (draw(model, 1.0, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(-1).all()
    assert len(first.unique(dim=0)) > 10


@pytest.mark.parametrize("name", DRAWING)
def test_temperature_zero_knows_no_seed_and_a_higher_one_spreads_more(name: str) -> None:
    model = make(name)
    coldest = draw(model, 0.0, 0)
    assert torch.equal(coldest, draw(model, 0.0, 1))
    torch.testing.assert_close(coldest, coldest[:1].expand_as(coldest))
    spreads = [float((draw(model, temperature, 0) - coldest).norm(dim=-1).mean()) for temperature in (0.4, 1.0, 4.0)]
    assert 0 < spreads[0] < spreads[1] < spreads[2]
    with pytest.raises(ValueError, match="temperature"):
        draw(model, -1.0, 0)


def test_a_model_that_draws_nothing_has_no_temperature_and_says_so() -> None:
    model = make("regression")
    prefix = torch.randn(2, 3, D)
    first, other = (model.predict_next(prefix, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(first, other)
    message = "a RegressionHead has no sampling option temperature; it draws nothing and has no options"
    with pytest.raises(ValueError, match=message):
        read_sampling(model, {"temperature": 0.5})


@pytest.mark.parametrize("name", DRAWING)
def test_an_unknown_option_is_answered_with_those_there_are(name: str) -> None:
    model = make(name)
    with pytest.raises(ValueError, match=r"has no sampling option temperatur; its options are .*temperature"):
        read_sampling(model, {"temperatur": 1.0})
    with pytest.raises(ValueError, match="has no sampling option bank"):
        read_sampling(model, {"bank": 1.0})
    assert read_sampling(model, {"temperature": 0.5}) == {"temperature": 0.5}


def test_functions_are_named_and_numbers_are_numbers() -> None:
    tower, flow = make("two_tower"), make("flow")
    assert read_sampling(tower, {"sampler": "heun", "num_steps": 9}) == {"sampler": heun, "num_steps": 9}
    assert read_sampling(flow, {"solver": "euler"}) == {"solver": euler}
    for model, given, message in (
        (tower, {"sampler": "euler"}, "sampler is one of ddim, dpm_solver, heun, found euler"),
        (flow, {"solver": 3}, "solver is one of euler, midpoint, found 3"),
        (tower, {"num_steps": "many"}, "num_steps is a number, found many"),
        (tower, {"num_steps": 2.5}, "num_steps is a whole number, found 2.5"),
        (make("energy"), {"num_candidates": 1.5}, "num_candidates is a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            read_sampling(model, given)


def test_named_functions_draw_what_they_would_in_python() -> None:
    model = make("two_tower")
    batch = ConceptBatch(torch.randn(2, 4, D), torch.ones(2, 4).bool(), torch.zeros(2, 4).long())
    by_name, by_hand = (
        model.predict(batch, generator=torch.Generator().manual_seed(0), **options)
        for options in (read_sampling(model, {"sampler": "heun", "num_steps": 5}), {"sampler": heun, "num_steps": 5})
    )
    assert torch.equal(by_name, by_hand)
