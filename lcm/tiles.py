"""Causal attention in tiles, for processors: many small products in cache, and none between two documents.

torch's own causal kernel for CPU (2.13) is slower than its batched products in bfloat16, and under a mask for packed
documents it computes every pair of positions. Here a block of queries meets the keys from the first position of its
first document on, as batched products of (heads, 128, d) by (heads, d, keys).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

QUERIES = 128  # queries a tile; experiments/2026-11-training-speed
PAIRS = 2**17  # pairs of positions a tile, over all its rows: what a head scores at once stays in cache


@dataclass(frozen=True)
class Tile:
    """Queries that are scored together against the keys that any of them sees.

    Attributes:
        rows: rows of the batch.
        queries: their positions.
        keys: positions of the keys; they end where the queries end.
        hidden: bool, (rows or 1, 1, queries, last), True = not seen, of the last keys; all before those are seen.
    """

    rows: slice
    queries: slice
    keys: slice
    hidden: Tensor


def causal_tiles(num_rows: int, num_positions: int, document: Tensor | None = None) -> list[Tile]:
    """Return tiles that hold each pair of a position and one up to it in its document, once.

    Args:
        num_rows: rows of the batch B.
        num_positions: positions of a row S.
        document: (B, S) ids of packed documents, each in one piece; None for one document a row.
    """
    if document is None:
        document = torch.zeros(num_rows, num_positions, dtype=torch.long)
    tiles = []
    starts = first_positions(document)
    begins = range(0, num_positions, QUERIES)
    lasts = [min(begin + QUERIES, num_positions) - 1 for begin in begins]
    pairs = torch.stack((starts[:, begins.start :: QUERIES], starts[:, lasts]), -1).transpose(0, 1).tolist()
    for begin, last, of_rows in zip(begins, lasts, pairs, strict=True):
        queries = slice(begin, last + 1)
        for rows, (first, latest) in runs(of_rows, (last + 1) * (last + 1 - begin)):
            # Without a border among the queries, only what comes after a query is hidden from it.
            hiding = slice(begin if first == latest else first, last + 1)
            order = torch.arange(last + 1, device=document.device)
            hidden = (order[hiding] > order[queries, None])[None]
            if first != latest:
                hidden = hidden | (order[hiding] < starts[rows, queries, None])
            tiles.append(Tile(rows, queries, slice(first, last + 1), hidden[:, None]))
    return tiles


def first_positions(document: Tensor) -> Tensor:
    """Position (B, S) at which the document of each position begins, for ids (B, S) of documents in one piece each."""
    order = torch.arange(document.shape[1], device=document.device)
    begins = torch.ones_like(document, dtype=torch.bool)
    begins[:, 1:] = document[:, 1:] != document[:, :-1]
    return torch.where(begins, order, 0).cummax(dim=1).values


def runs(of_rows: list[list[int]], num_pairs: int) -> Iterator[tuple[slice, list[int]]]:
    """Split neighbouring rows of equal (first, latest) into slices of up to PAIRS pairs, at least one row each."""
    most = max(1, PAIRS // num_pairs)
    begin = 0
    for value, group in groupby(of_rows):
        end = begin + len(list(group))
        for i in range(begin, end, most):
            yield slice(i, min(i + most, end)), value
        begin = end


def probabilities(q: Tensor, k: Tensor, hidden: Tensor) -> Tensor:
    """Attention weights (rows * heads, q, e) of queries (rows, heads, q, d) over keys (rows, heads, e, d)."""
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    last = scores.unflatten(0, q.shape[:2])[..., scores.shape[-1] - hidden.shape[-1] :]
    last.masked_fill_(hidden, -torch.inf)
    return scores.softmax(-1)


class TiledAttention(torch.autograd.Function):
    """Causal attention in tiles; the backward pass scores again, so that memory is linear in S."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tiles: list[Tile]) -> Tensor:
        """Return what is attended (B, heads, S, d) for q, k, v of that shape."""
        q = q * q.shape[-1] ** -0.5
        ctx.save_for_backward(q, k, v)
        ctx.tiles = tiles
        rows, heads, length, head_dim = q.shape
        out = torch.empty(rows, length, heads, head_dim, dtype=q.dtype, device=q.device).transpose(1, 2)
        with torch.autocast(q.device.type, enabled=False):
            for tile in tiles:
                weights = probabilities(q[tile.rows, :, tile.queries], k[tile.rows, :, tile.keys], tile.hidden)
                y = torch.bmm(weights, v[tile.rows, :, tile.keys].flatten(0, 1))
                out[tile.rows, :, tile.queries] = y.unflatten(0, (-1, heads))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of q, k and v."""
        q, k, v = ctx.saved_tensors
        sums = torch.promote_types(q.dtype, torch.float32)
        grad_q = torch.empty_like(q, memory_format=torch.contiguous_format)
        grad_k, grad_v = (torch.zeros(k.shape, dtype=sums, device=k.device) for _ in range(2))
        for tile in ctx.tiles:
            at_q, at_k = (tile.rows, slice(None), tile.queries), (tile.rows, slice(None), tile.keys)
            weights = probabilities(q[at_q], k[at_k], tile.hidden)
            g, shape = grad[at_q].flatten(0, 1), (-1, q.shape[1])
            grad_v[at_k] += torch.bmm(weights.transpose(1, 2), g).unflatten(0, shape)
            grad_weights = torch.bmm(g, v[at_k].flatten(0, 1).transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q[at_q] = torch.bmm(grad_scores, k[at_k].flatten(0, 1)).unflatten(0, shape)
            grad_k[at_k] += torch.bmm(grad_scores.transpose(1, 2), q[at_q].flatten(0, 1)).unflatten(0, shape)
        return grad_q.mul_(q.shape[-1] ** -0.5), grad_k.to(k.dtype), grad_v.to(v.dtype), None
