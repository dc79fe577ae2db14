"""What a run leaves behind beside checkpoints."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import SaveConfigCallback
from safetensors.torch import save_file


class FitConfig(SaveConfigCallback):
    """Keeps the configuration of a training beside its checkpoints; validate, test and predict leave it alone."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml when fit begins."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


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
        """Write the concepts of all batches, in order."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"concepts": torch.cat(predictions).float().contiguous()}, self.path)
