import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer

from data.batch import ConceptBatch
from data.module import ConceptDataModule
from data.store import ConceptStore
from lcm.checkpoint import load_model
from lcm.cli import main
from lcm.task import LCMTask

Fit = Callable[..., Path]
CONFIGS = Path(__file__).parents[2] / "configs"


def state(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return content["state_dict"] | {f"live.{k}": v for k, v in content["current_model_state"].items()}


@pytest.mark.parametrize(
    "head", ["regression", "two_tower", "contrastive", "energy", "flow", "quantised", "quantised_continuous"]
)
def test_a_checkpoint_rebuilds_itself(fit: Fit, head: str, store: ConceptStore) -> None:
    folder = fit(head=head, steps=2)
    task = load_model(folder / "last.ckpt")
    again = LCMTask.load_from_checkpoint(folder / "last.ckpt", weights_only=True)
    assert (task.encoder, task.encoder_name, task.length) == (store.encoder, "hashing:16", 16)
    assert list(task.levels) == again.levels == list(store.heading_levels)
    assert task.model.normalizer.fitted
    prefix = torch.from_numpy(store[0][:5].astype("float32"))[None]
    first, second = (
        model.predict_next(prefix, generator=torch.Generator().manual_seed(0))
        for model in (task.model, again.eval().model)
    )
    assert torch.equal(first, second)


def test_a_checkpoint_knows_where_texts_end(fit: Fit, store: ConceptStore) -> None:
    stopping = load_model(fit(head="regression", steps=2) / "last.ckpt").model.stopping
    assert store.end_of_text is not None
    assert torch.equal(stopping.end_of_text, torch.from_numpy(store.end_of_text))
    rule = stopping.rule(end=True, repetition=True)
    assert rule is not None and rule.repeat_cosine is not None and rule.end_cosine > 0.5
    without = fit("--data.end_of_text=false", head="regression", steps=2, folder="without")
    assert load_model(without / "last.ckpt").model.stopping.rule() is None


def test_a_checkpoint_of_older_code_is_refused_in_one_sentence(fit: Fit, fails: Callable[..., str]) -> None:
    folder = fit(head="regression", steps=1)
    old = torch.load(folder / "last.ckpt", weights_only=True)
    old["state_dict"] = {key: value for key, value in old["state_dict"].items() if ".stopping." not in key}
    torch.save(old, folder / "old.ckpt")
    message = r"another model: model\.stopping\.end_cosine is none there and \[\] here; .* run \"lcm fit\" again"
    with pytest.raises(ValueError, match=message):
        load_model(folder / "old.ckpt")
    said = fails("test", f"--config={folder}/config.yaml", f"--ckpt_path={folder}/old.ckpt")
    assert "older code wrote it" in said and len(said.strip().splitlines()) == 1, said


def test_a_checkpoint_of_another_size_is_refused_in_one_sentence(fit: Fit, fails: Callable[..., str]) -> None:
    folder = fit(head="regression", steps=1)
    said = fails(
        "fit",
        f"--config={folder}/config.yaml",
        "--model.model.backbone.num_layers=2",
        "--trainer.logger=false",
        f"--ckpt_path={folder}/last.ckpt",
    )
    assert "the checkpoint is of another model" in said and len(said.strip().splitlines()) == 1, said


def test_the_last_step_is_validated_and_kept(fit: Fit) -> None:
    folder = fit("--trainer.val_check_interval=2", head="regression", steps=3)
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.parametrize("epochs", [0.2, 1.0, 1.4])  # in the first epoch, at its end, in the second of three
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(fit: Fit, epochs: float, store: ConceptStore) -> None:
    options = ["--model.model.backbone.dropout=0.1", "--data.batch_size=16"]
    module = ConceptDataModule(str(store.path), length=16, stride=8, batch_size=16)
    num_batches = len(module.train_dataloader())
    stop, steps = round(epochs * num_batches), round(2.5 * num_batches)
    whole = fit(*options, steps=steps, folder="whole")
    resumed = fit(*options, f"--ckpt_path={whole}/step={stop}.ckpt", steps=steps, folder="resumed")
    first, second = state(whole / "last.ckpt"), state(resumed / "last.ckpt")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_every_epoch_has_an_order_of_its_own(store: ConceptStore) -> None:
    module = ConceptDataModule(str(store.path), length=16, stride=8, batch_size=16)
    seen: list[list[list[int]]] = []

    class Spy(LightningModule):
        def training_step(self, batch: ConceptBatch, batch_idx: int) -> None:
            if not batch_idx:
                seen.append([])
            seen[-1].append(batch.concepts[:, 0, 0].tolist())

        def configure_optimizers(self) -> None:
            return None

    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    Trainer(max_epochs=2, use_distributed_sampler=False, **quiet).fit(
        Spy(), train_dataloaders=module.train_dataloader()
    )
    first, second = ([x for batch in epoch for x in batch] for epoch in seen)
    assert first != second
    assert sorted(first) == sorted(second)


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
    header = (fit(steps=4) / "log/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"validation_loss", "validation_loss_high_noise", "step"} <= set(header)


def test_a_resumed_training_obeys_its_configuration(fit: Fit) -> None:
    first = fit(steps=2, folder="first")
    longer = fit(f"--ckpt_path={first}/last.ckpt", "--model.optimizer.lr=0.125", steps=4, folder="longer")
    content = torch.load(longer / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert content["hyper_parameters"]["scheduler"]["init_args"]["total_steps"] == 4
    assert content["hyper_parameters"]["optimizer"]["init_args"]["lr"] == 0.125


def test_a_store_of_another_encoder_is_refused(
    fit: Fit, fails: Callable[..., str], tmp_path: Path, store: ConceptStore
) -> None:
    folder = fit(steps=1)
    other = tmp_path / "other"
    shutil.copytree(store.path, other)
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text().replace(store.encoder, "another-16"))
    said = fails("test", f"--config={folder}/config.yaml", f"--data.store={other}", f"--ckpt_path={folder}/last.ckpt")
    assert "the model knows concepts of encoder" in said


def test_logs_of_earlier_runs_stay(fit: Fit) -> None:
    fit(steps=2)
    folder = fit(steps=2)
    assert len(list(folder.glob("log/version_*/metrics.csv"))) == 2


def test_the_average_has_the_fitted_normaliser_from_the_start(fit: Fit) -> None:
    folder = fit("--trainer.num_sanity_val_steps=1", steps=2)
    assert load_model(folder / "last.ckpt").model.normalizer.fitted


def test_a_training_without_validation_still_leaves_best_and_last(store: ConceptStore, tmp_path: Path) -> None:
    configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", "regression", "smoke")]
    flags = {"data.store": store.path, "trainer.default_root_dir": tmp_path, "trainer.max_steps": 3}
    main(["fit", *configs, *(f"--{key}={value}" for key, value in flags.items())])
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    assert load_model(tmp_path / "best.ckpt").model.normalizer.fitted
