"""The causal transformer that reads concepts: RMSNorm, RoPE, SwiGLU, SDPA, as in Meta's LCM (arXiv:2412.08821)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm.elementwise import Dropout, RMSNorm, rotated_heads
from lcm.recent_means import MeansState, RecentMeans
from lcm.tiles import Tile, TiledAttention, causal_tiles

BRANCH_SCALE = 0.1  # of the last layer of a branch before training
Angles = tuple[Tensor, Tensor]  # cosines and sines, each (B or 1, 1, S, d/2)


def feed_forward_width(width: int) -> int:
    """Inner width of SwiGLU, 8/3 of the model width rounded up to a multiple of 256 (Meta's recipe)."""
    return 256 * math.ceil(8 * width / 768)


def rotary_angles(positions: Tensor, head_dim: int, theta: float = 10_000.0) -> Angles:
    """Angles of the rotary embedding (arXiv:2104.09864) of a head of d dimensions at integer positions (B, S)."""
    half = head_dim // 2
    frequencies = theta ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angles = positions[:, None, :, None].float() * frequencies  # (B, 1, S, d/2)
    return angles.cos(), angles.sin()


def attendable(mask: Tensor | None, document: Tensor | None, num_past: int, num_new: int) -> Tensor | None:
    """Which positions a new one may see: bool (B, 1, num_new, num_past + num_new), or None for "all up to itself".

    Args:
        mask: (B, num_past + num_new), True = a real sentence, or None if all are.
        document: (B, num_new) ids of packed documents, or None for one document a row.
        num_past: positions already in the cache.
        num_new: positions of this call.
    """
    if mask is None and document is None and num_past == 0:
        return None  # lets SDPA take its causal kernel
    source = mask if mask is not None else document
    assert source is not None or num_new == 1, "new positions behind a cache come one at a time, or with a mask"
    if source is None:
        return None
    total = num_past + num_new
    order = torch.arange(total, device=source.device)
    allowed = (order <= order[num_past:, None])[None]  # (1, num_new, total)
    if mask is not None:
        # A padded query sees itself only: an empty softmax row would be NaN.
        allowed = (allowed & mask[:, None]) | (order == order[num_past:, None])
    if document is not None:
        assert num_past == 0, "packed documents are for training, where there is no cache"
        allowed = allowed & (document[:, :, None] == document[:, None])
    return allowed[:, None]


@dataclass
class KeyValueCache:
    """What attention keeps of the positions read so far.

    Attributes:
        layers: keys and values, a pair a layer, each (B, heads, S, d).
        means: the state of the recent means, if the backbone has them.
    """

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    means: MeansState | None = None

    def __len__(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0


class SelfAttention(nn.Module):
    """Multi-head attention with rotary positions and biases: (B, S, H) -> (B, S, H)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(
        self,
        h: Tensor,
        angles: Angles,
        allowed: Tensor | list[Tile] | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend and return what is to be cached.

        Args:
            h: (B, S, H).
            angles: rotary angles of the positions, the same for all layers.
            allowed: bool (B, 1, S, past + S), True = seen; or tiles of these pairs; or None for all up to itself.
            past: keys and values, (B, heads, past, d) each.

        Returns:
            The attended h (B, S, H), and keys and values (B, heads, past + S, d).
        """
        qkv = self.query_key_value(h).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = rotated_heads(qkv, *angles)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        if isinstance(allowed, list):
            y = TiledAttention.apply(q, k, v, allowed)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=allowed is None and past is None)
        return self.output(y.transpose(1, 2).flatten(2)), (k, v)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (arXiv:2002.05202): (..., H) -> (..., H)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = feed_forward_width(width)
        self.gate_up = nn.Linear(width, 2 * inner)
        self.down = nn.Linear(inner, width)

    def forward(self, h: Tensor) -> Tensor:
        """Return down(silu(gate(h)) * up(h)), (..., H)."""
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm branches with residuals: one mixes positions, one feeds forward.

    Args:
        width: model width H.
        mixer: (h, ...) -> (mixed h, what to cache): attention or another.
        dropout: probability of dropping an element of a branch while training.
    """

    def __init__(self, width: int, mixer: nn.Module, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = RMSNorm(width), mixer
        self.feed_forward_norm, self.feed_forward = RMSNorm(width), SwiGLU(width)
        self.dropout = Dropout(dropout)
        with torch.no_grad():  # a new block changes little: what comes in goes out
            self.feed_forward.down.weight.mul_(BRANCH_SCALE)
            for name, parameter in mixer.named_parameters():
                if name.startswith("output."):
                    parameter.mul_(BRANCH_SCALE)

    def forward(self, h: Tensor, *mixing: Any) -> tuple[Tensor, Any]:
        """Return h (B, S, H) and what the mixer caches; `mixing` is what it takes beside h."""
        y, present = self.attention(self.attention_norm(h), *mixing)
        h = h + self.dropout(y)
        return h + self.dropout(self.feed_forward(self.feed_forward_norm(h))), present


class Backbone(nn.Module):
    """A causal stack of blocks over concepts: position s sees positions up to s, (B, S, H) -> (B, S, H).

    Args:
        width: model width H, a multiple of twice num_heads.
        num_heads: heads of a mixer.
        mixers: what mixes positions, one a block.
        dropout: probability of dropping an element of a branch while training.
    """

    def __init__(self, width: int, num_heads: int, mixers: Iterable[nn.Module], dropout: float) -> None:
        super().__init__()
        if width % (2 * num_heads):
            raise ValueError(f"width must be a multiple of 2 * num_heads, found width {width} and {num_heads} heads")
        self.width, self.head_dim = width, width // num_heads
        self.blocks = nn.ModuleList(Block(width, mixer, dropout) for mixer in mixers)
        self.norm = RMSNorm(width)

    def forward(
        self, h: Tensor, mask: Tensor | None = None, document: Tensor | None = None, cache: Any = None
    ) -> tuple[Tensor, Any]:
        """Read new positions behind those in the cache.

        Args:
            h: embedded concepts (B, S, H).
            mask: (B, past + S), True = a real sentence; None if all are. Padding on the right needs no mask.
            document: (B, S) ids of packed documents, each in one piece; nothing passes a border.
            cache: what an earlier call returned.

        Returns:
            Contexts (B, S, H) and the extended cache.
        """
        raise NotImplementedError


def positions_of(mask: Tensor | None, h: Tensor, num_past: int) -> Tensor:
    """Positions (B or 1, S) of new h (B, S, H) among the real ones of mask (B, past + S), or among all."""
    if mask is None:
        return torch.arange(num_past, num_past + h.shape[1], device=h.device)[None]
    assert mask.shape == (len(h), num_past + h.shape[1]), (mask.shape, h.shape, num_past)
    return (mask.cumsum(1) - 1).clamp_min(0)[:, num_past:]


class CausalTransformer(Backbone):
    """Causal stack of attention: (B, S, H) -> (B, S, H).

    It has num_layers * (4 H^2 + 4 H + 3 H F + 2 F + H + 2 H) + H parameters, F = feed_forward_width(H), and (K + 1) H
    more with K decays.

    Args:
        width: model width H, a multiple of twice num_heads.
        num_layers: number of blocks.
        num_heads: attention heads a block.
        dropout: probability of dropping an element of a branch while training.
        decays: decays of the means of recent positions that the first block is given beside each position; see
            RecentMeans. None gives none, as in the paper.
    """

    def __init__(
        self,
        width: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        decays: Sequence[float] | None = None,
    ) -> None:
        super().__init__(width, num_heads, (SelfAttention(width, num_heads) for _ in range(num_layers)), dropout)
        self.recent_means = RecentMeans(width, decays) if decays else None

    def forward(
        self,
        h: Tensor,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        """Read new positions behind those in the cache, as Backbone.forward()."""
        past = cache.layers if cache is not None and len(cache) else [None] * len(self.blocks)
        num_past, num_new = len(cache) if cache is not None else 0, h.shape[1]
        positions = positions_of(mask, h, num_past)
        if mask is None and num_past and num_new > 1:
            mask = torch.ones(len(h), num_past + num_new, dtype=torch.bool, device=h.device)
        allowed: Tensor | list[Tile] | None
        if mask is None and num_past == 0 and tiles_pay(h, document):
            allowed = causal_tiles(len(h), num_new, document)
        else:
            allowed = attendable(mask, document, num_past, num_new)
        means = cache.means if cache is not None else None
        if self.recent_means is not None:
            real = None if mask is None else mask[:, num_past:]
            h, means = self.recent_means(h, positions, real, document, means)
        h, presents = self.through(h, positions, allowed, past)
        return h, KeyValueCache(presents, means)

    def through(
        self,
        h: Tensor,
        positions: Tensor,
        allowed: Tensor | list[Tile] | None,
        past: Sequence[tuple[Tensor, Tensor] | None],
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Take h (B, S, H) at positions (B or 1, S) through all blocks and the norm; also return what each caches."""
        angles, presents = rotary_angles(positions, self.head_dim), []
        for block, before in zip(self.blocks, past, strict=True):
            h, present = block(h, angles, allowed, before)
            presents.append(present)
        return self.norm(h), presents


def tiles_pay(h: Tensor, document: Tensor | None) -> bool:
    """Whether attention in tiles is faster than torch's kernels: on a CPU where documents share rows."""
    return h.device.type == "cpu" and document is not None
