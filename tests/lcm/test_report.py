import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.store import ConceptStore
from lcm.cli import main
from lcm.evaluation import HeldOut, Measured
from lcm.report import decoder_rows, interval, report, report_decoder

COLUMNS = ("contrastive accuracy", "l2")
FOUND = {
    "num_sentences": 20,
    "num_tokens": 321,
    "rows": {"decoder": {"bleu": [9.5, 8.0, 11.0], "cosine": [0.5, 0.4, 0.6]}},
    "nll": {"true": [3.0, 2.9, 3.1], "shuffled": [3.6, 3.5, 3.7], "no": [3.5, 3.4, 3.6]},
    "sentences_per_second": {"decoder": 12.34},
    "nats_carried": {"against no concept": [0.5, 0.4, 0.6]},
}


def test_a_models_report_has_the_table_the_winners_and_the_worth_of_context(store: ConceptStore) -> None:
    held_out = HeldOut.from_store(store, "test", pool=30)
    rows = [
        Measured(name, {key: [torch.tensor([low, low + 1]), torch.tensor([low, low + 1.5])] for key in COLUMNS})
        for name, low in (("model", 1.0), ("copy", 2.0))
    ]
    gap = {"true context": 0.5, "shuffled context": 0.75, "difference": 0.25, "windows": 9}
    text = report(rows, gap, held_out, "test")
    for expected in (
        "| model",
        "| copy",
        "l2: model.",
        "-1.000 ± 0.000 against copy",
        "worth 0.2500 (9 windows)",
        "among 30 held-out",
    ):
        assert expected in text
    assert "Too few long documents" in report(rows, {"windows": 1}, held_out, "test")


def test_a_decoders_report_has_bleu_cosine_and_nats() -> None:
    text = report_decoder(FOUND)
    for expected in ("9.5 [8.0, 11.0]", "carries 0.500 [0.400, 0.600]", "shuffled one 3.600", "20 held-out sentences"):
        assert expected in text
    row = {"BLEU": "9.5 [8.0, 11.0]", "re-encode cosine": "0.500 [0.400, 0.600]", "sentences/s": "12.3"}
    assert decoder_rows(FOUND) == [{"text": "decoder", **row}]
    assert interval([1, 0, 2], 1) == "1.0 [0.0, 2.0]"


def test_evaluate_prints_a_row_for_the_model_and_each_baseline(
    fit: Callable[..., Path],
    fails: Callable[..., str],
    store: ConceptStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = fit(head="regression", steps=2)
    command = ["evaluate", str(store.path), "--model", str(folder / "last.ckpt")]
    main([*command, "--out", str(tmp_path / "t.md")])
    shown = capsys.readouterr().out
    assert (tmp_path / "t.md").read_text() in shown
    assert "has no sampling option num_steps; it draws nothing" in fails(*command, "--sampling.num_steps", "4")
    for name in ("model", "copy the last", "running mean", "corpus mean", "recent mean", "ridge regression"):
        assert f"| {name} " in shown
    numbers = json.loads((tmp_path / "t.json").read_text())
    assert numbers[0]["contrastive accuracy"]["num_documents"] == len(store.split("test"))
