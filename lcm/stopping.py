"""When a text is over: the end of text is predicted, or a concept comes again; thresholds are measured on real text."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm.metrics import SAME

# Shares of training sentences that may reach a threshold. Held-out books repeat themselves more often than training
# books do: at 2e-4, 0.05 to 0.5 of 1,000 pairs of different sentences in six corpora under MiniLM; at 1e-3, 0.5 to 1.8.
FALSE_ENDS = 1e-3
FALSE_REPEATS = 2e-4
_CHUNK = 8192  # concepts that are compared at a time


@dataclass(frozen=True, eq=False)
class StopRule:
    """What stops a text, checked on raw concepts. Meta's thresholds, .9 and .9, are SONAR's: see calibrate().

    Args:
        end: raw concept (D,) of "End of text."; none, and no concept ends a text.
        end_cosine: a concept with this cosine with `end`, or more, ends the text.
        repeat_cosine: a concept with this cosine with the one before it, or more, ends the text; none lets it repeat.
        min_concepts: that come first, whatever they are.
    """

    end: Tensor | None = None
    end_cosine: float = 0.9
    repeat_cosine: float | None = None
    min_concepts: int = 1

    def __post_init__(self) -> None:
        if self.end is None and self.repeat_cosine is None:
            raise ValueError("a stop rule without end and without repeat_cosine never stops; give one of them")
        for cosine in (self.end_cosine, self.repeat_cosine):
            if cosine is not None and not -1 < cosine <= 1:
                raise ValueError(f"the cosine that stops must be above -1 and at most 1, found {cosine}")
        if self.min_concepts < 0:
            raise ValueError(f"min_concepts must be at least 0, found {self.min_concepts}")

    def ends(self, concept: Tensor) -> Tensor:
        """Return whether concepts (..., D) are the end of text, bool (...)."""
        if self.end is None:
            return torch.zeros(concept.shape[:-1], dtype=torch.bool, device=concept.device)
        return F.cosine_similarity(concept, self.end.to(concept), dim=-1) >= self.end_cosine

    def repeats(self, concept: Tensor, before: Tensor) -> Tensor:
        """Return whether concepts (..., D) repeat those before them (..., D), bool (...)."""
        if self.repeat_cosine is None:
            return torch.zeros(concept.shape[:-1], dtype=torch.bool, device=concept.device)
        return F.cosine_similarity(concept, before, dim=-1) >= self.repeat_cosine


class Stopping(nn.Module):
    """What a model knows of the end of a text: the concept, and thresholds for its encoder; fitted before training.

    Args:
        dim: width D of a concept.
    """

    end_of_text: Tensor
    has_end: Tensor
    end_cosine: Tensor
    repeat_cosine: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("end_of_text", torch.zeros(dim))
        self.register_buffer("has_end", torch.tensor(False))
        self.register_buffer("end_cosine", torch.tensor(torch.nan))
        self.register_buffer("repeat_cosine", torch.tensor(torch.nan))

    def fit(self, concepts: Tensor, end_of_text: Tensor | None = None) -> None:
        """Measure thresholds on raw concepts (N, D) of whole documents, and keep the concept (D,) that ends them."""
        self.has_end.fill_(end_of_text is not None)
        if end_of_text is not None:
            self.end_of_text.copy_(end_of_text)
            self.end_cosine.fill_(calibrate_end(concepts, end_of_text))
        self.repeat_cosine.fill_(calibrate_repetition(concepts))

    def rule(self, *, end: bool | None = None, repetition: bool = False, min_concepts: int = 1) -> StopRule | None:
        """Return the rule with the measured thresholds; None if nothing is to stop.

        Args:
            end: whether the end of text stops; if not given, where the model has learnt it.
            repetition: whether a repeated concept stops.
            min_concepts: that come first, whatever they are.

        Raises:
            ValueError: the model has not learnt what is asked for.
        """
        if end and not self.has_end:
            raise ValueError(
                "the model has not learnt where texts end: its store had no concept of the end of text; run "
                '"lcm encode" and "lcm fit" again'
            )
        if repetition and self.repeat_cosine.isnan():
            raise ValueError('what counts as a repetition has not been measured; run "lcm fit"')
        if not (repetition or (self.has_end and end is not False)):
            return None
        ending = bool(self.has_end) and end is not False
        return StopRule(
            end=self.end_of_text if ending else None,
            end_cosine=float(self.end_cosine) if ending else 1.0,
            repeat_cosine=float(self.repeat_cosine) if repetition else None,
            min_concepts=min_concepts,
        )


def calibrate_repetition(concepts: Tensor) -> float:
    """Return a cosine that real sentences seldom have with the one before them, from raw concepts (N, D) in order.

    In documents that were not seen, less than one in 1,000 of the sentences that differ from the last reaches it. Those
    that repeat it word for word are left out: they are what the rule is for, and plays have more of them. Where
    documents meet, a last sentence counts as the one before a first, which lowers the threshold a little.
    """
    pairs = zip(concepts[1:].split(_CHUNK), concepts[:-1].split(_CHUNK), strict=True)
    cosine = torch.cat([torch.empty(0), *(F.cosine_similarity(a, b, dim=-1).cpu() for a, b in pairs)])
    return reached_rarely(cosine, FALSE_REPEATS)


def calibrate_end(concepts: Tensor, end: Tensor) -> float:
    """Return the cosine with the end (D,) from which a prediction is taken for it, from raw sentences (N, D).

    It lies half-way between what 999 of 1,000 real sentences stay below and 1, which is the end itself: a prediction is
    seldom exact, and what is half the end and half another sentence is not yet the end.
    """
    cosine = torch.cat([F.cosine_similarity(some, end.to(some), dim=-1).cpu() for some in concepts.split(_CHUNK)])
    return (1 + reached_rarely(cosine, FALSE_ENDS)) / 2


def reached_rarely(cosine: Tensor, share: float) -> float:
    """Return the smallest threshold that at most a share of cosines (N,), those of equal sentences apart, reaches."""
    cosine = cosine[cosine < SAME].float().sort().values
    if not len(cosine):
        return SAME
    last_below = cosine[-1 - int(share * len(cosine))]
    return float(torch.nextafter(last_below, torch.ones(())))
