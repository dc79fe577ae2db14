"""The concept model: normaliser, causal backbone and head, raw concepts in and out."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from data.batch import ConceptBatch
from lcm.backbone import Backbone
from lcm.heads.head import AlignedHead, FittedHead, Head, differentiable
from lcm.normalizer import FittedNormalizer, Normalizer
from lcm.stopping import Stopping


@dataclass(frozen=True)
class ReadState:
    """What a model keeps of the concepts that it has read: nothing of them is computed again.

    Attributes:
        cache: what the backbone keeps: keys and values, or a state.
        memory: what the head keeps of the contexts.
        mask: (B, S), True = a real sentence.
    """

    cache: Any
    memory: Any
    mask: Tensor


class ConceptModel(nn.Module):
    """Predicts the next concept of a document from all before it.

    Args:
        dim: width D of a concept.
        backbone: causal stack of width H.
        head: turns a context into the next concept.
        num_levels: kinds of rows (sentence, scene, chapter, part, book); each adds a learnt vector to its concept.
        context_noise: in training each concept that is read is noised, up to this share of its variance. It keeps a
            small corpus from being learnt by heart, and prepares for reading what the model itself has written.
        normalizer: between raw concepts and x; the robust one if not given.
    """

    def __init__(
        self,
        dim: int,
        backbone: Backbone,
        head: nn.Module,
        num_levels: int = 5,
        context_noise: float = 0.0,
        normalizer: FittedNormalizer | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= context_noise < 1:
            raise ValueError(f"context_noise must be in [0, 1), found {context_noise}")
        self.dim, self.context_noise = dim, context_noise
        self.normalizer = Normalizer(dim) if normalizer is None else normalizer
        if self.normalizer.dim != dim:
            raise ValueError(f"the normaliser is for concepts of width {self.normalizer.dim}, the model for {dim}")
        self.stopping = Stopping(dim)
        self.input: nn.Module = (reading := nn.Linear(dim, backbone.width))
        nn.init.orthogonal_(reading.weight)
        nn.init.zeros_(reading.bias)
        self.level = nn.Embedding(num_levels, backbone.width)
        nn.init.zeros_(self.level.weight)
        self.backbone = backbone
        self.head: Head = head  # type: ignore[assignment]  # a Module that keeps the Head protocol
        if isinstance(head, AlignedHead):
            head.align(reading.weight)

    def fit(self, concepts: Tensor, end_of_text: Tensor | None = None) -> None:
        """Set what is measured, not learnt: the normaliser, what the head measures, and what stops a text.

        Args:
            concepts: raw (N, D), of whole documents in order.
            end_of_text: raw concept (D,) that ends documents in training; none if they just end.
        """
        self.normalizer.fit(concepts)
        self.stopping.fit(concepts, end_of_text)
        if isinstance(self.head, FittedHead):
            self.head.fit(self.normalizer(concepts))

    def contexts(
        self,
        x: Tensor,
        level: Tensor | None = None,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        cache: Any = None,
    ) -> tuple[Tensor, Any]:
        """Contexts (B, S, H) of normalised x (B, S, D), and the backbone's cache."""
        h = self.input(x).float()  # the residual stream stays in float32 under autocast
        h = h + (self.level.weight[0] if level is None else self.level(level))
        return self.backbone(h, mask, document, cache)

    def loss(
        self, batch: ConceptBatch, generator: Generator | None = None, *, read: ConceptBatch | None = None
    ) -> dict[str, Tensor]:
        """Scalars, "loss" among them: how well each sentence is predicted from those before it in its document.

        Rows of a level above 0 (headings, plan points) are read but not predicted: an author gives them.

        Args:
            batch: what is to be predicted.
            generator: source of randomness.
            read: rows of the same shape that are read in place of the batch's own: what the targets are worth under
                another document's context.
        """
        x = self.normalizer(batch.concepts)
        context, _ = self.contexts_in_training(x, batch, generator, read)
        return self.head.loss(context, x, batch.target, earlier(batch, read), generator)

    def contexts_in_training(
        self, x: Tensor, batch: ConceptBatch, generator: Generator | None, read: ConceptBatch | None
    ) -> tuple[Tensor, Any]:
        """Contexts and cache of a batch, whose normalised concepts are x, or of the rows that are read in its place."""
        x, level = (x, batch.level) if read is None else (self.normalizer(read.concepts), read.level)
        if self.training and self.context_noise:
            share = self.context_noise * torch.rand(*x.shape[:2], 1, generator=generator, device=x.device)
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            x = (1 - share).sqrt() * x + share.sqrt() * noise
        return self.contexts(x, level, None, batch.document)

    def sampling_options(self) -> frozenset[str]:
        """Return the names of the options that predict() and predict_next() pass on."""
        return sampling_options(self.head)

    def estimate(self, batch: ConceptBatch, generator: Generator | None = None, **options: Any) -> Tensor:
        """Teacher-forced predictions with gradients, raw (B, S, D), which a loss of their text may teach.

        Args:
            batch: position s is predicted from what is before s.
            generator: source of randomness.
            **options: options of the head's estimate().

        Raises:
            ValueError: the head gives no concept with gradients.
        """
        head, x = differentiable(self.head), self.normalizer(batch.concepts)
        context, _ = self.contexts_in_training(x, batch, generator, None)
        return self.normalizer.inverse(head.estimate(context, x, earlier(batch), generator, **options))

    @torch.no_grad()
    def predict(self, batch: ConceptBatch, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Teacher-forced predictions, raw (B, S, D): position s is predicted from the true concepts before s."""
        context, _ = self.contexts(self.normalizer(batch.concepts), batch.level, None, batch.document)
        x = self.head.sample(self.head.remember(context), earlier(batch), generator=generator, **sampling)
        return self.normalizer.inverse(x)

    @torch.no_grad()
    def read(
        self,
        concepts: Tensor,
        mask: Tensor | None = None,
        *,
        level: Tensor | None = None,
        state: ReadState | None = None,
    ) -> ReadState:
        """Read raw concepts (B, S, D) behind those of `state`; mask (B, S), True = a real sentence."""
        mask = torch.ones(concepts.shape[:2], dtype=torch.bool, device=concepts.device) if mask is None else mask
        seen = mask if state is None else torch.cat((state.mask, mask), dim=1)
        cache, memory = (None, None) if state is None else (state.cache, state.memory)
        # A mask of ones is no mask: the backbone then takes the causal kernel.
        context, cache = self.contexts(self.normalizer(concepts), level, None if seen.all() else seen, None, cache)
        return ReadState(cache, self.head.remember(context, memory), seen)

    @torch.no_grad()
    def predict_from(self, state: ReadState, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Return the next raw concept (B, D) after what has been read."""
        x = self.head.sample(state.memory, state.mask[:, None], generator=generator, **sampling)
        return self.normalizer.inverse(x[:, 0])

    def predict_next(
        self,
        prefix: Tensor,
        mask: Tensor | None = None,
        *,
        level: Tensor | None = None,
        generator: Generator | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Return the next raw concept (B, D) after a raw prefix (B, S, D).

        Args:
            prefix: raw concepts.
            mask: (B, S), True = a real sentence; padding may stand anywhere.
            level: (B, S) level of each row.
            generator: source of randomness; the same seed gives the same concept.
            **sampling: options of the head's sample().
        """
        return self.predict_from(self.read(prefix, mask, level=level), generator=generator, **sampling)


def earlier(batch: ConceptBatch, read: ConceptBatch | None = None) -> Tensor:
    """Which contexts a position may be predicted from: those before it in its document, bool (B, S, S).

    Where other rows are read in place of the batch's, none of their padding may be seen.
    """
    num = batch.concepts.shape[1]
    before = torch.ones(num, num, dtype=torch.bool, device=batch.concepts.device).tril(-1)
    visible = before & (batch.mask if read is None else batch.mask & read.mask)[:, None]
    if batch.document is not None:
        visible = visible & (batch.document[:, :, None] == batch.document[:, None])
    return visible


def sampling_options(head: Head) -> frozenset[str]:
    """Return the names of the options of a head's sample(); a head around another one has those of the inner."""
    parameters = inspect.signature(head.sample).parameters.values()
    own = frozenset(each.name for each in parameters if each.kind is each.KEYWORD_ONLY) - {"generator"}
    inner = getattr(head, "head", None)
    return own if inner is None else own | sampling_options(inner)
