"""What holds for every head that draws the next concept from the last visible context."""

import numpy as np
import pytest
import torch
from torch import Tensor

from data.batch import ConceptBatch, Piece
from lcm.backbone import CausalTransformer
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead
from lcm.heads.head import last_visible
from lcm.model import ConceptModel

B, S, D, H = 2, 5, 7, 16
HEADS = {
    "flow": lambda **options: FlowHead(D, H, num_layers=2, **options),
    "energy": lambda **options: EnergyHead(D, H, **options),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[(name, guess) for name in HEADS for guess in (False, True)], ids=str)
def fresh(request: pytest.FixtureRequest) -> ConceptModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=1, num_heads=2, dropout=0.0)
    name, first_guess = request.param
    model = ConceptModel(D, backbone, HEADS[name](first_guess=first_guess))
    model.normalizer.fit(torch.randn(50, D) * 0.1 + 1)
    return model


@pytest.fixture
def model(fresh: ConceptModel) -> ConceptModel:
    for parameter in fresh.parameters():  # what starts at zero would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    return fresh.eval()


def before() -> Tensor:
    return torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)


def test_the_last_visible_context_is_zero_where_none_is() -> None:
    memory = torch.randn(B, S, H)
    visible = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool).expand(B, 2, S)
    torch.testing.assert_close(last_visible(memory, visible), torch.stack((memory[:, 2], torch.zeros(B, H)), 1))


def test_the_same_seed_draws_the_same_and_another_seed_another(model: ConceptModel) -> None:
    memory = torch.randn(B, S, H)
    first, again, other = (model.head.sample(memory, before(), generator=seeded(seed)) for seed in (0, 0, 1))
    assert first.shape == (B, S, D)
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(-1).any()


def test_temperature_zero_depends_on_no_seed_and_more_temperature_spreads_more(model: ConceptModel) -> None:
    memory, visible = torch.randn(1, 1, H), torch.ones(1, 500, 1, dtype=torch.bool)
    coldest = model.head.sample(memory, visible, temperature=0.0)
    assert torch.equal(coldest, model.head.sample(memory, visible, generator=seeded(), temperature=0.0))
    torch.testing.assert_close(coldest, coldest[:, :1].expand_as(coldest))
    spreads = [
        model.head.sample(memory, visible, generator=seeded(), temperature=t).std(1).mean().item()
        for t in (0.0, 0.3, 0.6, 1.0)
    ]
    assert spreads == sorted(spreads)
    assert spreads[1] > 0


def test_only_the_last_visible_context_counts(model: ConceptModel) -> None:
    memory = torch.randn(B, S, H)
    found = model.head.sample(memory, before(), generator=seeded())
    for s in range(1, S):
        changed = memory.clone()
        changed[:, s] += 1
        again = model.head.sample(changed, before(), generator=seeded())
        assert torch.equal(again[:, torch.arange(S) != s + 1], found[:, torch.arange(S) != s + 1])
        assert s + 1 == S or not torch.isclose(again[:, s + 1], found[:, s + 1]).all(-1).any()


def test_memory_grows_by_appending(model: ConceptModel) -> None:
    context = torch.randn(B, S, H)
    whole, parts = (
        model.head.remember(context),
        model.head.remember(context[:, 2:], model.head.remember(context[:, :2])),
    )
    assert torch.equal(whole, parts)


def test_a_position_without_visible_context_draws_and_learns_without(model: ConceptModel) -> None:
    unseen, x, target = torch.zeros(B, S, S, dtype=torch.bool), torch.randn(B, S, D), torch.ones(B, S, dtype=torch.bool)
    contexts = torch.randn(2, B, S, H)
    for visible, same in ((unseen, True), (before(), False)):
        a, b = (model.head.sample(context, visible, generator=seeded()) for context in contexts)
        assert torch.equal(a, b) == same
        a, b = (model.head.loss(context, x, target, visible, seeded())["loss"] for context in contexts)
        assert torch.equal(a, b) == same
        assert a.isfinite()


def test_a_packed_row_leaks_nothing_from_one_document_to_the_next(model: ConceptModel) -> None:
    random = np.random.default_rng(0)

    def piece(num: int) -> Piece:
        return random.normal(1, 0.1, (num, D)).astype(np.float16), np.zeros(num, dtype=np.int8)

    first, second = piece(3), piece(4)
    batches = [ConceptBatch.pack([[one, second]]) for one in (first, piece(3))]
    found, other = (model.predict(batch, generator=seeded()) for batch in batches)
    assert not torch.isclose(found[:, 1:3], other[:, 1:3]).all(-1).any()
    assert torch.equal(found[:, 3:], other[:, 3:])


def test_no_target_means_no_loss(model: ConceptModel) -> None:
    none = torch.zeros(B, S, dtype=torch.bool)
    assert model.head.loss(torch.randn(B, S, H), torch.randn(B, S, D), none, before(), seeded())["loss"] == 0


def test_the_gradient_reaches_the_backbone(model: ConceptModel) -> None:
    concepts = torch.randn(B, S, D) * 0.1 + 1
    batch = ConceptBatch(concepts, torch.ones(B, S, dtype=torch.bool), torch.zeros(B, S, dtype=torch.long))
    model.train().loss(batch, seeded())["loss"].backward()
    for name, parameter in (*model.backbone.named_parameters(), *model.input.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_three_documents_by_heart(fresh: ConceptModel) -> None:
    torch.manual_seed(0)
    concepts = torch.randn(3, 8, D) * 0.1 + 1
    batch = ConceptBatch(concepts, torch.ones(3, 8, dtype=torch.bool), torch.zeros(3, 8, dtype=torch.long))
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=5e-3)
    for step in range(400):
        optimizer.zero_grad()
        fresh.train().loss(batch, seeded(step))["loss"].backward()
        optimizer.step()
    x = fresh.eval().normalizer(concepts)[:, 1:].flatten(0, 1)
    drawn = fresh.normalizer(fresh.predict(batch, generator=seeded()))[:, 1:].flatten(0, 1)
    nearest = torch.cdist(drawn, x).argmin(-1)
    assert (nearest == torch.arange(len(x))).float().mean() > 0.95  # of 21, by a draw at temperature 1
