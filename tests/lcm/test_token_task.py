from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.store import ConceptStore
from lcm.checkpoint import load_model
from lcm.cli import main

Fit = Callable[..., Path]
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def decoder(llm: str, store: ConceptStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder's checkpoint for the concepts of the tales."""
    folder = tmp_path_factory.mktemp("decoder")
    sizes = {"num_tokens": 3, "word_tokens": 2, "hidden_dim": 24, "num_words": 60, "lora_rank": 2}
    options = {f"model.decoder.{name}": size for name, size in sizes.items()} | {
        "model.decoder.llm": llm,
        "data.store": store.path,
        "trainer.default_root_dir": folder,
    }
    configs = [f"--config={CONFIGS / name}.yaml" for name in ("decoder", "decoder_smoke")]
    main(["fit", *configs, *(f"--{key}={value}" for key, value in options.items())])
    return folder / "best.ckpt"


@pytest.fixture
def second(fit: Fit, decoder: Path, tmp_path: Path) -> Fit:
    """Runs a second stage of two steps from a first one's folder and returns the folder that it filled."""

    def run(first: Path, *more: str, folder: str = "second") -> Path:
        options = {
            "model.from_checkpoint": first / "last.ckpt",
            "model.decoder": decoder,
            "model.num_texts": 4,
            "trainer.default_root_dir": tmp_path / folder,
            "trainer.max_steps": 2,
            "trainer.val_check_interval": 2,
            "trainer.limit_val_batches": 2,
            "trainer.enable_progress_bar": "true",  # the first stage of the fixture has neither bar nor callback
        }
        configs = [f"--config={first / 'config.yaml'}", f"--config={CONFIGS / 'token_loss.yaml'}"]
        main(["fit", *configs, *(f"--{key}={value}" for key, value in options.items()), *more])
        return tmp_path / folder

    return run


def test_a_second_stage_leaves_a_plain_concept_model(
    fit: Fit, second: Fit, decoder: Path, store: ConceptStore, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(head="energy", steps=2)
    folder = second(first)
    content = torch.load(folder / "best.ckpt", weights_only=True)
    assert content["hyper_parameters"]["_class_path"] == "lcm.task.LCMTask"
    assert str(decoder) not in str(content["hyper_parameters"])
    assert content["state_dict"].keys() == torch.load(first / "last.ckpt", weights_only=True)["state_dict"].keys()
    moments = sum(len(group["params"]) for group in content["optimizer_states"][0]["param_groups"])
    assert moments == len(list(load_model(first / "last.ckpt").model.parameters()))

    decoder.rename(decoder.with_suffix(".gone"))  # what was trained needs no decoder any more
    try:
        task = load_model(folder / "best.ckpt", store.encoder)
        prefix = torch.from_numpy(store[0][:5].astype("float32"))[None]
        one, other = (task.model.predict_next(prefix, generator=torch.Generator().manual_seed(0)) for _ in range(2))
        assert torch.equal(one, other) and one.isfinite().all()
        options = [f"--config={folder}/config.yaml", "--trainer.logger=false", f"--ckpt_path={folder}/best.ckpt"]
        main(["predict", *options])
        assert (folder / "predictions.safetensors").is_file()
    finally:
        decoder.with_suffix(".gone").rename(decoder)
    main(["validate", *options])  # what a checkpoint is says itself: a concept model, measured as one
    assert "validation_loss" in capsys.readouterr().out


def test_it_starts_from_the_weights_of_the_first_stage(fit: Fit, second: Fit) -> None:
    first = fit(head="regression", steps=2)
    one = load_model(first / "last.ckpt").model.state_dict()
    still = load_model(second(first, "--model.optimizer.lr=0.0") / "last.ckpt").model.state_dict()
    moved = load_model(second(first, folder="moved") / "last.ckpt").model.state_dict()
    assert all(torch.equal(one[name], still[name]) for name in one)
    assert not torch.equal(one["head.output.weight"], moved["head.output.weight"])


def test_both_losses_are_logged_and_weighed(fit: Fit, second: Fit) -> None:
    folder = second(fit(head="regression", steps=2), "--model.own_weight=0.5", "--model.token_weight=0.25")
    header, *rows = [line.split(",") for line in (folder / "log/version_0/metrics.csv").read_text().splitlines()]
    row = next(dict(zip(header, row, strict=True)) for row in rows if row[header.index("validation_loss")])
    total, own, tokens = (float(row[f"validation_{name}"]) for name in ("loss", "own_loss", "token_loss"))
    assert total == pytest.approx(0.5 * own + 0.25 * tokens, rel=1e-3)
    assert tokens > 1


def test_a_second_stage_is_resumed_without_the_first(fit: Fit, second: Fit) -> None:
    first = fit(head="regression", steps=2)
    folder = second(first)
    longer = second(first, "--trainer.max_steps=4", f"--ckpt_path={folder}/last.ckpt", "--model.from_checkpoint=null")
    assert torch.load(longer / "last.ckpt", weights_only=True)["global_step"] == 4


def test_what_does_not_fit_together_ends_in_one_sentence(
    fit: Fit, second: Fit, decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(head="regression", steps=1)
    other = tmp_path / "other.ckpt"
    content = torch.load(decoder, weights_only=True)
    content["hyper_parameters"]["decoder"]["init_args"]["encoder"] = "another-16"
    torch.save(content, other)
    wrong = {
        f"--model.decoder={other}": "knows concepts of encoder another-16, these are of encoder",
        "--model.decoder=": "name the checkpoint of a decoder",
        f"--model.decoder={first}/last.ckpt": "holds a LCMTask, expected a DecoderTask",
        "--model.model.backbone.width=32": "is not the one configured here",
        "--data=ConceptDataModule": "use the data module TextDataModule",
        "--model.estimate={num_steps: 2}": "the estimate of a RegressionHead has no option num_steps",
        "--model.from_checkpoint=null": "a token loss is a second stage: name the checkpoint of the first",
        "--model.token_weight=0": "token_weight > 0, found 1.0 and 0",
    }
    for option, sentence in wrong.items():
        with pytest.raises(SystemExit) as stop:
            second(first, option)
        said = capsys.readouterr().err
        assert stop.value.code == 2, option
        assert sentence in " ".join(said.split()), (option, said)
