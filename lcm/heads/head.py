"""What every head offers to the model."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn


class Head(Protocol):
    """Turns contexts into next concepts, all in normalised space.

    `visible` says which contexts a prediction may use: bool (B, Q, S), True = query q sees context s. The model makes
    it, so that one head serves training (each position sees those before it), teacher-forced evaluation and generation.
    """

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return scalars, "loss" among them, over the positions of x (B, S, D) where target (B, S) is True."""

    def remember(self, context: Tensor, memory: Any | None = None) -> Any:
        """Append contexts (B, S, H) to what sample() needs of those before; nothing is computed twice."""

    def sample(self, memory: Any, visible: Tensor, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Return one next x (B, Q, D) for each query of visible (B, Q, S)."""


@runtime_checkable
class FittedHead(Protocol):
    """A head that measures data before the first step."""

    def fit(self, x: Tensor) -> None:
        """Measure normalised x (N, D)."""


@runtime_checkable
class AlignedHead(Protocol):
    """A head that can start as the inverse of the model's input layer, so that a new model repeats what it reads."""

    def align(self, weight: Tensor) -> None:
        """Start from the input layer's weight (H, D), whose rows or columns are orthonormal."""


@runtime_checkable
class DifferentiableHead(Protocol):
    """A head that gives a concept with gradients, so that a loss of its text may teach it.

    Options of an estimate are further keyword arguments.
    """

    def estimate(self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None) -> Tensor:
        """Return one next x (B, Q, D) for each query of visible (B, Q, S), with gradients to contexts (B, S, H).

        The true x (B, Q, D) is there for heads whose estimate starts from it; none of those here looks at it.
        """


def differentiable(head: object) -> DifferentiableHead:
    """Return the head itself; raise ValueError if it gives no concept with gradients."""
    if not isinstance(head, DifferentiableHead):
        raise ValueError(f"a {type(head).__name__} gives no concept with gradients; train it without token loss")
    return head


class LastContextHead(nn.Module):
    """A head that takes the last context that a query sees, and so remembers contexts as they are."""

    def remember(self, context: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return all contexts so far, (B, S, H)."""
        return context if memory is None else torch.cat((memory, context), dim=1)


@torch.no_grad()
def start_as(layer: nn.Linear, weight: Tensor) -> None:
    """Set a layer to a weight, without bias; a head made for another width is told of later, with its checkpoint."""
    if layer.weight.shape == weight.shape:
        layer.weight.copy_(weight)
        layer.bias.zero_()


# Of what was read, before training: the mean of what comes next is nearer to the centre than a concept. Not tuned; in
# three corpora the next concept has a slope of 0.14 to 0.26 on means of recent ones.
SHRUNK = 0.3


class Regression(nn.Linear):
    """The next x (..., D), float32, from contexts (..., H); before training a part of what was read.

    Args:
        width: width H of a context.
        dim: width D of a concept.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(width, dim)

    def align(self, weight: Tensor) -> None:
        """Start with a part of what was read, from the input layer's weight (H, D)."""
        start_as(self, SHRUNK * weight.T)

    def forward(self, context: Tensor) -> Tensor:
        """Contexts (..., H) -> x (..., D), float32."""
        return super().forward(context).float()


class GuessingHead(nn.Module):
    """A head that may have a first guess: a regression that is learnt with it, and whose network learns the rest.

    A new head then begins with a part of what was read and not with nothing, which is most of what a short training
    gains by it: in a hundred steps the regression itself hardly moves (experiments/2026-11-bake-off). A run that began
    without a first guess cannot be resumed with one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.regression: Regression | None = None

    def align(self, weight: Tensor) -> None:
        """Let the first guess, if there is one, be a part of what was read, from the input layer's weight (H, D)."""
        if self.regression is not None:
            self.regression.align(weight)


def check_cond_dropout(cond_dropout: float) -> None:
    """Refuse what is no probability of training a position without context."""
    if not 0 <= cond_dropout < 1:
        raise ValueError(f"cond_dropout must be in [0, 1), found {cond_dropout}")


def check_guidance(scale: float, cond_dropout: float) -> None:
    """Refuse guidance of a head that was never trained without context."""
    if scale != 1 and not cond_dropout:
        raise ValueError(
            f"guidance of {scale} needs a model trained with cond_dropout, found 0; take a guidance_scale of 1"
        )


def drop_contexts(visible: Tensor, probability: float, generator: Generator | None) -> Tensor:
    """Hide all contexts from some queries of visible (B, Q, S), so that the head learns to do without."""
    if not probability:
        return visible
    kept = torch.rand(visible.shape[:2], generator=generator, device=visible.device) >= probability
    return visible & kept[..., None]


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values (B, S) where chosen (B, S) is True; 0 where nothing is."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def by_noise(error: Tensor, target: Tensor, t: Tensor) -> dict[str, Tensor]:
    """Return the mean of error (...) over targets at low, middle and high noise t (...), as losses to log."""
    thirds = {"low": t <= 1 / 3, "middle": (t > 1 / 3) & (t <= 2 / 3), "high": t > 2 / 3}
    return {f"loss_{name}_noise": mean_over(error.detach(), target & third) for name, third in thirds.items()}


def last_visible(memory: Tensor, visible: Tensor) -> Tensor:
    """Return the last context (B, Q, H) that each query of visible (B, Q, S) sees in memory (B, S, H), else zeros."""
    last = visible.long().cumsum(-1).argmax(-1)  # (B, Q)
    context = memory.gather(1, last[..., None].expand(-1, -1, memory.shape[-1]))
    return context * visible.any(-1, keepdim=True)
