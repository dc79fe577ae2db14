"""Candidates that are encoded again: the one nearest to the concept, and fluent and new, is the sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from decoders.prefix import PrefixDecoder
from decoders.prompt import Hypothesis
from decoders.proposals import Proposals, propose
from decoders.repetition import repeated_share
from encoders.encoder import SentenceEncoder

_BY_ROW = ("neighbours", "near")  # of what a decoder is told: a row for each concept


@dataclass(frozen=True)
class Candidate:
    """A sentence that may be the one.

    Attributes:
        text: the sentence.
        concept: its own raw concept (D,).
        cosine: of its concept with the one that is decoded.
        log_probability: mean of its tokens, in nats.
        score: by which it is chosen, the higher the better.
    """

    text: str
    concept: Tensor
    cosine: float
    log_probability: float
    score: float


@dataclass(frozen=True)
class Scored:
    """What was chosen for N concepts, and from what.

    Attributes:
        chosen: the sentence of each concept.
        candidates: all that were written for each concept, each text once, in the order of writing.
    """

    chosen: list[Candidate]
    candidates: list[list[Candidate]]

    @property
    def texts(self) -> list[str]:
        """The N sentences."""
        return [candidate.text for candidate in self.chosen]

    @property
    def cosine(self) -> Tensor:
        """Cosine (N,) of the sentences' own concepts with those that were decoded."""
        return torch.tensor([candidate.cosine for candidate in self.chosen])

    @property
    def concepts(self) -> Tensor:
        """The sentences' own raw concepts (N, D)."""
        return torch.stack([candidate.concept for candidate in self.chosen])


class CycleDecoder:
    """Writes candidates, the most probable sentence and draws, encodes them again and keeps the best.

    The best has the highest cosine with the concept + fluency_weight * mean log probability of a token, less
    repetition_penalty * the share of its runs of three words that were said before; the first of equals. Each
    correction writes as many candidates again, told what is kept so far; the best of old and new is kept, and its
    cosine never falls.

    Args:
        decoder: writes the candidates.
        encoder: the encoder whose concepts the decoder reads.
        candidates: how many are written for a concept; one is the most probable sentence alone.
        corrections: rounds of correction; the decoder must have been trained for them.
        temperature: of the draws.
        top_p: share of the probability that they are drawn from.
        fluency_weight: worth of a nat a token, in cosine.
        repetition_penalty: of a sentence that says nothing new, in cosine.
        rows: candidates that are written together, to bound the memory.

    Raises:
        ValueError: the encoder is not the decoder's, corrections of a decoder that was not trained for them, or a
            setting outside its range.
    """

    def __init__(
        self,
        decoder: PrefixDecoder,
        encoder: SentenceEncoder,
        *,
        candidates: int = 8,
        corrections: int = 0,
        temperature: float = 0.8,
        top_p: float = 0.9,
        fluency_weight: float = 0.05,  # experiments/2026-11-decoder/rerank.py: best BLEU at k = 8 and 16
        repetition_penalty: float = 1.0,
        rows: int = 128,
    ) -> None:
        if decoder.encoder != encoder.fingerprint:
            raise ValueError(
                f"the decoder knows concepts of encoder {decoder.encoder[:12]}, found {encoder.fingerprint[:12]}; "
                "give the encoder that it was trained with"
            )
        if candidates < 1 or corrections < 0 or rows < 1 or fluency_weight < 0 or repetition_penalty < 0:
            raise ValueError(
                "need candidates >= 1, corrections >= 0, rows >= 1, fluency_weight >= 0, repetition_penalty >= 0; "
                f"found {candidates}, {corrections}, {rows}, {fluency_weight}, {repetition_penalty}"
            )
        if candidates > 1 and (temperature <= 0 or not 0 < top_p <= 1):
            raise ValueError(
                f"candidates differ only at a temperature above 0 and 0 < top_p <= 1, found {temperature}, {top_p}; "
                "change it or ask for one candidate"
            )
        if corrections and not decoder.arguments.get("corrects"):
            raise ValueError(
                "this decoder was not trained to correct: ask for 0 corrections, or train it with "
                '"lcm fit -c configs/decoder.yaml -c configs/correction.yaml"'
            )
        self.decoder, self.encoder, self.encoder_name = decoder, decoder.encoder, decoder.encoder_name
        self.dim, self.sentence_encoder, self.corrections, self.rows = decoder.dim, encoder, corrections, rows
        self.temperatures, self.top_p = (0.0, *[temperature] * (candidates - 1)), top_p
        self.fluency_weight, self.repetition_penalty = fluency_weight, repetition_penalty

    def decode(
        self,
        concepts: Tensor,
        context: Sequence[str] | None = None,
        *,
        generator: Generator | None = None,
        **told: Any,
    ) -> list[str]:
        """Return one sentence, a single line, for each raw concept (N, D); the arguments are of `decode_scored`."""
        return self.decode_scored(concepts, context, generator=generator, **told).texts

    def decode_scored(
        self,
        concepts: Tensor,
        context: Sequence[str] | None = None,
        *,
        generator: Generator | None = None,
        **told: Any,
    ) -> Scored:
        """Return the sentence of each raw concept (N, D), its cosine, and the candidates.

        Args:
            concepts: raw concepts (N, D).
            context: the text before each sentence, as much as is not to be said again; the decoder reads the end of it.
            generator: source of randomness, on the CPU; the same seed gives the same text.
            told: what else `propose` takes, such as declared_level, neighbours and near.
        """
        generator = Generator().manual_seed(0) if generator is None else generator
        found: list[Scored] = []
        step = max(self.rows // len(self.temperatures), 1)
        for i in range(0, len(concepts), step):
            part = slice(i, i + step)
            some = {key: value[part] if key in _BY_ROW else value for key, value in told.items()}
            before = None if context is None else context[part]
            found.append(self._decode_some(concepts[part], before, generator, some))
        return Scored([c for s in found for c in s.chosen], [c for s in found for c in s.candidates])

    def _decode_some(
        self, concepts: Tensor, context: Sequence[str] | None, generator: Generator, told: dict[str, Any]
    ) -> Scored:
        """Return the sentences of concepts whose candidates are written together."""
        candidates = self._write(concepts, context, generator, told)
        chosen = [best(found) for found in candidates]
        for _ in range(self.corrections):
            hypothesis = Hypothesis([c.text for c in chosen], torch.stack([c.concept for c in chosen]))
            more = self._write(concepts, context, generator, {**told, "hypothesis": hypothesis})
            chosen = [
                best([kept, *(c for c in new if c.cosine > kept.cosine)])
                for kept, new in zip(chosen, more, strict=True)
            ]
            candidates = [
                list({c.text: c for c in [*new, *old]}.values()) for old, new in zip(candidates, more, strict=True)
            ]
        return Scored(chosen, candidates)

    def _write(
        self, concepts: Tensor, context: Sequence[str] | None, generator: Generator, told: dict[str, Any]
    ) -> list[list[Candidate]]:
        """Return the candidates of each concept, each text once; all are encoded in one call."""
        top_p = self.top_p if len(self.temperatures) > 1 else 1.0
        options: dict[str, Any] = {"temperatures": self.temperatures, "top_p": top_p, "generator": generator}
        written = propose(self.decoder, concepts, context, **options, **told)
        fluency = _distinct(written)
        texts = list(dict.fromkeys(text for found in fluency for text in found))
        again = dict(zip(texts, torch.from_numpy(self.sentence_encoder.encode(texts)), strict=True))
        before = [""] * len(concepts) if context is None else context
        return [
            [self._score(text, again[text], concept, mean, text_before) for text, mean in found.items()]
            for concept, found, text_before in zip(concepts.cpu().float(), fluency, before, strict=True)
        ]

    def _score(self, text: str, own: Tensor, concept: Tensor, log_probability: float, before: str) -> Candidate:
        """Return a text with its own concept (D,) as a candidate for a concept (D,)."""
        cosine = float(torch.cosine_similarity(own, concept, dim=0))
        said = repeated_share(text, before) if self.repetition_penalty else 0.0
        score = cosine + self.fluency_weight * log_probability - self.repetition_penalty * said
        return Candidate(text, own, cosine, log_probability, score)


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the highest score, the first of equals."""
    return max(candidates, key=lambda candidate: candidate.score)


def _distinct(written: Proposals) -> list[dict[str, float]]:
    """Return the texts of each concept, in order, with the highest mean log probability that each was written with."""
    found: list[dict[str, float]] = []
    for texts, means in zip(written.texts, written.log_probability.tolist(), strict=True):
        found.append({})
        for text, mean in zip(texts, means, strict=True):
            found[-1][text] = max(mean, found[-1].get(text, mean))
    return found
