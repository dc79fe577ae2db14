"""Candidate sentences of concepts: what a decoder reads is laid out once, and behind it one or many are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from decoders.generation import Rules
from decoders.prompt import Hypothesis, Prompt
from decoders.reading import read, soft_tokens

if TYPE_CHECKING:
    from decoders.prefix import PrefixDecoder


@dataclass(frozen=True)
class Proposals:
    """Candidates of N concepts, as many of each.

    Attributes:
        texts: the candidates of each concept, each a single line and never without a token.
        log_probability: (N, candidates) mean of a token in nats, the end token included, as the decoder has it before
            temperature and nucleus.
    """

    texts: list[list[str]]
    log_probability: Tensor


@dataclass(frozen=True)
class _Told:
    """What N rows begin with, and what raises words in them."""

    prompt: Prompt
    soft: Tensor  # (N, places, width)
    bias: Tensor  # (N, W)


@torch.no_grad()
def propose(
    decoder: "PrefixDecoder",
    concepts: Tensor,
    context: Sequence[str] | None = None,
    *,
    temperatures: Sequence[float] = (0.0,),
    top_p: float = 1.0,
    no_repeat: int = 3,
    max_new_tokens: int = 64,
    generator: Generator | None = None,
    **told: Any,
) -> Proposals:
    """Return a candidate of each raw concept (N, D) for each temperature; the prompt is read once for all of them.

    Args:
        decoder: writes them.
        concepts: raw concepts (N, D).
        context: the text before each sentence, "" where there is none; None for no text before any.
        temperatures: 0 takes the most probable token; above it tokens are drawn.
        top_p: share of the probability that tokens are drawn from.
        no_repeat: no run of so many tokens comes twice in a sentence; 0 allows loops.
        max_new_tokens: longest sentence, in tokens.
        generator: source of randomness, on the CPU; none means seed 0.
        told: what else `PrefixDecoder.decode` reads: neighbours, near, noise_level, declared_level, hypothesis.
    """
    if not temperatures or min(temperatures) < 0 or not 0 < top_p <= 1 or max_new_tokens < 1 or no_repeat < 0:
        raise ValueError(
            "need temperature >= 0, 0 < top_p <= 1, max_new_tokens >= 1, no_repeat >= 0; "
            f"found {list(temperatures)}, {top_p}, {max_new_tokens}, {no_repeat}"
        )
    if top_p < 1 and not any(temperatures):
        raise ValueError(f"top_p = {top_p} does nothing at temperature 0; set a temperature above 0")
    if not len(concepts):
        return Proposals([], torch.empty(0, len(temperatures)))
    generator = Generator().manual_seed(0) if generator is None else generator
    rules = Rules(decoder.llm.end, max_new_tokens, no_repeat, tuple(temperatures), top_p)
    with decoder.llm.autocast():
        found = _tell(decoder, concepts, context, generator, **told)
        tokens = decoder.adapter.words.tokens
        written = decoder.llm.generate(
            found.prompt, found.soft, tokens=tokens, bias=found.bias, rules=rules, generator=generator
        )
    texts, num = decoder.llm.texts(written.ids), len(temperatures)
    return Proposals(
        [texts[i : i + num] for i in range(0, len(texts), num)],
        (written.log_probability / written.num_tokens).view(-1, num),
    )


@torch.no_grad()
def beam(
    decoder: "PrefixDecoder",
    concepts: Tensor,
    context: Sequence[str] | None = None,
    *,
    num_beams: int,
    no_repeat: int = 3,
    max_new_tokens: int = 64,
    generator: Generator | None = None,
    **told: Any,
) -> list[str]:
    """Return a sentence of each raw concept (N, D) by beam search; the arguments are those of `propose`."""
    if num_beams < 2 or max_new_tokens < 1 or no_repeat < 0:
        raise ValueError(
            "need num_beams >= 1, max_new_tokens >= 1, no_repeat >= 0; "
            f"found {num_beams}, {max_new_tokens}, {no_repeat}"
        )
    if not len(concepts):
        return []
    generator = Generator().manual_seed(0) if generator is None else generator
    with decoder.llm.autocast():
        found = _tell(decoder, concepts, context, generator, **told)
        ids = decoder.llm.beam_search(
            found.prompt,
            found.soft,
            tokens=decoder.adapter.words.tokens,
            bias=found.bias,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            no_repeat_ngram_size=no_repeat,
        )
    return decoder.llm.texts(ids)


def _tell(
    decoder: "PrefixDecoder",
    concepts: Tensor,
    context: Sequence[str] | None,
    generator: Generator,
    *,
    neighbours: Tensor | None = None,
    near: Tensor | None = None,
    noise_level: float = 0.0,
    declared_level: float | Tensor | None = None,
    hypothesis: Hypothesis | None = None,
) -> _Told:
    """Return the rows of N raw concepts (N, D), ready to be written behind."""
    declared = torch.as_tensor(0.0 if declared_level is None else declared_level).expand(len(concepts))
    if not 0 <= noise_level < 1 or not ((declared >= 0) & (declared < 1)).all():
        raise ValueError(
            f"need 0 <= noise_level < 1 and 0 <= declared_level < 1, found {noise_level} and {declared_level}"
        )
    adapter = decoder.adapter
    reading = read(adapter, concepts.to(adapter.mean.device), neighbours, near, declared, hypothesis)
    if noise_level:
        reading = reading.noised(torch.full((len(concepts),), noise_level), generator)
    prompt = decoder.lay_out(context, [[] for _ in concepts], hypothesis, pad_left=True)
    soft = soft_tokens(adapter, reading, decoder.llm.embedding.weight)
    return _Told(prompt, soft, adapter.word_bias(reading.x))
