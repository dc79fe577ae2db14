"""What a training cost, as its folder tells."""

from pathlib import Path
from typing import Any

import torch
import yaml

from data.module import ConceptDataModule


def costs(checkpoint: Path) -> dict[str, Any]:
    """Return steps, seconds and concepts seen of the training that wrote a checkpoint; "not known" where no log is.

    Seconds are wall clock of the whole training, preparation and validation included, on a machine that others may have
    used: of Lightning's timer where max_time was set, else from config.yaml to last.ckpt, and not known of a resumed
    run. Concepts are steps times rows a batch times the mean length of a row.
    """
    last = checkpoint.with_name("last.ckpt")
    content = torch.load(last if last.is_file() else checkpoint, map_location="cpu", weights_only=True, mmap=True)
    steps = int(content["global_step"])
    found: dict[str, Any] = {"steps": steps, "seconds": "not known", "concepts": "not known"}
    config = checkpoint.with_name("config.yaml")
    if not config.is_file():
        return found
    timer = content.get("callbacks", {}).get("Timer", {}).get("time_elapsed", {})
    resumed = len(list(checkpoint.parent.glob("log/version_*"))) > 1
    if "train" in timer:
        found["seconds"] = round(timer["train"], 1)
    elif last.is_file() and not resumed:
        found["seconds"] = round(last.stat().st_mtime - config.stat().st_mtime, 1)
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    batches = int(settings["trainer"].get("accumulate_grad_batches") or 1)
    module = ConceptDataModule(**settings["data"]["init_args"])
    lengths = [length for rows in module.rows("train") for length in rows.lengths.tolist()]
    found["concepts"] = round(steps * batches * module.batch_size * sum(lengths) / len(lengths))
    return found
