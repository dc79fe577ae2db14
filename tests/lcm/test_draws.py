import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from data.store import ConceptStore
from lcm.backbone import CausalTransformer
from lcm.draws import drawer, energy, point
from lcm.evaluation import HeldOut, predictor, read_document
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.model import ConceptModel
from lcm.normalizer import Normalizer
from lcm.one_tower import OneTowerModel

D, H = 16, 16


def make_model(kind: str, store: ConceptStore) -> ConceptModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.0)
    model: ConceptModel = {
        "regression": lambda: ConceptModel(D, backbone, RegressionHead(D, H)),
        "two-tower": lambda: ConceptModel(D, backbone, TwoTowerHead(D, H, num_layers=2, num_heads=2, dropout=0.0)),
        "one-tower": lambda: OneTowerModel(D, backbone),
    }[kind]()
    for parameter in model.parameters():  # AdaLN-zero would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    model.normalizer.fit(read_document(store, 0)[0])
    return model.eval()


@pytest.fixture(params=["regression", "two-tower", "one-tower"])
def model(request: pytest.FixtureRequest, store: ConceptStore) -> ConceptModel:
    return make_model(request.param, store)


def centred(model: ConceptModel) -> dict[str, float | int]:
    """Options that leave no randomness."""
    return {"temperature": 0.0, "num_steps": 2} if "temperature" in model.sampling_options() else {}


@pytest.mark.parametrize("length", [64, 16])
def test_a_draw_is_what_the_predictor_says_at_its_position(
    model: ConceptModel, store: ConceptStore, length: int
) -> None:
    concepts, level = read_document(store, 0)
    at = torch.tensor([1, 5, 17, len(concepts) - 1])
    sure = centred(model)
    whole = predictor(model, length=length, **sure | ({"guidance_scale": 1.0} if sure else {}))(concepts, level)
    drawn = drawer(model, 3, length=length, **sure)(concepts, level, at)
    assert drawn.shape == (3, 4, D)
    for some in drawn:
        assert_close(some, whole[at - 1], rtol=1e-4, atol=1e-5)


def test_draws_do_not_see_what_is_behind_them(model: ConceptModel, store: ConceptStore) -> None:
    concepts, level = read_document(store, 0)
    at = torch.tensor([4, 9])
    changed = torch.cat((concepts[:9], concepts[9:].flip(0) + 1))
    draws = [drawer(model, 2, length=64, num_steps=2) if centred(model) else drawer(model, 2, length=64) for _ in "ab"]
    assert_close(draws[0](concepts, level, at), draws[1](changed, level, at))


def test_draws_differ_and_come_from_what_was_learnt(store: ConceptStore) -> None:
    model = make_model("two-tower", store)
    concepts, level = read_document(store, 0)
    at = torch.tensor([5, 20])
    drawn = drawer(model, 4, length=64, num_steps=2)(concepts, level, at)
    assert (drawn[0] != drawn[1]).all()
    same = drawer(model, 4, length=64, num_steps=2, guidance_scale=1.0, initial_noise=1.0)(concepts, level, at)
    assert torch.equal(drawn, same)


def test_the_energy_of_a_point_is_its_distance_and_only_where_asked(store: ConceptStore) -> None:
    held_out = HeldOut.from_store(store, "test", pool=20)
    normalizer = Normalizer(D)
    normalizer.fit(held_out.pool)
    at = held_out.positions(7)

    def copy(concepts: Tensor, level: Tensor) -> Tensor:
        return concepts[:-1]

    values = energy(point(copy), held_out, at, normalizer)
    assert sum(int((~value.isnan()).sum()) for value in values) == sum(map(len, at)) == 7
    for concepts, level, rows, value in zip(held_out.concepts, held_out.levels, at, values, strict=True):
        x = normalizer(concepts).double()
        expected = (x[rows - 1] - x[rows]).norm(dim=-1) / D**0.5
        assert_close(value[~value.isnan()], expected)
        assert len(value) == int((level[1:] == 0).sum())
