"""What a killed training leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data.store import ConceptStore

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_says_that_it_was_not_done(store: ConceptStore, tmp_path: Path) -> None:
    configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", "regression", "smoke")]
    flags = [
        f"--data.store={store.path}",
        f"--trainer.default_root_dir={tmp_path}",
        "--trainer.max_steps=100000",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "lcm.cli", "fit", *configs, *flags],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    best, last = (torch.load(tmp_path / f"{n}.ckpt", weights_only=True)["global_step"] for n in ("best", "last"))
    assert best % 10 == 0  # chosen at a validation, not where the signal came
    assert last >= best
