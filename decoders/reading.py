"""What a decoder is told of sentences, beside text."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from decoders.adapter import ConceptAdapter, add_noise
from decoders.prompt import Hypothesis


@dataclass(frozen=True)
class Reading:
    """Normalised concepts of N sentences, as a decoder reads them.

    Attributes:
        x: (N, D), perhaps noised.
        level: (N,) declared share of the variance of x that is noise, in [0, 1).
        keep: (N,) bool, False = the concept is not read.
        neighbours: (N, M, D) normalised; M may be 0.
        near: (N, M) bool, True = there is such a neighbour.
        hypothesis: (N, D), normalised concepts of hypotheses; None for no hypothesis.
    """

    x: Tensor
    level: Tensor
    keep: Tensor
    neighbours: Tensor
    near: Tensor
    hypothesis: Tensor | None = None

    def noised(self, level: Tensor, generator: Generator | None) -> "Reading":
        """Return the reading with noise of a level (N,) added to concepts and neighbours, and declared.

        Drawn on the CPU, so that every device sees one stream of numbers; of neighbours only where there are any.
        """
        x = add_noise(self.x.cpu(), level.cpu(), generator).to(self.x.device)
        neighbours, num = self.neighbours, self.near.shape[1]
        if num:
            flat = add_noise(neighbours.flatten(0, 1).cpu(), level.cpu().repeat_interleave(num), generator)
            neighbours = flat.view_as(neighbours).to(neighbours.device)
        level = level.to(x.device)
        some = level > 0
        return replace(
            self,
            x=torch.where(some[:, None], x, self.x),
            neighbours=torch.where(some[:, None, None], neighbours, self.neighbours),
            level=self.level + level - self.level * level,
        )


@dataclass(frozen=True)
class SentenceNLL:
    """Negative log likelihood of N sentences: `total` (N,) in nats, over `num_tokens` (N,), the end token included."""

    total: Tensor
    num_tokens: Tensor


def read(
    adapter: ConceptAdapter,
    concepts: Tensor,
    neighbours: Tensor | None,
    near: Tensor | None,
    level: Tensor | None,
    hypothesis: Hypothesis | None,
) -> Reading:
    """Return what is told of N sentences by raw concepts (N, D).

    Args:
        adapter: scales concepts.
        concepts: raw concepts (N, D).
        neighbours: raw concepts (N, M, D) of the sentences around; None for none.
        near: (N, M) bool, True = there is such a neighbour; None for all.
        level: (N,) declared share of noise; None for 0.
        hypothesis: what was written before; None for nothing.

    Raises:
        ValueError: the adapter does not read neighbours, or not so many.
    """
    x, places = adapter.normalize(concepts), (len(concepts), adapter.num_neighbours)
    if neighbours is not None and (tuple(neighbours.shape[:2]) != places or not places[1]):
        raise ValueError(
            f"this decoder reads {places[1]} neighbours of each of {places[0]} concepts, found neighbours of shape "
            f"{tuple(neighbours.shape)}; set before and after of data and decoder alike"
        )
    if near is None or neighbours is None:
        near = torch.full(places, neighbours is not None)
    return Reading(
        x=x,
        level=x.new_zeros(len(x)) if level is None else level.to(x),
        keep=torch.ones(len(x), dtype=torch.bool, device=x.device),
        neighbours=x.new_zeros(*places, x.shape[1]) if neighbours is None else adapter.normalize(neighbours.to(x)),
        near=near.to(x.device),
        hypothesis=None if hypothesis is None else adapter.normalize(hypothesis.concepts.to(x)),
    )


def soft_tokens(adapter: ConceptAdapter, reading: Reading, embedding: Tensor) -> Tensor:
    """Return the soft tokens (N, places, width) of each row: of neighbours, of a hypothesis, of the concept.

    Args:
        adapter: makes them.
        reading: what is told of N sentences.
        embedding: token embeddings of the language model (V, width); guessed words are looked up in it.
    """
    soft = adapter(reading.x, reading.level, embedding, reading.hypothesis)
    parts = [torch.where(reading.keep[:, None, None], soft, adapter.resize(adapter.missing))]
    if reading.hypothesis is not None:
        parts.insert(0, adapter.read_hypothesis(reading.hypothesis, embedding))
    if adapter.num_neighbours:
        parts.insert(0, adapter.read_neighbours(reading.neighbours, reading.near))
    return torch.cat(parts, 1)


@torch.no_grad()
def running_level(mean: Tensor, level: Tensor) -> Tensor:
    """Return the mean level of about the last thousand predicted concepts, those of a level (N,) above 0, with a batch.

    Args:
        mean: scalar, the mean before; 0 before the first.
        level: (N,) of the batch.
    """
    predicted = level > 0
    num = predicted.sum()
    share = torch.where(mean > 0, num / (num + 1000), (num > 0).to(mean))
    return mean.lerp((level * predicted).sum().to(mean) / num.clamp_min(1), share)
