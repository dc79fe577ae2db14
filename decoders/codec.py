"""Training an encoder and a decoder together, so that concepts can be read better."""

import math
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from data.store import check_encoder
from decoders.codec_encoder import TrainableEncoder, structure_error
from decoders.module import SentenceBatch
from decoders.task import DecoderTask


class CodecTask(DecoderTask):
    """Trains a decoder and the encoder that it reads, by reconstruction of noised concepts.

    A second term keeps the encoder's similarities as they are in the store, whose concepts are the frozen teacher:
    `structure_error` over the variance of cosines in the store, so 1 would be a space that has lost all of them. The
    encoder learns behind `encoder_steps`; until then the stored concepts are read.

    Args:
        args: as of DecoderTask.
        encoder: encoder to start from; the one that made the store, if not given.
        encoder_lr: highest learning rate of the encoder.
        encoder_steps: steps before the encoder learns too.
        structure_weight: weight of the share of similarity structure that is lost, against nats a token.
        kwargs: as of DecoderTask.
    """

    cosine_variance: Tensor

    def __init__(
        self,
        *args: Any,
        encoder: str = "",
        encoder_lr: float = 5e-5,
        encoder_steps: int = 0,
        structure_weight: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if encoder_lr <= 0 or encoder_steps < 0 or structure_weight < 0:
            raise ValueError(
                "need encoder_lr > 0, encoder_steps >= 0, structure_weight >= 0; "
                f"found {encoder_lr}, {encoder_steps}, {structure_weight}"
            )
        self.encoder = TrainableEncoder(encoder or self.decoder.encoder_name)
        check_encoder(self.decoder.encoder, self.encoder.fingerprint, "the decoder")
        self.encoder_lr, self.encoder_steps, self.structure_weight = encoder_lr, encoder_steps, structure_weight
        self.register_buffer("cosine_variance", torch.zeros(()))  # of pairs of training sentences; 0 = not measured

    def on_fit_start(self) -> None:
        """Fit what needs no gradient, and measure the teacher's cosines."""
        super().on_fit_start()
        if not self.cosine_variance:
            sample = self.trainer.datamodule.sample(2000)  # type: ignore[attr-defined]
            unit = torch.nn.functional.normalize(sample.concepts.to(self.device), dim=-1)
            i, j = torch.tril_indices(len(unit), len(unit), -1, device=self.device)
            self.cosine_variance.copy_((unit @ unit.T)[i, j].var().clamp_min(1e-6))

    def on_train_batch_start(self, batch: SentenceBatch, batch_idx: int) -> None:
        """Keep the encoder still at first."""
        super().on_train_batch_start(batch, batch_idx)
        self.encoder.requires_grad_(self.global_step >= self.encoder_steps)

    def training_step(self, batch: SentenceBatch, batch_idx: int) -> Tensor:
        """Return nats a token, and the share of structure that is lost times its weight."""
        check_own(batch)
        if self.global_step < self.encoder_steps:
            return super().training_step(batch, batch_idx)
        concepts = self.encoder(batch.sentences)
        loss = super().training_step(replace(batch, concepts=concepts), batch_idx)
        lost = structure_error(concepts, batch.concepts) / self.cosine_variance
        self.log("train_structure", lost, prog_bar=True, batch_size=len(batch))
        return loss + self.structure_weight * lost

    def held_out_step(self, name: str, batch: SentenceBatch) -> None:
        """Log nats a token with the encoder's concepts, and the share of structure that is lost."""
        check_own(batch)
        concepts = self.encoder(batch.sentences)
        super().held_out_step(name, replace(batch, concepts=concepts))
        lost = structure_error(concepts, batch.concepts) / self.cosine_variance.clamp_min(1e-6)
        self.log(f"{name}_structure", lost, prog_bar=True, sync_dist=True, batch_size=len(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the decoder's optimiser and schedule with a group for the encoder: warm-up, then half a cosine."""
        found: Any = super().configure_optimizers()
        optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
        total = self.trainer.estimated_stepping_batches

        def rate(step: int) -> float:
            warm = min(max(step - self.encoder_steps + 1, 0) / max(self.warmup_steps, 1), 1.0)
            return warm * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))

        group = {"params": list(self.encoder.parameters()), "lr": self.encoder_lr * rate(0)}
        optimizer.add_param_group({**group, "initial_lr": self.encoder_lr})
        scheduler.lr_lambdas.append(rate)
        scheduler.base_lrs.append(self.encoder_lr)
        return found


def check_own(batch: SentenceBatch) -> None:
    """Refuse concepts that the encoder cannot make anew from the batch's sentences."""
    if batch.neighbours is not None or batch.level is not None:
        raise ValueError(
            "a codec encodes the sentence itself at each step, but the data gives neighbours or predictions, which are "
            "of the old encoder; train with before = after = 0 and predicted null, then a decoder on a new store"
        )
