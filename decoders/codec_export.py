"""What a codec's training leaves behind for others: an encoder and a decoder that reads it."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, __version__

from data.durable import hidden, publish
from decoders.codec import CodecTask
from decoders.task import DecoderTask
from encoders.encoder import load_encoder

ENCODER, DECODER = "encoder", "decoder.ckpt"


def export_codec(task: CodecTask, folder: Path) -> None:
    """Write `encoder/`, a sentence-transformers folder, and `decoder.ckpt`, which `load_decoder` takes.

    The decoder names the encoder by its absolute path and its new fingerprint. Each of the two is whole at any moment;
    if the process dies between them, the fingerprints differ, and whoever opens both says so.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    task.encoder.save(folder / ENCODER)
    name = str(folder / ENCODER)
    content = decoder_checkpoint(task, load_encoder(name).fingerprint, name)
    torch.save(content, hidden(folder / DECODER))
    publish(folder / DECODER)


def decoder_checkpoint(task: CodecTask, fingerprint: str, encoder_name: str) -> dict[str, Any]:
    """Return what a DecoderTask with this task's decoder would save, were it of the encoder of that name."""
    weights = {key: value for key, value in task.state_dict().items() if key.startswith("decoder.")}
    content: dict[str, Any] = {
        "state_dict": weights,
        "hyper_parameters": {"decoder": task.decoder},
        "pytorch-lightning_version": __version__,
        "epoch": task.current_epoch,
        "global_step": task.global_step,
    }
    DecoderTask.on_save_checkpoint(task, content)
    parameters = content["hyper_parameters"]
    recipe = parameters["decoder"]
    known = {**recipe["init_args"], "encoder": fingerprint, "encoder_name": encoder_name}
    path = f"{DecoderTask.__module__}.{DecoderTask.__qualname__}"
    own = {"decoder": {**recipe, "init_args": known}, "_class_path": path}
    return {**content, "hyper_parameters": {**parameters, **own}}


class CodecExport(Callback):
    """Writes encoder and decoder beside the checkpoints whenever a validation is the best so far, and at least once.

    Args:
        dirpath: folder of the run.
        monitor: what is to be small.
    """

    def __init__(self, dirpath: str, monitor: str = "validation_loss") -> None:
        self.folder, self.monitor = Path(dirpath), monitor
        self.best = float("inf")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export if it is the best; checkpoints are written behind this."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = float(trainer.callback_metrics.get(self.monitor, float("inf")))
        if found < self.best:
            self.best = found
            self._export(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the last weights where no validation took place."""
        if self.best == float("inf"):
            self._export(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, so that a resumed run does not write a worse one over it."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best = state_dict["best"]

    def _export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, CodecTask), type(pl_module)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            export_codec(pl_module, self.folder)
