"""Second stage of training: a concept model learns from the text that a frozen decoder reads in its concepts."""

from typing import Any

from torch import Generator, Tensor

from data.batch import ConceptBatch
from data.texts_module import PlacedBatch, TextDataModule
from decoders.loading import load_decoder
from lcm.checkpoint import load_model
from lcm.task import LCMTask
from lcm.token_loss import TokenLoss, check_options

_OWN = ("decoder", "from_checkpoint", "own_weight", "token_weight", "num_texts", "estimate")


class TokenTask(LCMTask):
    """Trains a concept model by its own loss and by the cross-entropy of the text, each with a weight.

    SONAR-LLM (arXiv:2508.05305) has the second alone: own_weight 0.

    Its checkpoints are an LCMTask's, so all that reads a concept model reads them, without the decoder.

    Args:
        args: as of LCMTask.
        decoder: checkpoint of a decoder for the concepts of the store; it stays as it is.
        from_checkpoint: checkpoint of the first stage, whose weights are the first ones here. The model has to be
            configured as it was there. A training that is resumed has its own weights and may do without.
        own_weight: weight of the loss of the model's head.
        token_weight: weight of the nats a token.
        num_texts: targets a batch and process whose text is read; the decoder's language model is the cost.
        estimate: options of the model's estimate(), such as num_steps where the head takes steps from noise.
        kwargs: as of LCMTask.
    """

    def __init__(
        self,
        *args: Any,
        decoder: str,
        from_checkpoint: str | None = None,
        own_weight: float = 1.0,
        token_weight: float = 1.0,
        num_texts: int = 16,
        estimate: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if own_weight < 0 or token_weight <= 0:
            raise ValueError(f"need own_weight >= 0 and token_weight > 0, found {own_weight} and {token_weight}")
        if not decoder:
            raise ValueError("name the checkpoint of a decoder of the store's concepts: --model.decoder CHECKPOINT")
        check_options(self.model, estimate or {})
        self.decoder, self.from_checkpoint = decoder, from_checkpoint
        self.own_weight, self.token_weight = own_weight, token_weight
        self.num_texts, self.estimate = num_texts, estimate
        self.token_loss: TokenLoss | None = None

    def setup(self, stage: str) -> None:
        """Load the decoder, and the weights of the first stage; refuse those of another encoder."""
        if stage == "fit" and self.from_checkpoint:
            self.start_from(self.from_checkpoint)  # a resumed run's own weights come later and stand
        super().setup(stage)
        if stage != "predict" and self.token_loss is None:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, TextDataModule):
                raise ValueError(
                    f"a token loss needs the text of its targets, which a {type(data).__name__} does not give; "
                    "use the data module TextDataModule"
                )
            decoder = load_decoder(self.decoder, data.encoder)
            self.token_loss = TokenLoss(decoder, data.texts, num_texts=self.num_texts, options=self.estimate)

    def on_train_start(self) -> None:
        """Refuse to begin with weights that have learnt nothing."""
        if not self.from_checkpoint and self.trainer.global_step == 0:
            raise ValueError(
                "a token loss is a second stage: name the checkpoint of the first, --model.from_checkpoint CHECKPOINT"
            )

    def start_from(self, path: str) -> None:
        """Take over the weights of a concept model's checkpoint."""
        first = load_model(path, self.encoder or None)
        try:
            self.model.load_state_dict(first.model.state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split()[:40])
            raise ValueError(
                f"the model of {path} is not the one configured here; take the config.yaml beside it ({reason} ...)"
            ) from error

    def losses(self, batch: ConceptBatch, generator: Generator) -> dict[str, Tensor]:
        """Return the weighted sum as "loss", beside it "own_loss" with its parts, and "token_loss"."""
        assert self.token_loss is not None and isinstance(batch, PlacedBatch), type(batch)
        own = super().losses(batch, generator)
        tokens = self.token_loss(self.model, batch, generator)
        if self.training:
            self.log("train_token_loss", tokens.detach(), prog_bar=True)
        loss = self.own_weight * own["loss"] + self.token_weight * tokens
        return {**own, "loss": loss, "own_loss": own["loss"].detach(), "token_loss": tokens.detach()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write what an LCMTask of this model would: the second stage is over once it is trained."""
        super().on_save_checkpoint(checkpoint)
        parameters = checkpoint["hyper_parameters"]
        kept = {key: value for key, value in parameters.items() if key not in _OWN}
        if "_class_path" in kept:
            kept["_class_path"] = f"{LCMTask.__module__}.{LCMTask.__qualname__}"
        checkpoint["hyper_parameters"] = kept
