"""Training a decoder to correct what it wrote."""

from typing import Any

import torch
from torch import Tensor

from data.loader import keyed_generator
from data.store import check_encoder
from decoders.module import SentenceBatch
from decoders.prefix import PrefixDecoder
from decoders.prompt import Hypothesis
from decoders.proposals import propose
from decoders.task import DecoderTask
from encoders.encoder import SentenceEncoder, load_encoder


class CorrectionTask(DecoderTask):
    """Trains a decoder on its own hypotheses: what it wrote for a concept, encoded again, and what it should have been.

    In a share of the batches the decoder, as it is at that step, writes a sentence for each concept, greedily or at a
    random temperature; the loss is of the true sentence given both. The other batches are as in DecoderTask, so that
    it still writes without a hypothesis. As in vec2text's corrector (arXiv:2310.06816), with one model for both steps.

    Args:
        decoder: the decoder; `corrects` must be true.
        share: share of the batches with hypotheses.
        greedy_share: share of these whose hypotheses are the most probable sentences; the others are drawn.
        max_temperature: highest temperature of a drawn hypothesis.
        max_hypothesis_tokens: longest hypothesis, in tokens.
        options: of DecoderTask, such as `start`, a checkpoint of a decoder to begin with.

    Raises:
        ValueError: the decoder does not read hypotheses, or a share outside [0, 1].
    """

    def __init__(
        self,
        decoder: PrefixDecoder,
        *,
        share: float = 0.7,
        greedy_share: float = 0.5,
        max_temperature: float = 1.0,
        max_hypothesis_tokens: int = 48,
        **options: Any,
    ) -> None:
        if not decoder.arguments.get("corrects"):
            raise ValueError("this decoder reads no hypothesis; set corrects: true")
        if not 0 < share <= 1 or not 0 <= greedy_share <= 1 or max_temperature <= 0:
            raise ValueError(
                f"need 0 < share <= 1, 0 <= greedy_share <= 1, max_temperature > 0; "
                f"found {share}, {greedy_share}, {max_temperature}"
            )
        super().__init__(decoder, **options)
        self.share, self.greedy_share, self.max_temperature = share, greedy_share, max_temperature
        self.max_hypothesis_tokens = max_hypothesis_tokens
        self._encoder: list[SentenceEncoder] = []  # a list, for an encoder is no part of the decoder's weights

    @property
    def encoder(self) -> SentenceEncoder:
        """The encoder whose concepts the decoder reads, loaded at the first call."""
        if not self._encoder:
            encoder = load_encoder(self.decoder.encoder_name)
            check_encoder(self.decoder.encoder, encoder.fingerprint, "the decoder")
            self._encoder.append(encoder)
        return self._encoder[0]

    def training_step(self, batch: SentenceBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, in nats a token; of a share of the batches with hypotheses."""
        generator = keyed_generator(self.seed, 1, self.global_step, batch_idx, self.global_rank)
        chance, greedy, height = torch.rand(3, generator=generator).tolist()
        if chance >= self.share:
            return super().training_step(batch, batch_idx)
        temperature = 0.0 if greedy < self.greedy_share else self.max_temperature * height
        hypothesis = self.hypothesis(batch, temperature, generator)
        loss = self.batch_loss(batch, generator, hypothesis)
        self.log("train_loss_corrected", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def held_out_step(self, name: str, batch: SentenceBatch) -> None:
        """Log what DecoderTask logs, and nats a token given the most probable sentence as a hypothesis."""
        super().held_out_step(name, batch)
        hypothesis = self.hypothesis(batch, 0.0, None)
        nll = self.batch_nll(batch, batch.concepts, hypothesis)
        num_tokens = int(nll.num_tokens.sum())
        mean = nll.total.sum() / num_tokens
        self.log(f"{name}_loss_corrected", mean, prog_bar=True, sync_dist=True, batch_size=num_tokens)

    def hypothesis(self, batch: SentenceBatch, temperature: float, generator: torch.Generator | None) -> Hypothesis:
        """Return what the decoder writes for a batch, and its concepts, encoded again."""
        training = self.decoder.training
        self.decoder.eval()
        written = propose(
            self.decoder,
            batch.concepts,
            batch.context,
            temperatures=(temperature,),
            max_new_tokens=self.max_hypothesis_tokens,
            generator=generator,
            neighbours=batch.neighbours,
            near=batch.near,
            declared_level=batch.level,
        )
        self.decoder.train(training)
        texts = [text for (text,) in written.texts]
        return Hypothesis(texts, torch.from_numpy(self.encoder.encode(texts)).to(batch.concepts))
