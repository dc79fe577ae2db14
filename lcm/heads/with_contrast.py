"""Any head, and a contrastive loss beside its own."""

from typing import Any

from torch import Generator, Tensor, nn

from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.head import AlignedHead, FittedHead, Head, differentiable


class WithContrast(nn.Module):
    """A head whose contexts also have to tell the next concept from others: loss = head's + weight * InfoNCE.

    A head can lower its own loss a long way without its context; the contrastive loss it cannot (arXiv:2505.22202 adds
    one for that reason). Concepts are the head's alone: the query is used in training and nowhere else.

    Args:
        head: any head of this dim and width.
        dim: width D of a concept.
        width: width H of a context.
        weight: of the contrastive loss; it is in nats, so it has the weight of no unit of the head's.
        window: neighbours in a document up to this distance are no rivals.
        num_negatives: most positions of other rows that a target is compared with.
        num_banked: training concepts that a target is compared with as well.
    """

    def __init__(
        self,
        head: nn.Module,
        dim: int,
        width: int,
        *,
        weight: float = 0.1,
        window: int = 1,
        num_negatives: int = 1024,
        num_banked: int = 0,
    ) -> None:
        super().__init__()
        check_contrast_weight(weight)
        self.head: Head = head  # type: ignore[assignment]  # a Module that keeps the Head protocol
        self.contrast = ContrastiveHead(dim, width, window=window, num_negatives=num_negatives, num_banked=num_banked)
        self.weight = weight

    def align(self, weight: Tensor) -> None:
        """Let the query, and the head if it can, start from the input layer's weight (H, D)."""
        self.contrast.align(weight)
        if isinstance(self.head, AlignedHead):
            self.head.align(weight)

    def fit(self, x: Tensor) -> None:
        """Let both measure normalised x (N, D)."""
        self.contrast.fit(x)
        if isinstance(self.head, FittedHead):
            self.head.fit(x)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the sum as "loss", the head's own as "head_loss" beside its other parts, and the contrastive ones."""
        own = self.head.loss(context, x, target, visible, generator)
        return with_contrast(own, self.contrast.loss(context, x, target, visible, generator), self.weight)

    def estimate(
        self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None, **options: Any
    ) -> Tensor:
        """Return the head's estimate (B, Q, D), with options of its own."""
        return differentiable(self.head).estimate(context, x, visible, generator, **options)

    def remember(self, context: Tensor, memory: Any | None = None) -> Any:
        """Return what the head remembers."""
        return self.head.remember(context, memory)

    def sample(self, memory: Any, visible: Tensor, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Return the head's next x (B, Q, D)."""
        return self.head.sample(memory, visible, generator=generator, **sampling)


def check_contrast_weight(weight: float) -> None:
    """Refuse what would leave the contrast out."""
    if weight <= 0:
        raise ValueError(f"the weight of a contrast must be above 0, found {weight}; or leave the contrast out")


def with_contrast(own: dict[str, Tensor], contrast: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Return the sum as "loss", one's own as "head_loss" beside its other parts, and the contrastive ones."""
    return {
        **own,
        "head_loss": own["loss"].detach(),
        **{f"contrastive_{name}": value.detach() for name, value in contrast.items()},
        "loss": own["loss"] + weight * contrast["loss"],
    }
