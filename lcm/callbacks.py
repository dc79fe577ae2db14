"""What a run does beside training: averages weights, leaves checkpoints, configuration and predictions behind."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from safetensors.torch import save_file


class AveragedWeights(EMAWeightAveraging):
    """Exponential average of the weights, copied once the module is ready and where it is trained.

    Lightning's own copies the module before its setup(), so without what that fits, and on the CPU. Buffers are copied,
    not averaged.

    Args:
        decay: weight of the old average in a step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(decay=decay, use_buffers=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the module."""
        if stage == "fit":
            pl_module.setup(stage)
            self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)


class Checkpoints(ModelCheckpoint):
    """Keeps best.ckpt, by the validation loss, and last.ckpt; both are there after every training.

    An interrupted run writes last.ckpt alone, whatever ModelCheckpoint(save_on_exception=True) would overwrite.

    Args:
        dirpath: folder of the run.
    """

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="validation_loss",
            save_last=True,
            save_on_exception=False,
            enable_version_counter=False,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where an interrupted training stands; stay silent for a run that had not begun."""
        if trainer.training and trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the last weights the best where no validation took place; say so if the time ran out."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path:
            trainer.save_checkpoint(Path(str(self.dirpath)) / "best.ckpt")
        if 0 < trainer.global_step < trainer.max_steps:
            sys.stderr.write(f"stopped at step {trainer.global_step} of {trainer.max_steps}: max_time ran out\n")


class FitConfig(SaveConfigCallback):
    """Keeps the configuration of a training beside its checkpoints; validate, test and predict leave it alone."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml when fit begins."""
        if stage == "fit":
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.parser.save(self.config, str(folder / "config.yaml"), skip_none=False, overwrite=True)


class PredictionFile(BasePredictionWriter):
    """Writes what "lcm predict" returns to one safetensors file, tensor "concepts" (N, D), raw.

    Args:
        path: file to write.
    """

    def __init__(self, path: str) -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        """Write the concepts of all batches, in order; every process has them all, the first one writes."""
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"concepts": torch.cat(predictions).float().contiguous()}, self.path)
