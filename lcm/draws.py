"""Several draws of the next concept at chosen positions of held-out documents, and their energy score."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from lcm import metrics
from lcm.backbone import KeyValueCache
from lcm.evaluation import HeldOut, Predict
from lcm.model import ConceptModel
from lcm.normalizer import FittedNormalizer
from lcm.one_tower import OneTowerModel

Draw = Callable[[Tensor, Tensor, Tensor], Tensor]  # concepts (S, D), levels (S,), positions (P,) -> draws (N, P, D)
LEARNT = {"guidance_scale": 1.0, "initial_noise": 1.0}  # with these a head draws from what it has learnt
QUERIES = 512  # answered together, so that the attention's scores stay small


def drawer(model: ConceptModel, num: int, *, length: int, seed: int = 0, **sampling: Any) -> Draw:
    """Return a function that draws `num` next concepts for given positions of a document, from its true concepts.

    The document is read once, and what is drawn for a position depends on nothing behind it. Windows are as those of
    lcm.evaluation.predictor(). Where guidance and initial noise are not given, the draws are of what was learnt.
    """
    generator = Generator().manual_seed(seed)
    options = {key: value for key, value in LEARNT.items() if key in model.sampling_options()} | sampling

    @torch.no_grad()
    def draw(concepts: Tensor, level: Tensor, at: Tensor) -> Tensor:
        half = length // 2
        start = ((at - length).div(half, rounding_mode="floor") + 1).clamp_min(0) * half
        drawn = torch.empty(num, len(at), concepts.shape[-1])
        for first in start.unique().tolist():
            window, here = slice(first, first + length), torch.nonzero(start == first)[:, 0]
            context, cache = model.contexts(model.normalizer(concepts[window])[None], level[window][None])
            memory, asked = remembered(model, context, cache), (at[here] - first).repeat(num)
            parts = []
            for some in asked.split(QUERIES):
                visible = torch.arange(context.shape[1]) < some[:, None]  # (Q, S)
                parts.append(model.head.sample(memory(some), visible[None], generator=generator, **options)[0])
            drawn[:, here] = model.normalizer.inverse(torch.cat(parts)).unflatten(0, (num, len(here)))
        return drawn

    return draw


def remembered(model: ConceptModel, context: Tensor, cache: KeyValueCache) -> Callable[[Tensor], Any]:
    """Return a function from positions (Q,) to what the head remembers of one row of contexts (1, S, H) for them."""
    if isinstance(model, OneTowerModel):  # its memory is the network itself, at the positions that are asked about
        return lambda at: partial(model.noisy, cache, at[None])
    memory = model.head.remember(context)
    return lambda at: memory


def point(predict: Predict) -> Draw:
    """Return a predictor that does not draw as one that draws once."""
    return lambda concepts, level, at: predict(concepts, level)[None, at - 1]


def energy(draw: Draw, held_out: HeldOut, positions: Sequence[Tensor], normalizer: FittedNormalizer) -> list[Tensor]:
    """Return the energy score of all sentences but the first row of each document, NaN where not at a position.

    Args:
        draw: what is measured.
        held_out: the documents.
        positions: rows (P_d,) of each document to draw for.
        normalizer: makes the space in which distances are taken; one for all that are compared.
    """
    values = []
    for concepts, level, at in zip(held_out.concepts, held_out.levels, positions, strict=True):
        value = torch.full((len(concepts),), torch.nan, dtype=torch.float64)
        if len(at):
            samples = normalizer(draw(concepts, level, at))
            value[at] = metrics.energy_score(samples, normalizer(concepts[at]))
        values.append(value[1:][level[1:] == 0])
    return values
