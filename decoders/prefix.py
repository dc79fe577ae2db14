"""A concept as soft tokens before the text of a language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from decoders.adapter import ConceptAdapter, add_noise
from decoders.prompt import Prompt, lay_out
from decoders.prompted import PromptedLLM


@dataclass(frozen=True)
class SentenceNLL:
    """Negative log likelihood of N sentences: `total` (N,) in nats, over `num_tokens` (N,), the end token included."""

    total: Tensor
    num_tokens: Tensor


class PrefixDecoder(nn.Module):
    """Writes the sentence of a concept: the text before it, K soft tokens made from the concept, then the sentence.

    The language model's own weights stay as they are; the adapter and LoRA matrices on all linear layers learn. The
    words that the concept makes probable (`decoders.words`) start some of the soft tokens, and their logits are
    raised.

    Args:
        dim: width D of a concept.
        encoder: fingerprint of the encoder whose concepts are decoded.
        encoder_name: name that makes that encoder again.
        llm: language model: "smollm2", a Hugging Face name, a local folder or a .gguf file.
        num_tokens: number K of soft tokens.
        word_tokens: how many of the soft tokens start from a word guessed from the concept.
        num_words: number of tokens to guess from, the corpus's most frequent ones.
        hidden_dim: width of the adapter's MLP.
        lora_rank: rank of the LoRA matrices; 0 trains the adapter alone.
        max_context_tokens: tokens of the text before that are read, its last ones.
        max_sentence_tokens: longest sentence in training, in tokens; the rest of a longer one is not learnt.
        context_drop: share of training batches without the text before, so that the concept stays in use.
        concept_drop: share of training sentences without the concept.
        noise_share: share of training sentences whose concept is noised.
        max_noise: highest noise level in training, as a share of the variance.
        init_seed: of the first values of adapter and LoRA matrices.
    """

    def __init__(
        self,
        dim: int,
        encoder: str = "",
        encoder_name: str = "",
        *,
        llm: str = "smollm2",
        num_tokens: int = 10,
        word_tokens: int = 8,
        num_words: int = 4096,
        hidden_dim: int = 1024,
        lora_rank: int = 16,
        max_context_tokens: int = 16,
        max_sentence_tokens: int = 80,
        context_drop: float = 0.3,
        concept_drop: float = 0.1,
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
        self.arguments: dict[str, Any] = arguments  # plain values that build this decoder again
        self.dim, self.encoder, self.encoder_name = dim, encoder, encoder_name
        self.max_context_tokens, self.max_sentence_tokens = max_context_tokens, max_sentence_tokens
        self.context_drop, self.concept_drop = context_drop, concept_drop
        self.noise_share, self.max_noise = noise_share, max_noise
        with torch.random.fork_rng([]):
            torch.manual_seed(init_seed)
            self.llm = PromptedLLM(llm, lora_rank)
            self.adapter = ConceptAdapter(
                dim,
                self.llm.width,
                num_tokens=num_tokens,
                word_tokens=word_tokens,
                hidden_dim=hidden_dim,
                num_words=num_words,
            )
        self.train()

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

    @staticmethod
    def is_base(name: str) -> bool:
        """Return whether a weight of the state_dict is the language model's own, which never learns."""
        return name.startswith("llm.") and "lora_" not in name

    def loss(
        self,
        concepts: Tensor,
        sentences: Sequence[str],
        context: Sequence[str] | None = None,
        generator: Generator | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss, in nats a token; in training mode some concepts are noised or left out, and some context.

        Args:
            concepts: raw concepts (N, D).
            sentences: the N sentences.
            context: the text before each; None for none.
            generator: source of all randomness, on the CPU.
        """
        x = self.adapter.normalize(concepts)
        level, keep = x.new_zeros(len(x)), torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.training:
            share, height, drop, text = torch.rand(4, len(x), generator=generator)
            level = (self.max_noise * height * (share < self.noise_share)).to(x.device)
            keep = (drop >= self.concept_drop).to(x.device)
            noised = add_noise(x.cpu(), level.cpu(), generator).to(x.device)  # one stream of numbers on every device
            x = torch.where(level[:, None] > 0, noised, x)
            if text[0] < self.context_drop:
                context = None  # for the whole batch, so that no row is padding
        nll, _ = self._token_nll(x, level, keep, sentences, context)
        return {"loss": nll.mean()}

    @torch.no_grad()
    def nll(
        self, concepts: Tensor | None, sentences: Sequence[str], context: Sequence[str] | None = None
    ) -> SentenceNLL:
        """Return the negative log likelihood of sentences, given raw concepts (N, D) or none, and context."""
        device, num = self.adapter.mean.device, len(sentences)
        x = torch.zeros(num, self.dim, device=device) if concepts is None else self.adapter.normalize(concepts)
        keep = torch.full((num,), concepts is not None, device=device)
        nll, row = self._token_nll(x, x.new_zeros(num), keep, sentences, context)
        total = nll.new_zeros(num).index_add(0, row, nll)
        return SentenceNLL(total, row.bincount(minlength=num))

    @torch.no_grad()
    def decode(
        self,
        concepts: Tensor,
        context: Sequence[str] | None = None,
        *,
        noise_level: float = 0.0,
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
            noise_level: share of the variance, in [0, 1), of noise that is added to the concepts and declared; a
                concept that a model predicted is off the space of real ones, and noise as seen in training covers that.
            max_new_tokens: longest sentence, in tokens.
            num_beams: beams of the search; 1 is greedy.
            temperature: 0 takes the most probable token; above it tokens are drawn.
            top_p: share of the probability that tokens are drawn from.
            no_repeat: no run of so many tokens comes twice in a sentence; 0 allows loops, which greedy search likes.
            generator: source of randomness, on the CPU; the same seed gives the same text, and none means seed 0.
        """
        if not 0 <= noise_level < 1 or temperature < 0 or not 0 < top_p <= 1 or max_new_tokens < 1 or num_beams < 1:
            raise ValueError(
                "need 0 <= noise_level < 1, temperature >= 0, 0 < top_p <= 1, max_new_tokens >= 1, num_beams >= 1; "
                f"found {noise_level}, {temperature}, {top_p}, {max_new_tokens}, {num_beams}"
            )
        if top_p < 1 and not temperature:
            raise ValueError(f"top_p = {top_p} does nothing at temperature 0; set a temperature above 0")
        if not len(concepts):
            return []
        generator = Generator().manual_seed(0) if generator is None else generator
        x = self.adapter.normalize(concepts.to(self.adapter.mean.device))
        level = x.new_full((len(x),), noise_level)
        if noise_level:
            x = add_noise(x.cpu(), level.cpu(), generator).to(x.device)
        prompt = self._lay_out(context, [[] for _ in x], pad_left=True)
        search: dict[str, Any] = {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
        search |= {"no_repeat_ngram_size": no_repeat, "do_sample": temperature > 0}
        if temperature > 0:
            search |= {"temperature": temperature, "top_p": top_p}
        with self.llm.autocast():
            soft = self.adapter(x, level, self.llm.embedding.weight)
            return self.llm.generate(
                prompt,
                soft,
                tokens=self.adapter.words.tokens,
                bias=self.adapter.word_bias(x),
                seed=int(torch.randint(2**62, (), generator=generator)),
                **search,
            )

    def _token_nll(
        self, x: Tensor, level: Tensor, keep: Tensor, sentences: Sequence[str], context: Sequence[str] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the negative log likelihood of every token of all sentences, one after the other, and its sentence."""
        most = self.max_sentence_tokens
        ids = [[*s, self.llm.end] if len(s) <= most else s[:most] for s in self.llm.tokenize(sentences)]
        prompt = self._lay_out(context, ids)
        with self.llm.autocast():
            soft = self.adapter(x, level, self.llm.embedding.weight)
            soft = torch.where(keep[:, None, None], soft, self.adapter.resize(self.adapter.missing))
            logits = self.llm.target_logits(prompt, soft)
        row = prompt.target.nonzero()[:, 0]
        bias = self.adapter.word_bias(x) * keep[:, None]
        logits = logits.index_add(1, self.adapter.words.tokens, bias[row])
        return nn.functional.cross_entropy(logits, prompt.ids[prompt.target], reduction="none"), row

    def _lay_out(self, context: Sequence[str] | None, sentences: list[list[int]], *, pad_left: bool = False) -> Prompt:
        """Return rows with the last tokens of the text before each sentence, K places and the sentence."""
        before: list[list[int]] = [[] for _ in sentences]
        if context is not None and self.max_context_tokens:
            before = [ids[-self.max_context_tokens :] for ids in self.llm.tokenize(context)]
        rows = lay_out(before, sentences, num_soft=self.adapter.num_tokens, begin=self.llm.begin, pad_left=pad_left)
        return rows.to(self.adapter.mean.device)
