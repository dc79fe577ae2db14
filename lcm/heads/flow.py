"""Flow matching: a velocity that carries noise to the next concept along nearly straight lines."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from lcm.diffusion import embed_time
from lcm.heads.head import (
    GuessingHead,
    LastContextHead,
    Regression,
    by_noise,
    check_cond_dropout,
    check_guidance,
    drop_contexts,
    last_visible,
    mean_over,
)
from lcm.heads.mlp import ResidualMLP

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x_t (..., D), t (...)) -> d x_t / d t (..., D)
Solver = Callable[[Velocity, Tensor, Iterable[Tensor]], Tensor]  # (velocity, x, times) -> x

TIME_STEPS = 1000  # the time embedding tells t apart to this fraction


def euler(velocity: Velocity, x: Tensor, times: Iterable[Tensor]) -> Tensor:
    """Carry x (..., D) along falling times; one call of the velocity a step, error of order 1 in the step."""
    for t, s in pairwise(times):
        x = x + (s - t) * velocity(x, t.expand(x.shape[:-1]))
    return x


def midpoint(velocity: Velocity, x: Tensor, times: Iterable[Tensor]) -> Tensor:
    """Carry x (..., D) along falling times; two calls of the velocity a step, error of order 2 in the step."""
    for t, s in pairwise(times):
        half = x + (s - t) / 2 * velocity(x, t.expand(x.shape[:-1]))
        x = x + (s - t) * velocity(half, ((s + t) / 2).expand(x.shape[:-1]))
    return x


def mean_velocity(x_t: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    """E[noise - x | (1 - t) x + t noise = x_t] for x of variance 1 about a mean; x_t, mean (..., D), t (..., 1)."""
    return ((2 * t - 1) * x_t - t * mean) / ((1 - t) ** 2 + t**2)


def guided(velocity: Velocity, free: Velocity, scale: float) -> Velocity:
    """Push a velocity away from that without a context (classifier-free guidance, arXiv:2207.12598); 1 does not."""
    if scale == 1:
        return velocity
    return lambda x_t, t: torch.lerp(free(x_t, t), velocity(x_t, t), scale)


def flow(velocity: Velocity, noise: Tensor, *, num_steps: int, solver: Solver, temperature: float) -> Tensor:
    """Carry Gaussian noise (..., D), of deviation `temperature`, to data in even steps."""
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, found {num_steps}")
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, found {temperature}")
    return solver(velocity, temperature * noise, torch.linspace(1, 0, num_steps + 1, device=noise.device))


class Flow(nn.Module):
    """What every flow head does alike; a subclass brings remember() and velocities()."""

    dim: int
    cond_dropout: float

    def remember(self, context: Tensor, memory: Any = None) -> Any:
        """Append contexts (B, S, H) to what velocities() needs."""
        raise NotImplementedError

    def velocities(self, memory: Any, visible: Tensor) -> tuple[Velocity, Velocity]:
        """Return the velocity for queries that see visible (B, Q, S), and that for such as see nothing."""
        raise NotImplementedError

    def estimate(
        self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None, *, num_steps: int = 1
    ) -> Tensor:
        """Return x (B, Q, D) after steps of Euler from pure noise; the first, alone, gives about the mean of x."""
        return self.sample(self.remember(context), visible, generator=generator, num_steps=num_steps, solver=euler)

    def sample(
        self,
        memory: Any,
        visible: Tensor,
        *,
        generator: Generator | None = None,
        num_steps: int = 10,
        solver: Solver = midpoint,
        guidance_scale: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw one next x (B, Q, D) for each query.

        Args:
            memory: what remember() returned.
            visible: bool (B, Q, S), True = query q sees context s.
            generator: source of the initial noise.
            num_steps: steps from noise to data. A step of Euler calls the network once, one of the midpoint method
                twice, so its 10 steps, CALM's number, cost 20 calls. Guidance doubles that.
            solver: euler or midpoint.
            guidance_scale: 1 is no guidance; larger follows the context more closely.
            temperature: deviation of the initial noise. 1 draws from what was learnt; where that is Gaussian and the
                velocity exact, T draws with T times its deviation. 0 starts at zero, which training hardly shows:
                always the same concept, the mean of a Gaussian, and among several modes perhaps one between them.
        """
        check_guidance(guidance_scale, self.cond_dropout)
        velocity = guided(*self.velocities(memory, visible), guidance_scale)
        noise = torch.randn((*visible.shape[:2], self.dim), generator=generator, device=visible.device)
        return flow(velocity, noise, num_steps=num_steps, solver=solver, temperature=temperature)


class FlowHead(LastContextHead, GuessingHead, Flow):
    """Rectified flow from noise to the next x, conditioned on the last visible context (arXiv:2209.03003).

    On the line x_t = (1 - t) x + t noise the network learns the velocity noise - x; an MLP under the context and the
    time, as CALM's flow head (arXiv:2510.27688) and MAR's diffusion head (arXiv:2406.11838). Here t is 0 at the data,
    in CALM's code it is 1 there. A position without a visible context learns the unconditional velocity.

    Args:
        dim: width D of a concept.
        width: width H of contexts and network.
        num_layers: residual layers.
        cond_dropout: probability that a position is trained without context; without it there is no guidance.
        num_draws: times and noises drawn for each target; they share the backbone's work. MAR draws 4.
        time_deviation: train at t = sigmoid(time_deviation * normal), logit-normal as in arXiv:2403.03206, section
            3.1, which likes the middle; none is uniform. Held-out losses are always at uniform times.
        first_guess: predict x linearly from the context too, and let the network learn the difference between the true
            velocity and the one that this prediction implies.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        num_layers: int = 3,
        cond_dropout: float = 0.15,
        num_draws: int = 4,
        time_deviation: float | None = None,
        first_guess: bool = False,
    ) -> None:
        super().__init__()
        check_cond_dropout(cond_dropout)
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1, found {num_draws}")
        if time_deviation is not None and time_deviation <= 0:
            raise ValueError(f"time_deviation must be above 0, found {time_deviation}; none draws times uniformly")
        self.dim, self.cond_dropout, self.num_draws = dim, cond_dropout, num_draws
        self.time_deviation = time_deviation
        self.context = nn.Linear(width, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.network = ResidualMLP(dim, width, dim, num_layers)
        if first_guess:
            self.regression = Regression(width, dim)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the squared error of the velocity, mean over D; also at low, middle and high noise."""
        visible = drop_contexts(visible, self.cond_dropout if self.training else 0.0, generator)
        t = self.draw_times((*x.shape[:2], self.num_draws), x, generator)  # (B, S, draws)
        noise = torch.randn((*t.shape, self.dim), generator=generator, device=x.device)
        x_t = torch.lerp(x[:, :, None], noise, t[..., None])
        last = last_visible(context, visible)[:, :, None]  # (B, S, 1, H)
        error = (self.velocity(x_t, t, *self.steer(last)) - (noise - x[:, :, None])).square().mean(-1)  # (B, S, draws)
        target = target[..., None].expand_as(error)
        return {"loss": mean_over(error, target), **by_noise(error, target, t)}

    def draw_times(self, shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
        """Return random times of a shape on the device of `like`; uniform unless training is to be logit-normal."""
        if self.training and self.time_deviation is not None:
            return (self.time_deviation * torch.randn(shape, generator=generator, device=like.device)).sigmoid()
        return torch.rand(shape, generator=generator, device=like.device)

    def steer(self, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what a context (..., H) gives to all times: the condition (..., H) and the first guess (..., D)."""
        return self.context(context), None if self.regression is None else self.regression(context)

    def velocity(self, x_t: Tensor, t: Tensor, condition: Tensor, guess: Tensor | None) -> Tensor:
        """Predict noise - x (..., D), float32, from x_t (..., D) at t (...) under condition (..., H)."""
        missing = self.network(x_t, condition + self.time(embed_time(t, TIME_STEPS)))
        return missing if guess is None else mean_velocity(x_t, guess, t[..., None]) + missing

    def velocities(self, memory: Tensor, visible: Tensor) -> tuple[Velocity, Velocity]:
        """Return the velocity under the last context that each query sees, and that under none."""
        context = last_visible(memory, visible)
        seen, unseen = self.steer(context), self.steer(context.new_zeros(context.shape[-1]))
        return lambda x_t, t: self.velocity(x_t, t, *seen), lambda x_t, t: self.velocity(x_t, t, *unseen)
