"""Training a concept model with Lightning."""

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor

from data.batch import ConceptBatch
from data.loader import keyed_generator
from data.store import check_encoder
from lcm.checkpoint import check_weights
from lcm.distributed import fit_once, shard, share_of_targets
from lcm.model import ConceptModel


class LCMTask(LightningModule):
    """Trains a concept model; holds no maths.

    Randomness is a function of (seed, step, process), so a resumed run equals an uninterrupted one.

    Args:
        model: the concept model.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning rate schedule, stepped every batch; none keeps the rate.
        encoder: fingerprint of the encoder whose concepts are learnt; taken from the store.
        encoder_name: name that makes this encoder again; taken from the store.
        length: longest window of the training, in rows; generation looks back no further.
        levels: levels of headings in the training data; generation gives its headings no other. Taken from the store.
        seed: of noise and dropout.
    """

    def __init__(
        self,
        model: ConceptModel,
        *,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
        encoder: str = "",
        encoder_name: str = "",
        length: int = 128,
        levels: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # the model too: a checkpoint rebuilds itself
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.encoder, self.encoder_name, self.length, self.seed = encoder, encoder_name, length, seed
        self.levels = levels or []

    def setup(self, stage: str) -> None:
        """Refuse a store of another encoder; let the model measure training concepts before the first step."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            check_encoder(self.encoder, data.encoder, "the model")
        if data is not None and stage == "fit" and not self.model.normalizer.fitted:
            fit_once(
                self.model, lambda: self.model.fit(data.sample_concepts(), data.end_concept()), self.trainer.strategy
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, or of older code, whose models measured and learnt other things."""
        found, own = checkpoint.get("state_dict"), self.state_dict()
        if not found:
            return  # a sharded one is held elsewhere
        check_weights(
            found,
            own,
            'give the yaml files and options that it was trained with, or, if older code wrote it, run "lcm fit" again',
        )

    def configure_model(self) -> None:
        """Spread the weights over processes under ModelParallelStrategy; Lightning calls it behind setup()."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh)

    def losses(self, batch: ConceptBatch, generator: Generator) -> dict[str, Tensor]:
        """Return the losses of a batch by name, "loss" among them, which is to be lowered."""
        return self.model.loss(batch, generator)

    def training_step(self, batch: ConceptBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        generator = keyed_generator(self.seed, 0, self.global_step, batch_idx, self.global_rank, device=self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # dropout takes no generator
            torch.manual_seed(generator.initial_seed())
            values = self.losses(batch, generator)
        loss = values["loss"] * share_of_targets(batch.target.sum())
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def held_out_step(self, name: str, batch: ConceptBatch, batch_idx: int) -> None:
        """Log every loss of a held-out batch, with the same noise at every evaluation."""
        # Every process measures every batch, with the same noise: the loss is that of one process, to the bit.
        values = self.losses(batch, keyed_generator(self.seed, 1, batch_idx, 0, device=self.device))
        num_targets = int(batch.target.sum())
        for key, value in values.items():
            shown = key == "loss"
            self.log(f"{name}_{key}", value, prog_bar=shown, sync_dist=True, batch_size=max(num_targets, 1))

    def validation_step(self, batch: ConceptBatch, batch_idx: int) -> None:
        """Log validation losses."""
        self.held_out_step("validation", batch, batch_idx)

    def test_step(self, batch: ConceptBatch, batch_idx: int) -> None:
        """Log test losses."""
        self.held_out_step("test", batch, batch_idx)

    def predict_step(self, batch: ConceptBatch, batch_idx: int) -> Tensor:
        """Return the raw concept (B, D) that the model puts behind each window."""
        generator = keyed_generator(self.seed, 2, batch_idx, self.global_rank, device=self.device)
        return self.model.predict_next(batch.concepts, batch.mask, level=batch.level, generator=generator)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"},
        }
