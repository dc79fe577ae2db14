"""Training a decoder with Lightning."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor

from data.loader import keyed_generator
from data.store import check_encoder
from decoders.module import SentenceBatch
from decoders.prefix import PrefixDecoder
from decoders.prompt import Hypothesis
from decoders.reading import SentenceNLL
from decoders.start import start_from

_PREFIX = "decoder."


class DecoderTask(LightningModule):
    """Trains a decoder: the adapter alone for `adapter_steps`, then the language model too; holds no maths.

    Randomness is a function of (seed, step, process), so a resumed run equals an uninterrupted one. Checkpoints hold
    what learns and the buffers; the language model's own weights are loaded from where they came.

    Args:
        decoder: the decoder.
        start: checkpoint or exported folder of a decoder whose weights, those of equal name and shape, begin this
            training; none begins anew.
        adapter_lr: highest learning rate of the adapter.
        lora_lr: highest learning rate of the LoRA matrices.
        llm_lr: highest learning rate of the language model's own weights, where they learn (tuning "full").
        adapter_steps: steps in which the adapter learns alone.
        joint_factor: factor on the adapter's rate once the language model learns too.
        warmup_steps: steps of linear warm-up, of each of the two.
        weight_decay: of AdamW, on all that learns.
        seed: of the noise on concepts and of what is dropped.
    """

    def __init__(
        self,
        decoder: PrefixDecoder,
        *,
        start: str | None = None,
        adapter_lr: float = 2e-3,
        lora_lr: float = 1e-3,
        llm_lr: float = 1e-4,
        adapter_steps: int = 0,
        joint_factor: float = 0.5,
        warmup_steps: int = 10,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # the decoder too: a checkpoint rebuilds itself
        self.decoder, self.start = decoder, start
        self.adapter_lr, self.lora_lr, self.llm_lr = adapter_lr, lora_lr, llm_lr
        self.adapter_steps, self.joint_factor, self.warmup_steps = adapter_steps, joint_factor, warmup_steps
        self.weight_decay, self.seed = weight_decay, seed

    def setup(self, stage: str) -> None:
        """Refuse a store of another encoder; take the weights that training starts from."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            check_encoder(self.decoder.encoder, data.encoder, "the decoder")
        if stage == "fit" and self.start and not self.trainer.ckpt_path:  # a resumed run has its own weights
            rank_zero_info(start_from(self.decoder, self.start))

    def on_fit_start(self) -> None:
        """Fit what needs no gradient, unless a checkpoint brought it."""
        if not self.decoder.fitted:
            sample = self.trainer.datamodule.sample()  # type: ignore[attr-defined]
            self.decoder.fit(sample.concepts.to(self.device), sample.sentences)

    def on_train_batch_start(self, batch: SentenceBatch, batch_idx: int) -> None:
        """Keep the language model still while the adapter learns alone."""
        for parameter in [*self.decoder.lora_parameters(), *self.decoder.llm_parameters()]:
            parameter.requires_grad_(self.global_step >= self.adapter_steps)

    def training_step(self, batch: SentenceBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, in nats a token."""
        if self.decoder.adapter.num_neighbours and batch.neighbours is None:
            raise ValueError("the decoder reads neighbouring concepts: set before and after of the data as its own are")
        generator = keyed_generator(self.seed, 0, self.global_step, batch_idx, self.global_rank)
        loss = self.batch_loss(batch, generator)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def batch_loss(self, batch: SentenceBatch, generator: Generator, hypothesis: Hypothesis | None = None) -> Tensor:
        """Return the decoder's loss of a batch; all randomness is the generator's."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # dropout, where the language model has it, takes no generator
            torch.manual_seed(generator.initial_seed())
            return self.decoder.loss(
                batch.concepts,
                batch.sentences,
                batch.context,
                generator,
                neighbours=batch.neighbours,
                near=batch.near,
                level=batch.level,
                hypothesis=hypothesis,
            )["loss"]

    def batch_nll(
        self, batch: SentenceBatch, concepts: Tensor | None, hypothesis: Hypothesis | None = None
    ) -> SentenceNLL:
        """Return nats of a batch's sentences given concepts (N, D), or none, and all else that the batch has."""
        return self.decoder.nll(
            concepts,
            batch.sentences,
            batch.context,
            neighbours=batch.neighbours,
            near=batch.near,
            level=batch.level,
            hypothesis=hypothesis,
        )

    def held_out_step(self, name: str, batch: SentenceBatch) -> None:
        """Log nats a token with the true concept, another sentence's, and none; all else is always given."""
        shuffled = replace(batch, concepts=batch.concepts.roll(1, 0))
        if batch.level is not None:
            shuffled = replace(shuffled, level=batch.level.roll(1, 0))
        nll = {
            "true": self.batch_nll(batch, batch.concepts),
            "shuffled": self.batch_nll(shuffled, shuffled.concepts),
            "none": self.batch_nll(batch, None),
        }
        num_tokens = int(nll["true"].num_tokens.sum())
        mean = {key: value.total.sum() / num_tokens for key, value in nll.items()}
        shown = {f"{name}_loss": mean["true"], f"{name}_nats_carried": mean["none"] - mean["true"]}
        self.log_dict(shown, prog_bar=True, sync_dist=True, batch_size=num_tokens)
        others = {f"{name}_loss_{key}_concept": mean[key] for key in ("shuffled", "none")}
        self.log_dict(others, sync_dist=True, batch_size=num_tokens)

    def validation_step(self, batch: SentenceBatch, batch_idx: int) -> None:
        """Log validation losses."""
        self.held_out_step("validation", batch)

    def test_step(self, batch: SentenceBatch, batch_idx: int) -> None:
        """Log test losses."""
        self.held_out_step("test", batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and its schedule: warm-up, then half a cosine to zero, of each group from its own start."""
        total = self.trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise ValueError("the learning rate falls to zero at the last step, so set trainer.max_steps or max_epochs")

        def rate(step: int, start: int) -> float:
            warm = min(max(step - start + 1, 0) / max(self.warmup_steps, 1), 1.0)
            return warm * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))

        def adapter_rate(step: int) -> float:
            return rate(step, 0) * (1.0 if step < self.adapter_steps else self.joint_factor)

        groups = [{"params": self.decoder.adapter_parameters(), "lr": self.adapter_lr}]
        rates: list[Callable[[int], float]] = [adapter_rate]
        later = ((self.decoder.lora_parameters(), self.lora_lr), (self.decoder.llm_parameters(), self.llm_lr))
        for parameters, lr in later:
            if parameters:
                groups.append({"params": parameters, "lr": lr})
                rates.append(lambda step: rate(step, self.adapter_steps))
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=self.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the language model's own weights out, and say how to build a decoder that was given as an object."""
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: weights[key] for key in weights if not self._is_base(key)}
        parameters = checkpoint["hyper_parameters"]
        if isinstance(parameters["decoder"], PrefixDecoder):
            recipe = {"class_path": class_path(self.decoder), "init_args": dict(self.decoder.arguments)}
            checkpoint["hyper_parameters"] = {
                **parameters,
                "decoder": recipe,
                "_class_path": class_path(self),
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the weights with the language model's own, and with what older code did not write."""
        own = self.state_dict()  # of 4-bit weights it has more than load_state_dict() takes
        known = {name for name, _ in [*self.named_parameters(remove_duplicate=False), *self.named_buffers()]}
        base = {key: own[key] for key in known & own.keys() if self._is_base(key) or key == f"{_PREFIX}predicted_level"}
        checkpoint["state_dict"] = base | checkpoint["state_dict"]

    def _is_base(self, key: str) -> bool:
        return self.decoder.is_base(key.removeprefix(_PREFIX))


def class_path(found: object) -> str:
    """Return the name that a class is imported by."""
    return f"{type(found).__module__}.{type(found).__qualname__}"
