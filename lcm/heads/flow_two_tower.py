"""Flow matching by the two-tower's network: the velocity looks at all contexts through cross-attention."""

import torch
from torch import Generator, Tensor

from lcm.diffusion import NoiseSchedule, grid_times, steps_of
from lcm.heads.flow import Flow, Velocity
from lcm.heads.two_tower import TowerMemory, TwoTowerHead
from lcm.predictions import Prediction


class StraightLine(NoiseSchedule):
    """The line from data to noise, x_t = (1 - t) x + t noise: alpha = 1 - t, sigma = t; their squares sum to less.

    Args:
        num_steps: grid points T; a time is rounded to the nearest i / T.
    """

    def __init__(self, num_steps: int = 100) -> None:
        t = grid_times(num_steps)
        super().__init__(steps_of((1 - t) ** 2))
        self.alpha, self.sigma = (1 - t).float(), t.float()


class VelocityPrediction(Prediction):
    """The network predicts noise - x0, the velocity along a straight line (arXiv:2209.03003)."""

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return x_t - sigma (noise - x0)."""
        return x_t - sigma * output

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return 1 / sigma^2."""
        return 1 / sigma**2


class FlowTwoTowerHead(Flow):
    """Rectified flow from noise to the next x (arXiv:2209.03003), its velocity by the network of TwoTowerHead.

    It is the flow of FlowHead and the denoiser of the two-tower: cross-attention to every context before a position,
    scaled, shifted and gated by the time. That head, given the straight line as its schedule, has the same loss.

    Args:
        dim: width D of a concept.
        width: width H of contexts and network.
        num_layers: layers of the network.
        num_heads: attention heads a layer.
        dropout: probability of dropping an element of a branch while training.
        cond_dropout: probability that a position is trained without context; without it there is no guidance.
        num_times: the network tells times apart to this fraction; training draws i / num_times, uniformly.
        first_guess: predict x linearly from the last context too, and let the network, which is told of that context,
            learn the difference between the true velocity and the one that this prediction implies.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        cond_dropout: float = 0.15,
        num_times: int = 100,
        first_guess: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.cond_dropout, self.num_times = dim, cond_dropout, num_times
        self.tower = TwoTowerHead(
            dim,
            width,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout=dropout,
            cond_dropout=cond_dropout,
            schedule=StraightLine(num_times),
            prediction=VelocityPrediction(),
            first_guess=first_guess,
        )

    def align(self, weight: Tensor) -> None:
        """Let the first guess, if there is one, be a part of what was read, from the input layer's weight (H, D)."""
        self.tower.align(weight)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the squared error of the velocity, mean over D; also at low, middle and high noise."""
        return self.tower.loss(context, x, target, visible, generator)

    def remember(self, context: Tensor, memory: TowerMemory | None = None) -> TowerMemory:
        """Append the keys and values of contexts (B, S, H)."""
        return self.tower.remember(context, memory)

    def velocity(self, x_t: Tensor, t: Tensor, memory: TowerMemory, visible: Tensor) -> Tensor:
        """Predict noise - x (B, Q, D), float32, from x_t (B, Q, D) at times t (B, Q), seeing visible (B, Q, S)."""
        t = (t * self.num_times).round().clamp_min(1) / self.num_times
        return (x_t - self.tower.denoise(x_t, t, memory, visible)) / t[..., None]

    def velocities(self, memory: TowerMemory, visible: Tensor) -> tuple[Velocity, Velocity]:
        """Return the velocity for queries that see visible (B, Q, S), and that for such as see nothing."""
        unseen = torch.zeros_like(visible)
        return (
            lambda x_t, t: self.velocity(x_t, t, memory, visible),
            lambda x_t, t: self.velocity(x_t, t, memory, unseen),
        )
