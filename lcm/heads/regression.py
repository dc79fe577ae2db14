"""Base-LCM: the next concept by an error of the prediction, squared unless another is given."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Generator, Tensor

from lcm.heads.head import LastContextHead, Regression, last_visible, mean_over

Error = Callable[[Tensor, Tensor], Tensor]  # prediction and x (B, S, D) -> (B, S)


def squared_error(predicted: Tensor, x: Tensor) -> Tensor:
    """Mean squared error over D."""
    return (predicted - x).square().mean(-1)


def huber_error(predicted: Tensor, x: Tensor) -> Tensor:
    """Mean over D of Huber's error with delta 1 (1964): squared near, linear far, so outliers pull less."""
    return F.huber_loss(predicted, x, reduction="none").mean(-1)


def cosine_error(predicted: Tensor, x: Tensor) -> Tensor:
    """One less the cosine with x; the length of the prediction is not learnt."""
    return 1 - F.cosine_similarity(predicted, x, dim=-1)


class RegressionHead(LastContextHead):
    """One linear layer from the last visible context to the next x (arXiv:2412.08821, 2.3.1).

    By squared error it predicts the mean of what may come next, so it wins every table of l2 and writes the
    dullest text.

    Args:
        dim: width D of a concept.
        width: width H of a context.
        error: what training makes small: squared_error(), huber_error() or cosine_error().
    """

    def __init__(self, dim: int, width: int, error: Error = squared_error) -> None:
        super().__init__()
        self.output, self.error = Regression(width, dim), error

    def align(self, weight: Tensor) -> None:
        """Start with a part of what was read, from the input layer's weight (H, D)."""
        self.output.align(weight)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the mean error; a position without a visible context is no target."""
        target = target & visible.any(-1)
        return {"loss": mean_over(self.error(self.sample(context, visible), x), target)}

    def estimate(self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the prediction (B, Q, D)."""
        return self.sample(context, visible)

    def sample(self, memory: Tensor, visible: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Return the prediction (B, Q, D) of the last visible context, of a zero vector where none is visible."""
        return self.output(last_visible(memory, visible))
