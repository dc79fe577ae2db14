"""Continuing a sequence of concepts."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Generator, Tensor

from lcm.model import ConceptModel
from lcm.stopping import StopRule


@dataclass(frozen=True)
class Continuation:
    """What a model puts behind each of several prefixes, up to where each ends by itself.

    Attributes:
        concepts: raw concepts (B, N, D), N those of the longest; zeros behind the last of a row.
        lengths: concepts of each row, int64 (B,), without the end of text or the repetition that ended it.
        ended: (B,) bool, True = the rule ended the row, False = it reached the most that was asked for.
    """

    concepts: Tensor
    lengths: Tensor
    ended: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, N) bool, True = a real concept."""
        return torch.arange(self.concepts.shape[1], device=self.lengths.device) < self.lengths[:, None]


def continue_concepts(
    model: ConceptModel,
    prefix: Tensor,
    num_concepts: int,
    mask: Tensor | None = None,
    *,
    level: Tensor | None = None,
    generator: Generator | None = None,
    **sampling: Any,
) -> Tensor:
    """Return the raw concepts (B, num_concepts, D) that the model puts behind a raw prefix (B, S, D).

    What has been read is cached: a concept costs one pass over one position, however long the prefix.

    Args:
        model: a fitted model.
        prefix: raw concepts, at least one a row.
        num_concepts: how many to add.
        mask: (B, S), True = a real sentence; rows may differ in length.
        level: (B, S) level of each row of the prefix; the added rows are sentences (level 0).
        generator: source of randomness; the same seed gives the same concepts.
        **sampling: options of the head's sample().
    """
    check_number(num_concepts)
    concepts = follow(model, prefix, mask, level=level, generator=generator, **sampling)
    return torch.stack(list(islice(concepts, num_concepts)), dim=1)


def continue_until(
    model: ConceptModel,
    prefix: Tensor,
    max_concepts: int,
    stop: StopRule,
    mask: Tensor | None = None,
    *,
    level: Tensor | None = None,
    generator: Generator | None = None,
    **sampling: Any,
) -> Continuation:
    """Return what continue_concepts() does, each row up to where the rule stops it, but `max_concepts` at most.

    A row that has stopped is computed on and cut: what the other rows become does not depend on it. The concepts are
    those of continue_concepts() with the same seed, to the bit.

    Args:
        model: a fitted model; `model.stopping.rule()` is a rule with thresholds for its encoder.
        prefix: raw concepts (B, S, D), at least one a row.
        max_concepts: how many to add at most.
        stop: when a row ends.
        mask: (B, S), True = a real sentence.
        level: (B, S) level of each row of the prefix.
        generator: source of randomness; the same seed gives the same concepts.
        **sampling: options of the head's sample().
    """
    check_number(max_concepts)
    going = torch.ones(len(prefix), dtype=torch.bool, device=prefix.device)
    lengths, concepts = going.long() * 0, [prefix[:, :0]]
    before: Tensor | None = None
    for concept in islice(follow(model, prefix, mask, level=level, generator=generator, **sampling), max_concepts):
        over = stop.ends(concept)
        if before is not None:
            over = over | stop.repeats(concept, before)
        going = going & ~(over & (lengths >= stop.min_concepts))
        if not going.any():
            break
        lengths = lengths + going
        concepts.append((concept * going[:, None])[:, None])
        before = concept
    return Continuation(torch.cat(concepts, dim=1), lengths, ~going)


def follow(
    model: ConceptModel,
    prefix: Tensor,
    mask: Tensor | None = None,
    *,
    level: Tensor | None = None,
    generator: Generator | None = None,
    **sampling: Any,
) -> Iterator[Tensor]:
    """Yield raw concepts (B, D) for ever, each predicted from the prefix (B, S, D) and those before it."""
    state = model.read(prefix, mask, level=level)
    sentence = torch.zeros(len(prefix), 1, dtype=torch.long, device=prefix.device)
    while True:
        concept = model.predict_from(state, generator=generator, **sampling)
        yield concept
        state = model.read(concept[:, None], level=sentence, state=state)


def check_number(num_concepts: int) -> None:
    """Refuse to continue by nothing."""
    if num_concepts < 1:
        raise ValueError(f"num_concepts must be at least 1, found {num_concepts}")
