"""Two gloo processes on this CPU train as one: by the command line, as a user starts them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning import LightningModule
from torch.testing import assert_close

from data.batch import ConceptBatch
from data.document import Block, Document
from data.encode import encode_corpus
from data.loader import EpochBatches
from data.module import ConceptDataModule
from data.store import ConceptStore
from encoders.hashing import HashingEncoder
from lcm.checkpoint import load_model
from lcm.distributed import is_sharded, local, share_of_targets
from lcm.task import LCMTask
from lcm.together import Together

CONFIGS = Path(__file__).parents[2] / "configs"
SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(CONFIGS.parent)}
NOUNS = ["fox", "miller", "king", "stone", "river", "crown", "raven"]
STOP, STEPS = 3, 5
DATA = {"length": 64, "stride": 64, "batch_size": 2, "packing": False}
OPTIONS = {
    "model.model.backbone.width": 16,
    "model.model.backbone.num_layers": 1,
    "model.model.backbone.num_heads": 2,
    "model.model.backbone.dropout": 0,
    "trainer.precision": "32-true",
    "trainer.gradient_clip_val": 0,
    "trainer.max_steps": STEPS,
    "trainer.val_check_interval": STEPS,
    **{f"data.{name}": value for name, value in DATA.items()},
}


def tale(number: int) -> Document:
    """A heading, so that the first position is no target (regression would not count it), and 10 to 49 sentences."""
    words = [[NOUNS[k % 7] for k in (number + i, number + 3 * i, i * i)] for i in range(10 + 7 * number % 40)]
    text = " ".join("The {} met the {} of the {}.".format(*three) for three in words)
    return Document(f"Tale {number}", (Block(f"Tale {number}", level=4, role="heading"), Block(text)), source="test")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    """Tales of different lengths, each a row: two processes have different numbers of targets."""
    path = tmp_path_factory.mktemp("stores") / "uneven"
    return encode_corpus([tale(i) for i in range(40)], HashingEncoder(16), path, progress=False)


def command(store: ConceptStore, folder: Path, overlay: str, *more: str, **options: Any) -> list[str]:
    keep = (
        "[{class_path: AveragedWeights, init_args: {decay: 0.5}}, "
        f"{{class_path: ModelCheckpoint, init_args: {{dirpath: '{folder}', filename: '{{step}}', "
        "save_top_k: -1, every_n_train_steps: 1, save_last: true, enable_version_counter: false}}]"
    )
    flags = OPTIONS | {"trainer.callbacks": keep, "trainer.default_root_dir": folder, "data.store": store.path}
    names = [f"--config={CONFIGS / name}.yaml" for name in ("base", "regression", "smoke", overlay)]
    flags["trainer.enable_progress_bar"] = "false"
    return [
        *(sys.executable, "-m", "lcm.cli", "fit", *names),
        *(f"--{key}={value}" for key, value in (flags | options).items()),
        *more,
    ]


def train(*args: Any, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    return subprocess.run(
        command(*args, **options), env=environment | SETTINGS | (env or {}), capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def whole(uneven: ConceptStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training by DDP, with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("ddp")
    done = train(uneven, folder, "ddp")
    assert done.returncode == 0, done.stderr
    assert len(re.findall("(?i)warn", done.stderr)) == 0, done.stderr
    return folder


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = load(path)
    return content["state_dict"] | {f"live.{k}": v for k, v in content["current_model_state"].items()}


def global_batch(store: ConceptStore, number: int) -> tuple[ConceptBatch, list[int]]:
    """The rows of two processes in one batch, and how many targets each has."""
    module = ConceptDataModule(str(store.path), **DATA)
    datasets = module.rows("train")
    parts = [
        list(EpochBatches(module._batches_of("train", datasets), rank=rank, world_size=2))[number] for rank in (0, 1)
    ]
    rows = [[datasets[0][row] for row in part] for part in parts]
    return ConceptBatch.pack(rows[0] + rows[1]), [int(ConceptBatch.pack(part).target.sum()) for part in rows]


@pytest.mark.slow
def test_the_gradient_of_two_processes_is_that_of_one_with_all_rows(uneven: ConceptStore, whole: Path) -> None:
    batch, targets = global_batch(uneven, 1)
    assert abs(targets[0] - targets[1]) > 0.05 * sum(targets)  # else a mean of means would pass
    before, after = load(whole / "step=1.ckpt"), load(whole / "step=2.ckpt")
    task = LCMTask.load_from_checkpoint(whole / "step=1.ckpt", weights_only=True)
    task.load_state_dict(before["current_model_state"])
    task.train().model.loss(batch)["loss"].backward()
    beta = after["optimizer_states"][0]["param_groups"][0]["betas"][0]
    for index, (name, parameter) in enumerate(task.named_parameters()):
        old, new = (content["optimizer_states"][0]["state"][index]["exp_avg"] for content in (before, after))
        assert parameter.grad is not None
        found = (new - beta * old) / (1 - beta)  # AdamW's running mean tells the gradient that it was given
        assert_close(found, parameter.grad, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
def test_two_processes_resume_to_the_bit(uneven: ConceptStore, whole: Path, tmp_path: Path) -> None:
    done = train(uneven, tmp_path, "ddp", f"--ckpt_path={whole}/step={STOP}.ckpt")
    assert done.returncode == 0, done.stderr
    first, second = weights(whole / "last.ckpt"), weights(tmp_path / "last.ckpt")
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.slow
def test_shards_go_on_where_copies_stood_and_end_with_the_same_weights(
    uneven: ConceptStore, whole: Path, tmp_path: Path
) -> None:
    done = train(uneven, tmp_path, "fsdp", f"--ckpt_path={whole}/step={STOP}.ckpt")
    assert done.returncode == 0, done.stderr
    assert_close(weights(tmp_path / "last.ckpt"), weights(whole / "last.ckpt"), rtol=1e-4, atol=1e-6)
    assert load_model(tmp_path / "last.ckpt", uneven.encoder).model.normalizer.fitted
    again = tmp_path / "again"
    done = train(uneven, again, "fsdp", f"--ckpt_path={tmp_path}/step={STOP + 1}.ckpt")
    assert done.returncode == 0, done.stderr
    first, second = weights(tmp_path / "last.ckpt"), weights(again / "last.ckpt")
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.slow
def test_one_process_goes_on_and_measures_what_two_have_left(uneven: ConceptStore, whole: Path, tmp_path: Path) -> None:
    task = load_model(whole / "last.ckpt", uneven.encoder)
    module = ConceptDataModule(str(uneven.path), **DATA)
    losses, counts = [], []
    with torch.no_grad():
        for batch in module.val_dataloader():
            losses.append(float(task.model.loss(batch)["loss"]))
            counts.append(int(batch.target.sum()))
    mean = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    header, *lines = (line.split(",") for line in (whole / "log/version_0/metrics.csv").read_text().splitlines())
    column = header.index("validation_loss")
    logged = [float(line[column]) for line in lines if line[column]]
    assert logged[-1] == pytest.approx(mean, rel=1e-5)
    done = train(uneven, tmp_path, "ddp", f"--ckpt_path={whole}/step={STOP}.ckpt", "--trainer.devices=1")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "last.ckpt")["global_step"] == STEPS


STUMBLE = """
import os
from lightning.pytorch.callbacks import Callback

class Stumble(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if str(trainer.global_rank) in os.environ["STUMBLE"] and batch_idx == 1:
            raise ValueError("a process has stumbled")
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["1", "0 1"])
def test_an_error_ends_both_processes_with_one_sentence(uneven: ConceptStore, tmp_path: Path, ranks: str) -> None:
    (tmp_path / "stumble.py").write_text(STUMBLE)
    env = {"STUMBLE": ranks, "PYTHONPATH": f"{tmp_path}:{CONFIGS.parent}"}
    done = train(uneven, tmp_path, "ddp", **{"trainer.callbacks": "[{class_path: stumble.Stumble}]"}, env=env)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("lcm: a process has stumbled") == 1 and "Traceback" not in done.stderr, done.stderr


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_signal_that_comes_while_processes_agree_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    together, found = Together(), SimpleNamespace(received_sigterm=False)
    strategy = SimpleNamespace(root_device="cpu")
    trainer: Any = SimpleNamespace(world_size=2, strategy=strategy, _signal_connector=found)
    monkeypatch.setattr(dist, "all_reduce", lambda noted, op: setattr(together, "signal", signal.SIGTERM))
    together.on_train_batch_end(trainer, LightningModule(), None, None, 0)
    assert not found.received_sigterm  # the others have not heard of it yet
    monkeypatch.setattr(dist, "all_reduce", lambda noted, op: None)
    together.on_train_batch_end(trainer, LightningModule(), None, None, 1)
    assert found.received_sigterm and together.signal == signal.SIGTERM


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_one_process_leaves_a_checkpoint_and_no_process(
    uneven: ConceptStore, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    keep = f"[{{class_path: Checkpoints, init_args: {{dirpath: '{tmp_path}'}}}}]"
    options = {"trainer.callbacks": keep, "trainer.max_steps": 100_000, "trainer.val_check_interval": 5}
    process = subprocess.Popen(
        command(uneven, tmp_path, "ddp", **options), env=os.environ | SETTINGS, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    begun = children(process.pid)
    process.send_signal(sent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    assert begun and not any(Path(f"/proc/{child}").exists() for child in begun)
    assert load(tmp_path / "last.ckpt")["global_step"] >= load(tmp_path / "best.ckpt")["global_step"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
def test_a_first_process_that_is_killed_at_the_start_leaves_no_other(uneven: ConceptStore, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(uneven, tmp_path, "ddp"), env=os.environ | SETTINGS, stderr=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 240
    while not children(process.pid) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    begun = children(process.pid)
    process.kill()  # while the other is still importing
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in begun) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert begun and not any(Path(f"/proc/{child}").exists() for child in begun)


def test_a_single_process_has_all_targets_and_all_weights() -> None:
    assert share_of_targets(torch.tensor(7)) == 1
    module = torch.nn.Linear(2, 3)
    assert local(module) is module and not is_sharded(module)
