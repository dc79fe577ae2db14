"""The noise side of the One-Tower: what a noisy concept goes in as, and what is read off the tower."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from lcm.denoiser import Denoiser
from lcm.diffusion import NoiseSchedule, embed_time
from lcm.predictions import ClampedSNR, Prediction

# (x_t (B, Q, D), t (B, Q), visible (B, Q, S), or None for nothing) -> contexts and recent means, both (B, Q, H)
Tower = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


class TimedInput(nn.Module):
    """Embeds a concept with its time: x (..., D), t (...) -> h (..., H). Without t the concept is clean, t = 0.

    The paper concatenates concept and time embedding. A linear map of both is the sum of a map of each, so the one of
    the time is computed once for each grid point and not for each position.

    Args:
        dim: width D of a concept.
        width: model width H.
        num_steps: grid points of the noise schedule.
    """

    def __init__(self, dim: int, width: int, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.concept = nn.Linear(dim, width)
        nn.init.orthogonal_(self.concept.weight)
        nn.init.zeros_(self.concept.bias)
        self.time = nn.Sequential(
            nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width, bias=False)
        )

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return h (..., H), float32."""
        h = self.concept(x).float()
        if t is None:
            return h + self.time(embed_time(x.new_zeros(()), self.num_steps)).float()
        if t.numel() <= self.num_steps:
            return h + self.time(embed_time(t, self.num_steps)).float()
        grid = torch.arange(self.num_steps + 1, device=t.device) / self.num_steps
        return h + self.time(embed_time(grid, self.num_steps)).float()[(t * self.num_steps).round().long()]


class OneTowerHead(Denoiser):
    """The noise side of OneTowerModel. What it remembers of the concepts is the tower that has read them.

    Args:
        dim: width D of a concept.
        width: width H of contexts.
        cond_dropout: probability that a position is trained without context.
        schedule: noise schedule; cosine if not given.
        prediction: what the network predicts; x0 if not given.
        weight: weight of the squared error of x0 at each noise level.
        first_guess: predict x linearly from the recent means too; see OneTowerModel.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        cond_dropout: float = 0.15,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction | None = None,
        weight: ClampedSNR | None = None,
        first_guess: bool = False,
    ) -> None:
        super().__init__(dim, cond_dropout=cond_dropout, schedule=schedule, prediction=prediction, weight=weight)
        self.output = nn.Linear(width, dim)
        if first_guess:
            self.guess_first(width)

    def loss(
        self, context: Any, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted squared error over the targets; `context` is the tower."""
        return self.denoising_loss(x, target, context, visible, generator)

    def remember(self, context: Tensor, memory: None = None) -> None:
        """Return nothing: the keys and values that the backbone keeps are all there is to remember."""

    def denoise(self, x_t: Tensor, t: Tensor, memory: Tower, visible: Tensor) -> Tensor:
        """Predict x0 (B, Q, D), float32, from x_t (B, Q, D) at times t (B, Q), seeing visible (B, Q, S)."""
        return self.read_off(memory(x_t, t, visible), x_t, t)

    def denoise_both(self, x_t: Tensor, t: Tensor, memory: Tower, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Predict x0 (B, Q, D) as denoise() does, and where nothing is visible, which costs no attention.

        A single query is asked twice at once, since its time goes into reading the weights.
        """
        if x_t.shape[1] > 1:
            return self.denoise(x_t, t, memory, visible), self.read_off(memory(x_t, t, None), x_t, t)
        seen = torch.cat((visible, torch.zeros_like(visible)), dim=1)
        conditional, unconditional = self.denoise(x_t.expand(-1, 2, -1), t.expand(-1, 2), memory, seen).split(1, dim=1)
        return conditional, unconditional

    def read_off(self, found: tuple[Tensor, Tensor | None], x_t: Tensor, t: Tensor) -> Tensor:
        """Read x0 (B, Q, D) off what a tower returns for x_t (B, Q, D) at times t (B, Q)."""
        context, recent = found
        guess = None
        if self.regression is not None:
            assert recent is not None, "OneTowerModel refuses a first guess without means"
            guess = self.regression(recent)
        return self.to_x0(self.output(context), x_t, t, guess)
