"""Cross-entropy of the true text when a frozen decoder reads the concepts that a model predicts."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from data.texts_module import PlacedBatch, SentenceText
from decoders.prefix import PrefixDecoder
from lcm.model import ConceptModel, earlier


class TokenLoss:
    """Nats a token of true next sentences, given the predicted concepts and the true text before (arXiv:2508.05305).

    The decoder reads what generation hands it: the predicted concept as it is, not scaled to the length of real ones.
    A model that is unsure predicts short concepts; the decoder's own scaling shows it that length, and the loss teaches
    the model which length serves the text best.

    It is no Module, so that neither optimiser nor checkpoint sees the decoder; copies of a model share one.

    Args:
        decoder: reads the concepts; it stays as it is.
        texts: places (N, 3) of a batch -> the sentences there.
        num_texts: most targets of a batch whose text is asked for, drawn anew for each; the language model is the cost.
        options: of the model's estimate().
    """

    def __init__(
        self,
        decoder: PrefixDecoder,
        texts: Callable[[Tensor], list[SentenceText]],
        *,
        num_texts: int = 16,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if num_texts < 1:
            raise ValueError(f"num_texts must be at least 1, found {num_texts}")
        # Not in training mode, in which a decoder leaves out context and adds noise of its own.
        self.decoder = decoder.eval().requires_grad_(False)
        self.texts, self.num_texts, self.options = texts, num_texts, dict(options or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenLoss":
        return self

    def __call__(self, model: ConceptModel, batch: PlacedBatch, generator: Generator | None = None) -> Tensor:
        """Return the loss of some targets of a batch, a scalar with gradients to the model; 0 if it has none."""
        predicted = model.estimate(batch, generator, **self.options)
        row, position = draw_targets(batch, self.num_texts, generator).unbind(-1)
        if not len(row):
            return 0 * predicted.sum()
        texts = self.texts(batch.place[row.cpu(), position.cpu()])
        decoder = self.decoder.to(predicted.device)
        sentences, before = [text.text for text in texts], [text.before for text in texts]
        return decoder.loss(predicted[row, position], sentences, before)["loss"]


def draw_targets(batch: PlacedBatch, num: int, generator: Generator | None) -> Tensor:
    """Return row and position (N, 2) of up to `num` targets that have a text and something to be predicted from."""
    placed = (batch.place[..., 0] >= 0).to(batch.target.device)
    found = (batch.target & placed & earlier(batch).any(-1)).nonzero()
    return found[torch.randperm(len(found), generator=generator, device=found.device)[:num]]


def check_options(model: ConceptModel, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that no estimate() of the model has: a setting that is ignored is an error."""
    if unknown := options.keys() - estimate_options(model):
        name = type(model.head).__name__
        raise ValueError(f"the estimate of a {name} has no option {', '.join(sorted(unknown))}; leave it out")


def estimate_options(part: object) -> frozenset[str]:
    """Return the names of the options of estimate(), of a model, of its head, and of the head within that."""
    if not hasattr(part, "estimate"):
        return frozenset()
    parameters = inspect.signature(part.estimate).parameters.values()
    own = frozenset(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
    return own | estimate_options(getattr(part, "head", None))
