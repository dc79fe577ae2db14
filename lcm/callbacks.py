"""What a run does beside training: averages weights, leaves checkpoints, configuration and predictions behind."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.optim.swa_utils import AveragedModel

from lcm.distributed import is_sharded, local


class AveragedWeights(EMAWeightAveraging):
    """Exponential average of the weights, copied once the module is ready and where it is trained.

    Lightning's own copies the module before its setup(), so without what that fits, and on the CPU. Buffers are copied,
    not averaged. Of a sharded module, which cannot be copied, each process averages its own shard; a checkpoint holds
    whole weights either way.

    Args:
        decay: weight of the old average in a step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(decay=decay, use_buffers=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the module, unless it is about to be sharded."""
        if stage == "fit":
            pl_module.setup(stage)
            if pl_module.device_mesh is None:
                # Its parts, not itself: its optimiser leads to the trainer, and that to processes, which have no copy.
                self._copy(trainer, nn.ModuleDict(dict(pl_module.named_children())))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the shards; a checkpoint is read behind this."""
        if pl_module.device_mesh is not None:
            self._copy(trainer, local(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average behind a step."""
        super().on_train_batch_end(trainer, local(pl_module), outputs, batch, batch_idx)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average into the checkpoint and the live weights beside it."""
        if self._average_model is None or not is_sharded(pl_module):
            super().on_save_checkpoint(trainer, pl_module, checkpoint)
            return
        checkpoint["current_model_state"] = checkpoint["state_dict"]
        checkpoint["averaging_state"] = {"n_averaged": self._average_model.n_averaged}
        self._swap_models(pl_module)
        checkpoint["state_dict"] = trainer.strategy.lightning_module_state_dict()  # gathers; the first process has it
        self._swap_models(pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average, which the module has been given, and give the module its live weights."""
        if self._average_model is None or not is_sharded(pl_module):
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
            return
        self._swap_models(pl_module)
        if "current_model_state" not in checkpoint:  # of a training without an average
            self._copy_average_to_current(pl_module)
            return
        self._average_model.n_averaged.copy_(checkpoint["averaging_state"]["n_averaged"])
        live = checkpoint["current_model_state"]
        set_model_state_dict(pl_module, live, options=StateDictOptions(full_state_dict=True))

    def _copy(self, trainer: Trainer, module: nn.Module) -> None:
        device = trainer.strategy.root_device
        self._average_model = AveragedModel(model=module, device=device, use_buffers=False, **self._kwargs)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(local(pl_module))

    def _copy_average_to_current(self, pl_module: LightningModule) -> None:
        super()._copy_average_to_current(local(pl_module))


class Checkpoints(ModelCheckpoint):
    """Keeps best.ckpt, by the validation loss, and last.ckpt; both are there after every training.

    The last step is validated too, so that the end of a training, where the rate is small, can be its best. An
    interrupted run writes last.ckpt alone, whatever ModelCheckpoint(save_on_exception=True) would overwrite.

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

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Save as Lightning does; behind the last step ask for a validation, which it holds where it is to stop."""
        super().on_train_batch_end(trainer, *args)
        if trainer.global_step >= trainer.max_steps > 0:
            trainer.should_stop = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where an interrupted training stands; stay silent for a run that had not begun.

        Of several processes all have to take part, so they save only where all stop, not where one has failed.
        """
        together = trainer.world_size == 1 or isinstance(exception, SIGTERMException)
        if trainer.training and trainer.global_step and together:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the last weights the best where no validation took place; say so if the time ran out."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path:
            trainer.save_checkpoint(Path(str(self.dirpath)) / "best.ckpt")
        if trainer.is_global_zero and 0 < trainer.global_step < trainer.max_steps:
            why = "max_epochs are over" if trainer.max_epochs == trainer.current_epoch else "max_time ran out"
            sys.stderr.write(f"stopped at step {trainer.global_step} of {trainer.max_steps}: {why}\n")


class FitConfig(SaveConfigCallback):
    """Keeps the configuration of a training beside its checkpoints; validate, test and predict leave it alone."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml when fit begins."""
        if stage == "fit":
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.parser.save(self.config, str(folder / "config.yaml"), skip_unset=False, overwrite=True)


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
