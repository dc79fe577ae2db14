"""Means of what was read lately, of several reaches: what the next concept resembles most."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHUNK = 64  # positions that are summed in one product


@dataclass(frozen=True)
class MeansState:
    """What the means keep of the positions read so far, and what they gave in the last call.

    Attributes:
        sums: (B, K, H + 1) decayed sums up to the last position, and in the last column their weights.
        position: (B,) number of the last real position.
        mixed: (B, S, H) what the last call returned, which is all that it knows behind each position; no call goes on
            from it.
    """

    sums: Tensor
    position: Tensor
    mixed: Tensor


class RecentMeans(nn.Module):
    """Adds to each position exponentially decayed means of all up to it: (B, S, H) -> (B, S, H).

    A channel is gain_0 h + sum_k gain_k mean_k, where mean_k weighs a position n back by decay_k^n and decay 1 is the
    mean of the document so far. It is the moving average of Mega (arXiv:2209.10655, section 3.1), normalised, with
    fixed decays. The gains start where a predictor without training does well: what was lately said, less what the
    document says always; that is the baseline "recent mean" of `lcm evaluate`. It has (K + 1) H parameters.

    Args:
        width: model width H.
        decays: K shares that are kept from one position to the next, each in (0, 1].
    """

    log_decays: Tensor

    def __init__(self, width: int, decays: Sequence[float]) -> None:
        super().__init__()
        if not decays or not all(0 < decay <= 1 for decay in decays):
            raise ValueError(f"decays must be above 0 and at most 1, found {list(decays)}")
        self.register_buffer("log_decays", torch.tensor(decays, dtype=torch.float64).log().float(), persistent=False)
        fading = sum(decay < 1 for decay in decays)
        whole = -0.8 * (0 < fading < len(decays))  # the document's mean is taken off where something is left of it
        recent = [(0.6 - whole) / fading if decay < 1 else whole for decay in decays]
        self.gains = nn.Parameter(torch.tensor([0.4 if fading else 1.0, *recent])[:, None].repeat(1, width))

    def forward(
        self,
        h: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        state: MeansState | None = None,
    ) -> tuple[Tensor, MeansState]:
        """Mix new positions with the means behind them.

        Args:
            h: (B, S, H).
            positions: (B or 1, S) number of each position among the real ones of its row.
            mask: (B, S), True = a real sentence; None if all are.
            document: (B, S) ids of packed documents; means never cross a border.
            state: what an earlier call returned.
        """
        real = torch.ones(h.shape[:2], device=h.device) if mask is None else mask.float()
        positions = positions.expand(len(h), -1)
        rows = torch.cat((h.float(), torch.ones_like(h[..., :1], dtype=torch.float32)), -1) * real[..., None]
        if state is None:
            carried, at = rows.new_zeros(len(h), len(self.log_decays), rows.shape[-1]), positions[:, 0]
        else:
            carried, at = state.sums, state.position
        with torch.autocast(h.device.type, enabled=False):
            means, carried, at = self.means(rows, positions, document, carried, at)
            mixed = self.gains[0] * h + torch.einsum("kh,bksh->bsh", self.gains[1:], means)
        return mixed, MeansState(carried, at, mixed)

    def means(
        self, rows: Tensor, positions: Tensor, document: Tensor | None, carried: Tensor, at: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the means (B, K, S, H) of rows (B, S, H + 1), and what is carried on and its positions.

        Args:
            rows: the last column is 1 where they count.
            positions: (B, S).
            document: (B, S) ids of packed documents.
            carried: (B, K, H + 1) sums up to the row before.
            at: (B,) its position.
        """
        sums, before = [], None
        for start in range(0, rows.shape[1], CHUNK):
            some, place = rows[:, start : start + CHUNK], positions[:, start : start + CHUNK]
            back = place[:, :, None] - place[:, None]  # (B, C, C)
            order = torch.arange(some.shape[1], device=rows.device)
            seen = (order[:, None] >= order)[None]
            kept = torch.ones_like(place, dtype=torch.bool)
            if document is not None:
                ids = document[:, start : start + CHUNK]
                seen = seen & (ids[:, :, None] == ids[:, None])
                kept = kept if before is None else ids == before[:, None]
                before = ids[:, -1]
            weight = self.power(back) * seen[:, None]  # (B, K, C, C)
            fade = self.power(place - at[:, None]) * kept[:, None]  # (B, K, C)
            total = weight @ some[:, None] + fade[..., None] * carried[:, :, None]
            sums.append(total)
            carried, at = total[:, :, -1], place[:, -1]
        whole = torch.cat(sums, 2)
        return whole[..., :-1] / whole[..., -1:].clamp_min(1e-6), carried, at

    def power(self, distance: Tensor) -> Tensor:
        """Return decay^distance: (B, ...) -> (B, K, ...)."""
        shape = (-1, *[1] * (distance.dim() - 1))
        return (distance.clamp_min(0)[:, None] * self.log_decays.view(shape)).exp()
