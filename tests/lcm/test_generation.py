import pytest
import torch
from torch import Tensor

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.generation import continue_concepts, continue_until
from lcm.heads.energy import EnergyHead
from lcm.heads.regression import RegressionHead
from lcm.model import ConceptModel
from lcm.stopping import StopRule


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_are_those_without_a_rule_cut_where_the_rule_says(model: ConceptModel, batch: ConceptBatch) -> None:
    options = {"num_steps": 3} if model.sampling_options() else {}
    whole = continue_concepts(model, batch.concepts, 6, level=batch.level, generator=seeded(), **options)
    for n in (0, 2, 5):
        rule = StopRule(whole[0, n], end_cosine=1 - 1e-6)
        found = continue_until(model, batch.concepts, 6, rule, level=batch.level, generator=seeded(), **options)
        cut = [next((i for i in range(1, 6) if rule.ends(row[i])), 6) for row in whole]  # at least one comes
        assert found.lengths.tolist() == cut and found.ended.tolist() == [length < 6 for length in cut]
        assert n == 0 or cut[0] <= n
        assert found.concepts.shape == (2, max(cut), 7)
        for row, expected, length in zip(found.concepts, whole, cut, strict=True):
            assert torch.equal(row[:length], expected[:length])
            assert not row[length:].any()
        assert found.mask.sum(1).tolist() == cut


def test_a_repetition_stops_each_row_by_itself() -> None:
    torch.manual_seed(0)
    model = ConceptModel(7, CausalTransformer(16, 1, 2, dropout=0.0), RegressionHead(7, 16)).eval()
    model.normalizer.fit(torch.randn(50, 7))
    prefix = torch.randn(8, 3, 7)
    whole = continue_concepts(model, prefix, 9)
    cosine = torch.cosine_similarity(whole[:, 1:], whole[:, :-1], dim=-1)
    threshold = float(cosine.flatten().sort().values[-12])
    found = continue_until(model, prefix, 9, StopRule(repeat_cosine=threshold))
    expected = [next((i + 1 for i, value in enumerate(row) if value >= threshold), 9) for row in cosine.tolist()]
    assert found.lengths.tolist() == expected
    assert len(set(expected)) > 2


def test_the_least_comes_whatever_the_rule_says_and_nothing_is_no_length(
    model: ConceptModel, batch: ConceptBatch
) -> None:
    always, options = torch.ones(7), {"num_steps": 2} if model.sampling_options() else {}
    for least in (0, 1, 4):
        rule = StopRule(always, end_cosine=-0.999, min_concepts=least)
        found = continue_until(model, batch.concepts, 6, rule, generator=seeded(), **options)
        assert found.concepts.shape[1] == least and found.lengths.tolist() == [least] * 2 and found.ended.all()
    with pytest.raises(ValueError, match="at least 1, found 0"):
        continue_until(model, batch.concepts, 0, rule)


# --- it learns to end -------------------------------------------------------------------------------------------------

NUM, LENGTH, D = 48, 5, 12


def toy_documents() -> tuple[Tensor, Tensor]:
    """Documents (NUM, LENGTH, D) that wander through five places from a start of their own, and what ends them (D,)."""
    places = torch.randn(LENGTH, D, generator=seeded(1))
    own = torch.randn(NUM, 1, D, generator=seeded(2))
    return places + 0.3 * own, torch.randn(D, generator=seeded(3))


@pytest.mark.parametrize("head", [RegressionHead, EnergyHead])
def test_a_model_of_short_documents_ends_where_they_do(head: type[RegressionHead] | type[EnergyHead]) -> None:
    torch.manual_seed(0)
    model = ConceptModel(D, CausalTransformer(width=32, num_layers=1, num_heads=2, dropout=0.0), head(D, 32))
    documents, end = toy_documents()
    model.fit(documents.flatten(0, 1), end)
    concepts = torch.cat((documents, end.expand(NUM, 1, D)), dim=1)
    ones = torch.ones(NUM, LENGTH + 1, dtype=torch.bool)
    batch = ConceptBatch(concepts, ones, torch.zeros_like(ones, dtype=torch.long))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        optimizer.zero_grad()
        model.train().loss(batch, seeded(step))["loss"].backward()
        optimizer.step()
    rule = model.eval().stopping.rule(repetition=True)
    assert rule is not None
    own = 0.3 * torch.randn(20, 1, D, generator=seeded(4))  # documents that it has not read
    for given in (1, 2, 4):
        prefix = documents[0, :given] - documents[0, :1] + own + documents.mean(0)[:1]
        found = continue_until(model, prefix, 30, rule, generator=seeded())
        assert found.ended.all()
        assert (found.lengths + given - LENGTH).abs().float().mean() < 0.2, found.lengths
