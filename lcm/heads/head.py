"""What every head offers to the model."""

from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor


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


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values (B, S) where chosen (B, S) is True; 0 where nothing is."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def last_visible(memory: Tensor, visible: Tensor) -> Tensor:
    """Return the last context (B, Q, H) that each query of visible (B, Q, S) sees in memory (B, S, H), else zeros."""
    last = visible.long().cumsum(-1).argmax(-1)  # (B, Q)
    context = memory.gather(1, last[..., None].expand(-1, -1, memory.shape[-1]))
    return context * visible.any(-1, keepdim=True)
