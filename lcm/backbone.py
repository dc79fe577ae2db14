"""The causal transformer that reads concepts: RMSNorm, RoPE, SwiGLU, SDPA, as in Meta's LCM (arXiv:2412.08821)."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def feed_forward_width(width: int) -> int:
    """Inner width of SwiGLU, 8/3 of the model width rounded up to a multiple of 256 (Meta's recipe)."""
    return 256 * math.ceil(8 * width / 768)


def rotate(x: Tensor, positions: Tensor, theta: float = 10_000.0) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864) of x (B, heads, S, d) at integer positions (B, S)."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = positions[:, None, :, None].float() * frequencies  # (B, 1, S, d/2)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


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
    """Keys and values of the positions read so far, a pair a layer, each (B, heads, S, d)."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

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
        self, h: Tensor, positions: Tensor, allowed: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the attended h (B, S, H) and the keys and values to cache, (B, heads, past + S, d) each."""
        q, k, v = self.query_key_value(h).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, positions), rotate(k, positions)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
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
    """Pre-norm attention and feed-forward branches with residuals."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(width), SelfAttention(width, num_heads)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, positions: Tensor, allowed: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return h (B, S, H) and the keys and values to cache."""
        y, present = self.attention(self.attention_norm(h), positions, allowed, past)
        h = h + self.dropout(y)
        return h + self.dropout(self.feed_forward(self.feed_forward_norm(h))), present


class CausalTransformer(nn.Module):
    """Causal stack over concepts that lets position s see positions up to s: (B, S, H) -> (B, S, H).

    Args:
        width: model width H, a multiple of twice num_heads.
        num_layers: number of blocks.
        num_heads: attention heads a block.
        dropout: probability of dropping an element of a branch while training.
    """

    def __init__(self, width: int = 256, num_layers: int = 4, num_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        if width % (2 * num_heads):
            raise ValueError(f"width must be a multiple of 2 * num_heads, found width {width} and {num_heads} heads")
        self.width = width
        self.blocks = nn.ModuleList(Block(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.RMSNorm(width)

    def forward(
        self,
        h: Tensor,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        """Read new positions behind those in the cache.

        Args:
            h: embedded concepts (B, S, H).
            mask: (B, past + S), True = a real sentence; None if all are. Padding on the right needs no mask.
            document: (B, S) ids of packed documents; attention never crosses a border.
            cache: what an earlier call returned.

        Returns:
            Contexts (B, S, H) and the extended cache.
        """
        past = cache.layers if cache is not None and len(cache) else [None] * len(self.blocks)
        num_past, num_new = len(cache) if cache is not None else 0, h.shape[1]
        if mask is None:
            positions = torch.arange(num_past, num_past + num_new, device=h.device).expand(len(h), -1)
            if num_past and num_new > 1:
                mask = torch.ones(len(h), num_past + num_new, dtype=torch.bool, device=h.device)
        else:
            assert mask.shape == (len(h), num_past + num_new), (mask.shape, h.shape, num_past)
            positions = (mask.cumsum(1) - 1).clamp_min(0)[:, num_past:]
        allowed = attendable(mask, document, num_past, num_new)
        presents = []
        for block, before in zip(self.blocks, past, strict=True):
            h, present = block(h, positions, allowed, before)
            presents.append(present)
        return self.norm(h), KeyValueCache(presents)
