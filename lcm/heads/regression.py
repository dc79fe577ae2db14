"""Base-LCM: the next concept by mean squared error."""

from torch import Generator, Tensor, nn

from lcm.heads.head import LastContextHead, last_visible, mean_over


class RegressionHead(LastContextHead):
    """One linear layer from the last visible context to the next x, trained by squared error (arXiv:2412.08821, 2.3.1).

    It predicts the mean of what may come next, so it wins every table of l2 and writes the dullest text.

    Args:
        dim: width D of a concept.
        width: width H of a context.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, dim)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the mean squared error over D; a position without a visible context is no target."""
        target = target & visible.any(-1)
        error = (self.sample(context, visible) - x).square().mean(-1)  # (B, S)
        return {"loss": mean_over(error, target)}

    def sample(self, memory: Tensor, visible: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Return the prediction (B, Q, D) of the last visible context, of a zero vector where none is visible."""
        return self.output(last_visible(memory, visible)).float()
