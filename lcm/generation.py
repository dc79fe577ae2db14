"""Continuing a sequence of concepts."""

from typing import Any

import torch
from torch import Generator, Tensor

from lcm.model import ConceptModel


@torch.no_grad()
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
    if num_concepts < 1:
        raise ValueError(f"num_concepts must be at least 1, found {num_concepts}")
    state = model.read(prefix, mask, level=level)
    sentence = torch.zeros(len(prefix), 1, dtype=torch.long, device=prefix.device)
    concepts = [model.predict_from(state, generator=generator, **sampling)]
    while len(concepts) < num_concepts:
        state = model.read(concepts[-1][:, None], level=sentence, state=state)
        concepts.append(model.predict_from(state, generator=generator, **sampling))
    return torch.stack(concepts, dim=1)
