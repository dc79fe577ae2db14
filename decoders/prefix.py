"""A concept as soft tokens before the text of a language model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from decoders.adapter import ConceptAdapter
from decoders.prompt import Hypothesis, Part, Prompt, lay_out
from decoders.prompted import PromptedLLM
from decoders.proposals import beam, propose
from decoders.reading import Reading, SentenceNLL, read, running_level, soft_tokens
from decoders.tuning import tuned_llm


class PrefixDecoder(nn.Module):
    """Writes the sentence of a concept: the text before it, soft tokens made from concepts, then the sentence.

    A row is [context][a soft token of each neighbour][K soft tokens of the concept][sentence]; with a hypothesis to
    correct, its K soft tokens and its text stand before the concept's. The words that the concept makes probable
    (`decoders.words`) start some of the soft tokens, and their logits are raised.

    Args:
        dim: width D of a concept.
        encoder: fingerprint of the encoder whose concepts are decoded.
        encoder_name: name that makes that encoder again.
        llm: language model: "smollm2", a Hugging Face name, a local folder or a .gguf file.
        tuning: what of the language model learns: "lora" (LoRA matrices on all linear layers), "adapter" (nothing),
            "qlora" (LoRA over 4-bit weights, needs the extra `quant`), "full" (all weights).
        num_tokens: number K of soft tokens.
        word_tokens: how many of the soft tokens start from a word guessed from the concept.
        num_words: number of tokens to guess from, the corpus's most frequent ones.
        hidden_dim: width of the adapter's MLP.
        lora_rank: rank of the LoRA matrices, 16 if not given; 0 makes none.
        before: concepts of so many sentences before are read, a soft token each.
        after: concepts of so many sentences behind are read, a soft token each.
        corrects: whether it learns to correct a hypothesis, that is what was written before for the concept.
        max_context_tokens: tokens of the text before that are read, its last ones.
        max_sentence_tokens: longest sentence in training, in tokens; the rest of a longer one is not learnt.
        context_drop: share of training batches without the text before, so that the concept stays in use.
        concept_drop: share of training sentences without the concept.
        neighbour_drop: share of training sentences without all neighbours.
        noise_share: share of training sentences whose concept is noised; predicted ones are noisy as they are.
        max_noise: highest noise level in training, as a share of the variance.
        init_seed: of the first values of adapter and LoRA matrices.
    """

    predicted_level: Tensor  # mean level of the predicted concepts that it was trained on, 0 if on none

    def __init__(
        self,
        dim: int,
        encoder: str = "",
        encoder_name: str = "",
        *,
        llm: str = "smollm2",
        tuning: str = "lora",
        num_tokens: int = 10,
        word_tokens: int = 8,
        num_words: int = 4096,
        hidden_dim: int = 1024,
        lora_rank: int | None = None,
        before: int = 0,
        after: int = 0,
        corrects: bool = False,
        max_context_tokens: int = 16,
        max_sentence_tokens: int = 80,
        context_drop: float = 0.3,
        concept_drop: float = 0.1,
        neighbour_drop: float = 0.2,
        noise_share: float = 0.5,
        max_noise: float = 0.5,
        init_seed: int = 0,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__()
        if dim < 1 or num_tokens < 1 or not 0 <= max_noise < 1:
            raise ValueError(
                f"need dim >= 1, num_tokens >= 1, 0 <= max_noise < 1; found {dim}, {num_tokens}, {max_noise}"
            )
        if before < 0 or after < 0:
            raise ValueError(f"need before >= 0 and after >= 0, found {before}, {after}")
        self.arguments: dict[str, Any] = arguments  # plain values that build this decoder again
        self.dim, self.encoder, self.encoder_name = dim, encoder, encoder_name
        self.max_context_tokens, self.max_sentence_tokens = max_context_tokens, max_sentence_tokens
        self.context_drop, self.concept_drop, self.neighbour_drop = context_drop, concept_drop, neighbour_drop
        self.noise_share, self.max_noise = noise_share, max_noise
        with torch.random.fork_rng([]):
            torch.manual_seed(init_seed)
            self.llm = self.make_llm()
            self.adapter = ConceptAdapter(
                dim,
                self.llm.width,
                num_tokens=num_tokens,
                word_tokens=word_tokens,
                hidden_dim=hidden_dim,
                num_words=num_words,
                num_neighbours=before + after,
                corrects=corrects,
            )
        self.register_buffer("predicted_level", torch.zeros(()))
        self.train()

    def make_llm(self) -> PromptedLLM:
        """Return the language model; a decoder with one of its own overrides this."""
        return tuned_llm(self.arguments["llm"], self.arguments["tuning"], self.arguments["lora_rank"])

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called, here or before the checkpoint was written."""
        return bool(self.adapter.fitted)

    def fit(self, concepts: Tensor, sentences: Sequence[str]) -> None:
        """Fit what needs no gradient on training data: the scale of raw concepts (N, D) and the words they foretell."""
        self.adapter.fit(concepts, self.llm.tokenize(sentences), self.llm.embedding.weight)

    def adapter_parameters(self) -> list[nn.Parameter]:
        """Return what turns concepts into soft tokens."""
        return list(self.adapter.parameters())

    def lora_parameters(self) -> list[nn.Parameter]:
        """Return the LoRA matrices."""
        return self.llm.lora_parameters()

    def llm_parameters(self) -> list[nn.Parameter]:
        """Return the language model's own weights, where they learn."""
        return self.llm.own_parameters()

    def is_base(self, name: str) -> bool:
        """Return whether a weight of the state_dict is the language model's own and never learns."""
        return name.startswith("llm.") and "lora_" not in name and not self.llm.learns

    def loss(
        self,
        concepts: Tensor,
        sentences: Sequence[str],
        context: Sequence[str] | None = None,
        generator: Generator | None = None,
        *,
        neighbours: Tensor | None = None,
        near: Tensor | None = None,
        level: Tensor | None = None,
        hypothesis: Hypothesis | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss, in nats a token; in training mode some concepts are noised or left out, and some context.

        Args:
            concepts: raw concepts (N, D).
            sentences: the N sentences.
            context: the text before each; None for none.
            generator: source of all randomness, on the CPU.
            neighbours: raw concepts (N, M, D) of the sentences around each, `before` and `after`; None for none.
            near: (N, M) bool, True = there is such a sentence; None for all.
            level: (N,) in [0, 1), share of the variance of concepts that is noise, above 0 where they are predictions;
                None for true concepts.
            hypothesis: what was written before, to be corrected; None for nothing.
        """
        reading = read(self.adapter, concepts, neighbours, near, level, hypothesis)
        if self.training:
            self.predicted_level.copy_(running_level(self.predicted_level, reading.level))
            reading, context = self._drop(reading, context, generator)
        nll, _ = self._token_nll(reading, sentences, context, hypothesis)
        return {"loss": nll.mean()}

    @torch.no_grad()
    def nll(
        self,
        concepts: Tensor | None,
        sentences: Sequence[str],
        context: Sequence[str] | None = None,
        *,
        neighbours: Tensor | None = None,
        near: Tensor | None = None,
        level: Tensor | None = None,
        hypothesis: Hypothesis | None = None,
    ) -> SentenceNLL:
        """Return the negative log likelihood of sentences, given raw concepts (N, D) or none, and what `loss` takes."""
        num = len(sentences)
        given = self.adapter.mean.expand(num, -1) if concepts is None else concepts
        reading = read(self.adapter, given, neighbours, near, level, hypothesis)
        if concepts is None:
            reading = replace(reading, keep=torch.zeros_like(reading.keep))
        nll, row = self._token_nll(reading, sentences, context, hypothesis)
        total = nll.new_zeros(num).index_add(0, row, nll)
        return SentenceNLL(total, row.bincount(minlength=num))

    @torch.no_grad()
    def decode(
        self,
        concepts: Tensor,
        context: Sequence[str] | None = None,
        *,
        neighbours: Tensor | None = None,
        near: Tensor | None = None,
        noise_level: float = 0.0,
        declared_level: float | Tensor | None = None,
        hypothesis: Hypothesis | None = None,
        max_new_tokens: int = 64,
        num_beams: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        no_repeat: int = 3,
        generator: Generator | None = None,
    ) -> list[str]:
        """Return one sentence, a single line, for each raw concept (N, D).

        Args:
            concepts: raw concepts (N, D).
            context: the text before each sentence, "" where there is none; None for no text before any.
            neighbours: raw concepts (N, M, D) of the sentences around each; None for none.
            near: (N, M) bool, True = there is such a sentence; None for all.
            noise_level: share of the variance, in [0, 1), of noise that is added to the concepts and declared; a
                concept that a model predicted is off the space of real ones, and noise as seen in training covers that.
            declared_level: share of the variance, in [0, 1), that is noise in the concepts as they are: it is declared,
                and nothing is added. Give `predicted_level` for predicted concepts; None declares nothing.
            hypothesis: what was written before, to be corrected; None for nothing.
            max_new_tokens: longest sentence, in tokens.
            num_beams: beams of the search; 1 is greedy.
            temperature: 0 takes the most probable token; above it tokens are drawn.
            top_p: share of the probability that tokens are drawn from.
            no_repeat: no run of so many tokens comes twice in a sentence; 0 allows loops, which greedy search likes.
            generator: source of randomness, on the CPU; the same seed gives the same text, and none means seed 0.
        """
        told = dict[str, Any](
            neighbours=neighbours,
            near=near,
            noise_level=noise_level,
            declared_level=declared_level,
            hypothesis=hypothesis,
            max_new_tokens=max_new_tokens,
            no_repeat=no_repeat,
            generator=generator,
        )
        if num_beams != 1:
            if temperature or top_p < 1:
                raise ValueError(f"beams do not draw: leave out temperature {temperature} and top_p {top_p}")
            return beam(self, concepts, context, num_beams=num_beams, **told)
        found = propose(self, concepts, context, temperatures=(temperature,), top_p=top_p, **told)
        return [text for (text,) in found.texts]

    def _drop(
        self, reading: Reading, context: Sequence[str] | None, generator: Generator | None
    ) -> tuple[Reading, Sequence[str] | None]:
        """Return a training batch as it is read: some concepts noised or left out, some neighbours, some context."""
        device = reading.x.device
        share, height, drop, text = torch.rand(4, len(reading.x), generator=generator)
        true = (reading.level == 0).cpu()
        reading = reading.noised(self.max_noise * height * ((share < self.noise_share) & true), generator)
        reading = replace(reading, keep=(drop >= self.concept_drop).to(device))
        if self.adapter.num_neighbours:
            alone = torch.rand(len(drop), 1, generator=generator) < self.neighbour_drop
            reading = replace(reading, near=reading.near & ~alone.to(device))
        # Context is dropped for the whole batch, so that no row is padding.
        return reading, None if text[0] < self.context_drop else context

    def _token_nll(
        self,
        reading: Reading,
        sentences: Sequence[str],
        context: Sequence[str] | None,
        hypothesis: Hypothesis | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the negative log likelihood of every token of all sentences, one after the other, and its sentence."""
        most = self.max_sentence_tokens
        ids = [[*s, self.llm.end] if len(s) <= most else s[:most] for s in self.llm.tokenize(sentences)]
        prompt = self.lay_out(context, ids, hypothesis)
        with self.llm.autocast():
            logits = self.llm.target_logits(prompt, soft_tokens(self.adapter, reading, self.llm.embedding.weight))
        row = prompt.target.nonzero()[:, 0]
        bias = self.adapter.word_bias(reading.x) * reading.keep[:, None]
        logits = logits.index_add_(1, self.adapter.words.tokens, bias[row])  # in place: it is large, and of no more use
        return nn.functional.cross_entropy(logits, prompt.ids[prompt.target], reduction="none"), row

    def lay_out(
        self,
        context: Sequence[str] | None,
        sentences: list[list[int]],
        hypothesis: Hypothesis | None = None,
        *,
        pad_left: bool = False,
    ) -> Prompt:
        """Return rows of the last tokens of the text before, places of soft tokens, a hypothesis and the sentence."""
        rows: list[list[Part]] = [[self.llm.begin] for _ in sentences]
        if context is not None and self.max_context_tokens:
            for row, ids in zip(rows, self.llm.tokenize(context), strict=True):
                row.append(ids[-self.max_context_tokens :])
        for row in rows:
            row.append(self.adapter.num_neighbours)
        if hypothesis is not None:
            for row, ids in zip(rows, self.llm.tokenize(hypothesis.texts), strict=True):
                row += [self.adapter.num_tokens, ids[: self.max_sentence_tokens]]
        for row in rows:
            row.append(self.adapter.num_tokens)
        return lay_out(rows, sentences, pad_left=pad_left).to(self.adapter.mean.device)
