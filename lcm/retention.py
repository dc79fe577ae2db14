"""Retention in place of attention (arXiv:2307.08621): memory linear in S to train, a constant state to generate.

Position n gets the sum over m <= n of decay^(n - m) (q_n . k_m) v_m, with a decay for each head. Three forms give the
same: in parallel over all pairs, in chunks, and one position at a time.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm.backbone import Angles, Backbone, positions_of, rotary_angles
from lcm.elementwise import rotated_heads
from lcm.tiles import first_positions

State = tuple[Tensor, Tensor]  # sums of decayed k v^T (B, heads, d, d), and the position (B, 1) they are decayed to


@dataclass
class RetentionCache:
    """What retention keeps of all positions read so far.

    Attributes:
        layers: a state a layer.
        num_read: positions read, padding among them.
    """

    layers: list[State] = field(default_factory=list)
    num_read: int = 0

    def __len__(self) -> int:
        return self.num_read


@dataclass(frozen=True)
class Places:
    """Where the rows of a call stand.

    Attributes:
        position: (B or 1, S) number of a row among the real ones of its batch row.
        real: (B, S), True = a real sentence; None if all are.
        begin: (B, S) index in the call at which the packed document of a row begins; None for one document a row.
    """

    position: Tensor
    real: Tensor | None = None
    begin: Tensor | None = None


def log_decays(num_heads: int) -> Tensor:
    """Logarithms (heads,) of the decays 1 - 2^(-5 - i), section 2.2 of the paper: from 22 positions by half on."""
    return torch.log1p(-(2.0 ** (-5 - torch.arange(num_heads, dtype=torch.float64))))


def empty_state(k: Tensor, position: Tensor) -> State:
    """Return the state before the first of keys (B, heads, S, d) at positions (B or 1, S)."""
    rows, heads, _, head_dim = k.shape
    wide = torch.promote_types(k.dtype, torch.float32)
    return torch.zeros(rows, heads, head_dim, head_dim, dtype=wide, device=k.device), position[:, :1] - 1


def decayed(logs: Tensor, distance: Tensor) -> Tensor:
    """decay^distance: logs (heads,), distance (B, ...) -> (B, heads, ...)."""
    return torch.exp(logs.view(1, -1, *[1] * (distance.dim() - 1)) * distance[:, None])


def retain_parallel(
    q: Tensor, k: Tensor, v: Tensor, logs: Tensor, places: Places, past: State, start: int = 0
) -> tuple[Tensor, State]:
    """Retention over all pairs of C rows at once.

    Args:
        q: queries (B, heads, C, d).
        k: keys of that shape; zero where there is no real sentence.
        v: values of that shape.
        logs: (heads,) logarithms of the decays, in the dtype to compute decays in.
        places: of the rows.
        past: state before the first row.
        start: index of the first row in the call.

    Returns:
        (B, heads, C, d), and the state behind the last row.
    """
    (state, before), position, begin = past, places.position, places.begin
    num = position.shape[1]
    order = torch.arange(start, start + num, device=q.device)
    seen = (order <= order[:, None])[None]
    since = decayed(logs, position - before)  # decay of the state at each row
    if begin is not None:
        seen = seen & (order >= begin[:, :, None])
        since = since * (begin < start)[:, None]  # a document that begins here has no past
    decay = decayed(logs, (position[:, :, None] - position[:, None]).clamp_min(0)) * seen[:, None]
    y = ((q @ k.transpose(-1, -2)) * decay).to(v.dtype) @ v + (q @ state.to(q.dtype)) * since[..., None]
    added = (k * decay[:, :, -1, :, None]).to(v.dtype).transpose(-1, -2) @ v
    return y, (state * since[:, :, -1, None, None] + added, position[:, -1:])


def retain_chunks(
    q: Tensor, k: Tensor, v: Tensor, logs: Tensor, places: Places, past: State, chunk: int
) -> tuple[Tensor, State]:
    """Retention in chunks, as retain_parallel(): all pairs within one, and a state from one to the next."""
    ys = []
    for start in range(0, q.shape[2], chunk):
        here = slice(start, start + chunk)
        part = Places(places.position[:, here], begin=None if places.begin is None else places.begin[:, here])
        y, past = retain_parallel(q[:, :, here], k[:, :, here], v[:, :, here], logs, part, past, start)
        ys.append(y)
    return torch.cat(ys, dim=2), past


def retain_step(q: Tensor, k: Tensor, v: Tensor, logs: Tensor, places: Places, past: State) -> tuple[Tensor, State]:
    """Retention of one position (B, heads, 1, d) behind a state, as retain_parallel()."""
    state, before = past
    state = state * decayed(logs, places.position - before)[..., None] + k.transpose(-1, -2) * v
    return q @ state.to(q.dtype), (state, places.position)


class Retention(nn.Module):
    """Multi-scale retention with a gate: (B, S, H) -> (B, S, H).

    The paper's values and gates are twice as wide as its queries; here all have width H.

    Args:
        width: model width H, a multiple of twice num_heads.
        num_heads: heads, each with its own decay.
        chunk: positions of a chunk.
    """

    def __init__(self, width: int, num_heads: int, chunk: int) -> None:
        super().__init__()
        self.num_heads, self.chunk = num_heads, chunk
        self.query_key_value = nn.Linear(width, 3 * width)
        self.gate, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor, places: Places, past: State | None, angles: Angles) -> tuple[Tensor, State]:
        """Return the mixed h (B, S, H) and the state behind its last row."""
        qkv = self.query_key_value(h).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = rotated_heads(qkv, *angles)
        k = k * k.shape[-1] ** -0.5
        if places.real is not None:
            k = k * places.real[:, None, :, None]
        logs = log_decays(self.num_heads).to(h.device, torch.promote_types(h.dtype, torch.float32))
        num = h.shape[1]
        if num == 1 and past is not None:
            y, present = retain_step(q, k, v, logs, places, past)
        else:
            past = empty_state(k, places.position) if past is None else past
            y, present = retain_chunks(q, k, v, logs, places, past, self.chunk)
        y = F.rms_norm(y.to(h.dtype), y.shape[-1:], eps=1e-6)  # of each head by itself, as the paper's group norm
        return self.output(F.silu(self.gate(h)) * y.transpose(1, 2).flatten(2)), present


class RetentiveTransformer(Backbone):
    """Causal stack of retention: (B, S, H) -> (B, S, H).

    It has num_layers * (5 H^2 + 5 H + 3 H F + 2 F + H + 2 H) + H parameters, F = feed_forward_width(H): H^2 + H a
    block more than attention, for the gate. Its cache does not grow with what has been read.

    Args:
        width: model width H, a multiple of twice num_heads.
        num_layers: number of blocks.
        num_heads: heads a block; head i forgets half in about 22 * 2^i concepts.
        dropout: probability of dropping an element of a branch while training.
        chunk: concepts that are mixed in pairs; longer sequences are read in chunks of it.
    """

    def __init__(
        self, width: int = 256, num_layers: int = 4, num_heads: int = 4, dropout: float = 0.1, chunk: int = 128
    ) -> None:
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, found {chunk}")
        super().__init__(width, num_heads, (Retention(width, num_heads, chunk) for _ in range(num_layers)), dropout)

    def forward(
        self,
        h: Tensor,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        cache: RetentionCache | None = None,
    ) -> tuple[Tensor, RetentionCache]:
        """Read new positions behind those in the cache, as Backbone.forward()."""
        assert document is None or not cache, "packed documents are for training, where there is no cache"
        num_past = len(cache) if cache is not None else 0
        position = positions_of(mask, h, num_past)
        past = cache.layers if cache is not None and num_past else [None] * len(self.blocks)
        begin = None if document is None else first_positions(document)
        places = Places(position, None if mask is None else mask[:, num_past:], begin)
        angles = rotary_angles(position, self.head_dim)
        presents = []
        for block, before in zip(self.blocks, past, strict=True):
            h, present = block(h, places, before, angles)
            presents.append(present)
        return self.norm(h), RetentionCache(presents, num_past + h.shape[1])
