"""The columns of text: predictions decoded, encoded again, and read by a small language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from decoders.llm import load_llm, resolve_llm
from decoders.loading import load_decoder
from decoders.prefix import PrefixDecoder
from encoders.encoder import SentenceEncoder
from lcm import metrics
from lcm.checkpoint import open_encoder
from lcm.evaluation import HeldOut
from lcm.mutual_information import MutualInformation

NUM_BEFORE = 10  # true sentences that the small language model reads, as in arXiv:2412.08821
MAX_TOKENS = 48  # longest decoded sentence


@dataclass(frozen=True)
class Texts:
    """Some of the predicted positions, what stands there, and what decodes and reads the predictions.

    Attributes:
        places: document and row of each of N positions.
        before: sentence before each, which the decoder reads.
        true: their concepts (N, D).
        true_text: what information the context has of the sentences that stand there.
    """

    places: Sequence[tuple[int, int]]
    before: Sequence[str]
    true: Tensor
    true_text: dict[str, Any]
    decoder: PrefixDecoder
    encoder: SentenceEncoder
    information: MutualInformation

    @classmethod
    def prepare(cls, held_out: HeldOut, positions: Sequence[Tensor], decoder: str, *, num: int, seed: int) -> "Texts":
        """Draw `num` of the positions that have a sentence before them, and read what is before them."""
        store = held_out.sources[0][0]
        every = [
            (d, row)
            for d, rows in enumerate(positions)
            for row in rows.tolist()
            if held_out.levels[d][:row].eq(0).any()
        ]
        drawn = torch.randperm(len(every), generator=Generator().manual_seed(seed))[:num].sort().values
        places = [every[i] for i in drawn.tolist()]
        contexts, sentences = [], []
        for document, row in places:
            level, lines = (
                held_out.levels[document],
                held_out.sources[document][0].sentences(held_out.sources[document][1]),
            )
            contexts.append([lines[i] for i in torch.nonzero(level[:row] == 0)[-NUM_BEFORE:, 0].tolist()])
            sentences.append(lines[row])
        information = MutualInformation(
            *load_llm(resolve_llm()), contexts, num_before=NUM_BEFORE, max_tokens=MAX_TOKENS
        )
        told = information.told(sentences)
        return cls(
            places,
            [before[-1] for before in contexts],
            torch.stack([held_out.concepts[document][row] for document, row in places]),
            {
                "document": [document for document, _ in places],
                "nats": told.nats.tolist(),
                "tokens": told.num_tokens.tolist(),
                "sentences": sentences,
            },
            load_decoder(decoder, store.encoder),
            open_encoder(store.encoder_name, store.encoder, f"the store {store.path}"),
            information,
        )

    def measure(self, predicted: Sequence[Tensor], at: Sequence[Tensor]) -> dict[str, Any]:
        """Return, of predictions (P_d, D) at rows `at` of each document, l2 after a round trip through text, and MI."""
        given = torch.stack([predicted[d][int((at[d] == row).nonzero())] for d, row in self.places])
        written: list[str] = []
        for i in torch.arange(len(given)).split(64):
            before = [self.before[j] for j in i.tolist()]
            written += self.decoder.decode(given[i], before, max_new_tokens=MAX_TOKENS)
        again = torch.from_numpy(self.encoder.encode(written)).float()
        told = self.information.told(written)
        return {
            "l2-r": metrics.l2(again, self.true).tolist(),
            "nats": told.nats.tolist(),
            "tokens": told.num_tokens.tolist(),
            "sentences": written,
        }
