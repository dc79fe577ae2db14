from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.store import ConceptStore
from lcm.checkpoint import load_task
from lcm.cli import main
from lcm.task import LCMTask

Fit = Callable[..., Path]


def state(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return content["state_dict"] | {f"live.{k}": v for k, v in content["current_model_state"].items()}


@pytest.mark.parametrize("head", ["regression", "two_tower"])
def test_a_checkpoint_rebuilds_itself(fit: Fit, head: str, store: ConceptStore) -> None:
    folder = fit(head=head, steps=2)
    task = load_task(folder / "last.ckpt")
    again = LCMTask.load_from_checkpoint(folder / "last.ckpt", weights_only=True)
    assert (task.encoder, task.encoder_name, task.length) == (store.encoder, "hashing:16", 16)
    assert task.model.normalizer.fitted
    prefix = torch.from_numpy(store[0][:5].astype("float32"))[None]
    first, second = (
        t.eval().model.predict_next(prefix, generator=torch.Generator().manual_seed(0)) for t in (task, again)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("stop", [3, 23, 25])  # in the first epoch, at its end, in the second
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(fit: Fit, stop: int, store: ConceptStore) -> None:
    whole = fit("--model.model.backbone.dropout=0.1", steps=28, folder="whole")
    resumed = fit(
        "--model.model.backbone.dropout=0.1", f"--ckpt_path={whole}/step={stop}.ckpt", steps=28, folder="resumed"
    )
    first, second = state(whole / "last.ckpt"), state(resumed / "last.ckpt")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_validate_test_and_predict_read_a_checkpoint(
    fit: Fit, store: ConceptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(steps=2)
    common = [f"--config={folder}/config.yaml", "--trainer.logger=false", f"--ckpt_path={folder}/last.ckpt"]
    main(["validate", *common])
    main(["test", *common])
    assert "test_loss" in capsys.readouterr().out
    path = tmp_path / "next.safetensors"
    main(["predict", *common, f"--trainer.callbacks=[{{class_path: PredictionFile, init_args: {{path: '{path}'}}}}]"])
    from safetensors.torch import load_file

    num_windows = sum(-(-(store.documents[i].num_sentences) // 16) for i in store.split("test"))
    assert load_file(path)["concepts"].shape == (num_windows, 16)


def test_the_learning_curve_is_logged(fit: Fit) -> None:
    header = (fit(steps=4) / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"validation_loss", "validation_loss_high_noise", "step"} <= set(header)
