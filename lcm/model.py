"""The concept model: normaliser, causal backbone and head, raw concepts in and out."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer, KeyValueCache
from lcm.heads.head import FittedHead, Head
from lcm.normalizer import Normalizer


@dataclass(frozen=True)
class ReadState:
    """What a model keeps of the concepts that it has read: nothing of them is computed again.

    Attributes:
        cache: keys and values of the backbone.
        memory: what the head keeps of the contexts.
        mask: (B, S), True = a real sentence.
    """

    cache: KeyValueCache
    memory: Any
    mask: Tensor


class ConceptModel(nn.Module):
    """Predicts the next concept of a document from all before it.

    Args:
        dim: width D of a concept.
        backbone: causal transformer of width H.
        head: turns a context into the next concept.
        num_levels: kinds of rows (sentence, scene, chapter, part, book); each adds a learnt vector to its concept.
        context_noise: in training each concept that is read is noised, up to this share of its variance. It keeps a
            small corpus from being learnt by heart, and prepares for reading what the model itself has written.
    """

    def __init__(
        self,
        dim: int,
        backbone: CausalTransformer,
        head: nn.Module,
        num_levels: int = 5,
        context_noise: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= context_noise < 1:
            raise ValueError(f"context_noise must be in [0, 1), found {context_noise}")
        self.dim, self.context_noise = dim, context_noise
        self.normalizer = Normalizer(dim)
        self.input = nn.Linear(dim, backbone.width)
        self.level = nn.Embedding(num_levels, backbone.width)
        nn.init.zeros_(self.level.weight)
        self.backbone = backbone
        self.head: Head = head  # type: ignore[assignment]  # a Module that keeps the Head protocol

    def fit(self, concepts: Tensor) -> None:
        """Set what is measured, not learnt, from raw concepts (N, D): the normaliser, and what the head measures."""
        self.normalizer.fit(concepts)
        if isinstance(self.head, FittedHead):
            self.head.fit(self.normalizer(concepts))

    def contexts(
        self,
        x: Tensor,
        level: Tensor | None = None,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        """Contexts (B, S, H) of normalised x (B, S, D), and the backbone's cache."""
        h = self.input(x).float()  # the residual stream stays in float32 under autocast
        if level is not None:
            h = h + self.level(level)
        return self.backbone(h, mask, document, cache)

    def loss(self, batch: ConceptBatch, generator: Generator | None = None) -> dict[str, Tensor]:
        """Scalars, "loss" among them: how well each sentence is predicted from those before it in its document.

        Rows of a level above 0 (headings, plan points) are read but not predicted: an author gives them.
        """
        x = read = self.normalizer(batch.concepts)
        if self.training and self.context_noise:
            share = self.context_noise * torch.rand(*x.shape[:2], 1, generator=generator, device=x.device)
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            read = (1 - share).sqrt() * x + share.sqrt() * noise
        context, _ = self.contexts(read, batch.level, None, batch.document)
        return self.head.loss(context, x, batch.target, earlier(batch), generator)

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
        # A mask of ones is no mask: the backbone then takes the kernel that training takes.
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


def earlier(batch: ConceptBatch) -> Tensor:
    """Which contexts a position may be predicted from: those before it in its document, bool (B, S, S)."""
    num = batch.concepts.shape[1]
    before = torch.ones(num, num, dtype=torch.bool, device=batch.concepts.device).tril(-1)
    visible = before & batch.mask[:, None]
    if batch.document is not None:
        visible = visible & (batch.document[:, :, None] == batch.document[:, None])
    return visible
