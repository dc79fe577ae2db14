from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data.store import ConceptStore
from decoders.module import SentenceDataModule
from decoders.predicted import PredictedConcepts
from lcm.checkpoint import load_model
from lcm.cli import main
from lcm.evaluation import predictor, read_document
from lcm.predict_store import Asked, predict_store, windows_of

Fit = Callable[..., Path]
Fails = Callable[..., str]


@pytest.mark.parametrize("length", [2, 3, 7, 8, 100])
def test_windows_count_every_row_but_the_first_once_and_see_enough_before_it(length: int) -> None:
    lengths = np.array([2, 30, 7, 8, 9, 15])
    seen: dict[int, list[int]] = {}
    for document, start, stop, first in windows_of(np.arange(6), lengths, length).tolist():
        assert stop - start <= length
        for row in range(first, stop):
            seen.setdefault(document, []).append(row)
            assert row - start >= min(row, length // 2)
    assert seen == {document: list(range(1, num)) for document, num in enumerate(lengths.tolist())}


@pytest.fixture
def checkpoint(fit: Fit) -> Path:
    return fit(head="regression", steps=2) / "last.ckpt"


def test_every_sentence_is_predicted_from_those_before_it(
    checkpoint: Path, store: ConceptStore, tmp_path: Path
) -> None:
    found = predict_store(store, tmp_path / "p", Asked(checkpoint, bfloat16=False), progress=False)
    task = load_model(checkpoint)
    reference = predictor(task.model, length=store.lengths.max())
    for document in range(3):
        rows = np.flatnonzero(store.levels(document) == 0)  # all sentences: a heading stands before the first
        assert found.known(np.full_like(rows, document), rows).all()
        assert not found.known(np.array([document]), np.array([0])).any()
        concepts, level = read_document(store, document)
        early = rows[rows < task.length]  # in the first window, where nothing is forgotten
        expected = reference(concepts, level)[early - 1]
        actual = torch.from_numpy(found.concepts(np.full_like(early, document), early))
        torch.testing.assert_close(actual, expected, atol=1e-3, rtol=2e-3)
    assert found.manifest["predicted"] == int(sum((store.levels(i) == 0).sum() for i in range(len(store))))
    assert found.manifest["without"] == 0 and 0 < found.manifest["level"] < 1


def test_a_run_that_was_killed_goes_on_to_the_same(
    checkpoint: Path, store: ConceptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(checkpoint, splits=("validation", "train"))
    whole = predict_store(store, tmp_path / "whole", asked, rows_apart=200, progress=False)
    assert whole.manifest["splits"] == ["train", "validation"]
    test = store.split("test")
    assert not whole.known(test, np.full_like(test, 5)).any()

    import lcm.predict_store

    predict_part, calls = lcm.predict_store._predict_part, []

    def killed(*args: object, **options: object) -> None:
        calls.append(args[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        predict_part(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lcm.predict_store, "_predict_part", killed)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_store(store, out, asked, rows_apart=200, progress=False)
    assert not out.exists() and len(calls) == 3
    resumed = predict_store(store, out, asked, rows_apart=200, progress=False)
    assert np.array_equal(calls[3], calls[2])  # what was done is not done again
    for file in ("concepts.npy", "known.npy"):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert resumed.manifest == whole.manifest
    assert sorted(file.name for file in out.iterdir()) == ["concepts.npy", "known.npy", "predicted.json"]
    predict_store(store, out, asked, rows_apart=200, progress=False)  # it is there
    with pytest.raises(ValueError, match="is there already and holds something else"):
        predict_store(store, out, Asked(checkpoint), progress=False)


def test_the_command_writes_what_a_decoder_is_trained_on(
    fit: Fit, store: ConceptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = fit(head="two_tower", steps=2) / "last.ckpt", tmp_path / "p"
    options = ["--splits", "train", "validation", "--sampling.num_steps", "2", "--seed", "3"]
    main(["foretell", str(store.path), "--model", str(path), "--out", str(out), *options])
    shown = capsys.readouterr().out
    assert "sentences of train, validation predicted, 0 with nothing before them" in shown
    found = PredictedConcepts.open(out, store)
    assert found.manifest["sampling"] == {"num_steps": 2} and found.manifest["bfloat16"]
    module = SentenceDataModule(str(store.path), predicted=str(out), predicted_share=1.0, max_tokens=200)
    assert module.predicted_level == pytest.approx(found.manifest["level"], abs=0.2)
    batch = next(iter(module.train_dataloader()))
    assert batch.level is not None and (batch.level == module.predicted_level).all()


def test_a_mistake_is_told_in_one_sentence(checkpoint: Path, store: ConceptStore, tmp_path: Path, fails: Fails) -> None:
    out = tmp_path / "out"
    for more, expected in (
        (["--sampling.top_k", 3], "has no sampling option top_k"),
        (["--model", tmp_path / "none.ckpt"], "there is no concept model at"),
        (["--splits", "dev"], "splits"),
        (["--out", store.path], "is what is read"),
    ):
        said = fails("foretell", store.path, "--model", checkpoint, "--out", out, *more)
        assert expected in said
    assert not out.exists()
