"""Draws from a categorical distribution: temperature, the likeliest few, and the nucleus."""

import torch
from torch import Generator, Tensor


def check_drawing(temperature: float, top_k: int | None, top_p: float) -> None:
    """Refuse what draw() cannot do."""
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, found {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, found {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], found {top_p}")


def draw(logits: Tensor, *, temperature: float, top_k: int | None, top_p: float, generator: Generator | None) -> Tensor:
    """Return an index (...) drawn by logits (..., U), the likeliest at temperature 0."""
    if temperature == 0:
        return logits.argmax(-1)
    kept = keep_likeliest((logits / temperature).softmax(-1), top_k, top_p)
    return torch.multinomial(kept.flatten(0, -2), 1, generator=generator).view(logits.shape[:-1])


def keep_likeliest(probability: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """Set probabilities (..., U) to zero outside the top_k largest, and outside the fewest that hold top_p together.

    The second is nucleus sampling (arXiv:1904.09751); its cut is made before that of top_k.
    """
    if top_k is None and top_p == 1:
        return probability
    falling, order = probability.sort(stable=True, dim=-1, descending=True)
    out = falling.cumsum(-1) - falling >= top_p  # the likeliest always stays
    if top_k is not None:
        out[..., top_k:] = True
    return probability.masked_fill(out.gather(-1, order.argsort(-1)), 0)
