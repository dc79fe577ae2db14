import re

import pytest
import torch

from data.store import ConceptStore
from lcm.backbone import CausalTransformer
from lcm.evaluation import HeldOut, Measured, baselines, context_gap, leads, measure, predictor, read_document, verdict
from lcm.heads.regression import RegressionHead
from lcm.metrics import Interval
from lcm.model import ConceptModel


@pytest.fixture
def held_out(store: ConceptStore) -> HeldOut:
    return HeldOut.from_store(store, "test", pool=50)


@pytest.fixture
def regression(store: ConceptStore) -> ConceptModel:
    torch.manual_seed(0)
    model = ConceptModel(16, CausalTransformer(width=16, num_layers=1, num_heads=2), RegressionHead(16, 16)).eval()
    model.normalizer.fit(read_document(store, 0)[0])
    return model


def test_only_sentences_of_held_out_documents_count(held_out: HeldOut, store: ConceptStore) -> None:
    row = measure("copy", baselines(torch.zeros(16))["copy the last"], held_out).row()
    sentences = sum(int((store.levels(i) == 0).sum()) for i in store.split("test"))
    assert row["positions"] == sentences  # each has its heading before it
    assert len(held_out.pool) == 50


def test_a_perfect_predictor_scores_one(held_out: HeldOut) -> None:
    row = measure("perfect", lambda concepts, level: concepts[1:], held_out).row()
    for column, value in {"R@1": 1, "R@10": 1, "l2": 0, "cosine": 1}.items():
        found = row[column]
        assert isinstance(found, Interval)
        assert found.mean == pytest.approx(value, abs=1e-6)


def test_windows_give_what_one_pass_gives_where_the_document_fits(
    regression: ConceptModel, store: ConceptStore
) -> None:
    concepts, level = read_document(store, 0)
    whole = predictor(regression, length=64)(concepts, level)
    assert whole.shape == (len(concepts) - 1, 16)
    for n in (1, 7, 40):
        alone = regression.predict_next(concepts[None, :n], level=level[None, :n])[0]
        torch.testing.assert_close(whole[n - 1], alone)


@pytest.mark.parametrize("length", [4, 8, 9, 40, 41])
def test_a_long_document_is_predicted_from_at_least_half_a_window(
    regression: ConceptModel, store: ConceptStore, length: int
) -> None:
    concepts, level = read_document(store, 0)
    found = predictor(regression, length=length)(concepts, level)
    assert found.shape == (len(concepts) - 1, 16)
    half = length // 2
    for n in range(1, len(concepts)):
        start = ((n - length) // half + 1) * half if n >= length else 0
        expected = regression.predict_next(concepts[None, start:n], level=level[None, start:n])[0]
        torch.testing.assert_close(found[n - 1], expected)


def test_the_gap_is_zero_for_a_model_that_ignores_its_context(regression: ConceptModel, held_out: HeldOut) -> None:
    assert context_gap(regression, held_out, length=8)["difference"] != 0
    torch.nn.init.zeros_(regression.head.output.weight)  # type: ignore[attr-defined]
    assert context_gap(regression, held_out, length=8)["difference"] == 0


def measured(name: str, **columns: float) -> Measured:
    noise = [torch.tensor([0.1, -0.1, 0.05]), torch.tensor([-0.1, 0.1])]
    return Measured(name, {key: [mean + part for part in noise] for key, mean in columns.items()})


def test_the_verdict_names_winners_baselines_included() -> None:
    rows = [measured("model", recall=0.5, l2=2.0), measured("copy", recall=0.4, l2=1.0)]
    assert verdict(rows) == "Best in recall: model. l2: copy."


def test_leads_are_paired() -> None:
    rows = [measured("model", recall=0.5), measured("copy", recall=0.4), measured("mean", recall=0.6)]
    said = leads(rows, "recall")
    assert re.search(r"paired: 0\.10+ ± 0\.0+ against copy, -0\.10+ ± 0\.0+ against mean\.$", said), said


def test_a_tie_is_no_win() -> None:
    rows = [measured("model", recall=0.5), measured("copy", recall=0.5), measured("mean", recall=0.1)]
    assert verdict(rows) == "Best in recall: model, not told apart from copy."


def test_a_split_without_documents_says_so(store: ConceptStore) -> None:
    with pytest.raises(ValueError, match="no split"):
        HeldOut.from_store(store, "none")


def test_documents_of_several_stores_are_measured_together(store: ConceptStore, held_out: HeldOut) -> None:
    both = HeldOut.from_stores([store, store], "test", pool=50, max_rows=10)
    assert len(both.concepts) == 2 * len(held_out.concepts) == len(both.sources)
    assert all(len(concepts) == len(level) == 10 for concepts, level in zip(both.concepts, both.levels, strict=True))
    assert len(both.pool) == 50


def test_positions_are_sentences_each_at_most_once_of_a_range(held_out: HeldOut) -> None:
    every = held_out.positions(10**6)
    assert [rows.tolist() for rows in every] == [
        (torch.nonzero(level[1:] == 0)[:, 0] + 1).tolist() for level in held_out.levels
    ]
    some = held_out.positions(9, first=3, last=6)
    assert sum(map(len, some)) == 9
    for rows in some:
        assert set(rows.tolist()) <= set(range(3, 7))
        assert len(rows.unique()) == len(rows)
    assert [rows.tolist() for rows in some] == [rows.tolist() for rows in held_out.positions(9, first=3, last=6)]


def test_the_gap_of_some_windows_is_near_that_of_all(regression: ConceptModel, held_out: HeldOut) -> None:
    some = context_gap(regression, held_out, length=8, max_windows=5)
    assert some["windows"] == 5
    every = context_gap(regression, held_out, length=8)
    assert context_gap(regression, held_out, length=8, max_windows=10**6)["true context"] == pytest.approx(
        every["true context"], rel=1e-5
    )
