"""Measures of predicted concepts against the true ones, and the baselines that a model has to beat.

All take predictions in the order of a document, one for each of its last P concepts: `predicted[p]` foretells
`true[S - P + p]`, so that what a model or a baseline says about positions 1 to S - 1 goes in as it is. With positions
`at` (P,), int64, they are about those instead: `predicted[p]` foretells `true[at[p]]`. Distances are taken in float64,
because the differences that decide a rank are small, and in blocks of rows, so that memory grows with S, not with its
square. A *document* is one causal sequence; its positions are not independent, which `mean_interval` respects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from lcm.heads.energy import distances

SAME = 1 - 1e-5  # concepts of a higher cosine are one sentence that occurs twice
TIE = 1e-10  # squared distances closer than this share of the largest one are equal: rounding in float64

WEAK = 0.1  # a true concept whose largest cosine with what came before is below this has no PAR: it would be anything

# Student's t at 97.5 percent for 1 to 10 degrees of freedom; beyond, the expansion in `_t975` is exact to .001
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def l2(predicted: Tensor, true: Tensor, at: Tensor | None = None) -> Tensor:
    """Euclidean distance of each prediction (P, D) to its concept in `true` (S, D), S >= P: (P,)."""
    return (predicted.double() - _targets(predicted, true, at).double()).norm(dim=-1)


def cosine(predicted: Tensor, true: Tensor, at: Tensor | None = None) -> Tensor:
    """Cosine of each prediction (P, D) with its concept in `true` (S, D), S >= P: (P,); 0 for a zero vector."""
    return torch.cosine_similarity(predicted.double(), _targets(predicted, true, at).double(), dim=-1)


def energy_score(samples: Tensor, x: Tensor) -> Tensor:
    """Energy score (P,) of N samples (N, P, D) drawn for P concepts x (P, D): (E|X - x| - E|X - X'| / 2) / sqrt(D).

    Smaller is better, and on average nothing beats drawing from the truth (lcm.heads.energy says more); so it judges a
    generator by what it draws, while a distance judges it by how little it spreads. A single sample, the prediction of
    a model that does not draw, scores its distance. Give normalised concepts, of one normaliser for all that are
    compared: in raw ones a few dimensions would decide.
    """
    assert samples.ndim == 3 and samples.shape[1:] == x.shape, (samples.shape, x.shape)
    apart, true = samples.double().transpose(0, 1), x.double()[:, None]  # (P, N, D), (P, 1, D)
    if len(samples) == 1:
        return (apart - true).norm(dim=-1)[:, 0] / math.sqrt(x.shape[-1])
    distance, spread = distances(apart, true)
    return (distance - spread / 2) / math.sqrt(x.shape[-1])


def prior_alignment(predicted: Tensor, true: Tensor, at: Tensor | None = None) -> Tensor:
    """PAR: largest cosine of a prediction with the concepts before it, over that of the true concept: (P,) float64.

    Above 1 it keeps nearer to what has been said than the author did, up to copying (arXiv:2412.08821).
    NaN where the true concept is like nothing before it, or nothing is before it.

    Args:
        predicted: (P, D) predictions, of the last P concepts or of those `at`.
        true: (S, D) all concepts of the document, headings among them.
        at: positions of the predictions.
    """
    targets = _targets(predicted, true, at).double()
    row = torch.arange(len(true), device=true.device)
    before = row < (row[len(true) - len(predicted) :] if at is None else at)[:, None]  # (P, S)
    direction = torch.nn.functional.normalize(true.double(), dim=-1)
    largest = [
        (torch.nn.functional.normalize(some.double(), dim=-1) @ direction.T).masked_fill(~before, -math.inf).amax(-1)
        for some in (predicted, targets)
    ]
    return (largest[0] / largest[1]).masked_fill(largest[1] < WEAK, math.nan)


def contrastive_accuracy(predicted: Tensor, true: Tensor, at: Tensor | None = None, *, block: int = 256) -> Tensor:
    """Share of the document's other concepts that lie farther (l2) from a prediction than its own: (P,) float64.

    As in arXiv:2412.08821, the concept itself and its two neighbours are left out; chance is .5. A tie counts one half,
    as in the area under a ROC curve, so a predictor that cannot tell anything apart scores .5. NaN where no other
    concept is left (a document of up to three sentences).

    Args:
        predicted: (P, D) predictions of the last P concepts of the document, or of those `at`.
        true: (S, D) all concepts of the document, S >= P; all of them are candidates.
        at: positions of the predictions.
        block: predictions compared at a time; memory is block * S float64.
    """
    position = torch.arange(len(true), device=true.device)
    about = position[len(true) - len(predicted) :] if at is None else at
    shares = []
    for rows, distance, own, tie in _blocks(predicted, _targets(predicted, true, at), true, block):
        n = about[rows, None]
        other = (position - n).abs() > 1  # (block, S)
        distance.masked_fill_(~other, -math.inf)
        farther = (distance > own + tie).sum(-1) + (distance >= own - tie).sum(-1)  # a tie is in the second only
        shares.append(farther.double() / (2 * other.sum(-1)))  # 0 / 0 is NaN
    return torch.cat(shares) if shares else predicted.new_zeros(0, dtype=torch.float64)


def retrieval_ranks(
    predicted: Tensor, true: Tensor, pool: Tensor, at: Tensor | None = None, *, block: int = 256
) -> Tensor:
    """Rank (1 is best) of the true concept by l2 distance to the prediction, among it and `pool`: (P,) float64.

    Rows of the pool equal to the true concept are the true concept: the pool may hold it or not, and a sentence that
    occurs twice competes with nobody. Any other row at the same distance counts one half.

    Args:
        predicted: (P, D) predictions of the last P concepts of `true`, or of those `at`.
        true: (S, D) concepts, S >= P.
        pool: (M, D) distractors, such as 2,000 held-out concepts.
        at: positions of the predictions.
        block: predictions compared at a time; memory is block * M float64.
    """
    targets = _targets(predicted, true, at)
    ranks = []
    for rows, distance, own, tie in _blocks(predicted, targets, pool, block):
        gap = distance - own
        tied = gap.abs() <= tie
        if tied.any():
            tied &= _squared_distance(targets[rows], pool) > tie
        ranks.append(1 + (gap < -tie).sum(-1) + tied.sum(-1) / 2)
    return torch.cat(ranks).double() if ranks else predicted.new_zeros(0, dtype=torch.float64)


def recall_at(k: int, ranks: Tensor) -> Tensor:
    """Whether each rank (P,) is at most k: (P,) of 0 and 1, whose mean is R@k."""
    return (ranks <= k).double()


def copy_last(concepts: Tensor) -> Tensor:
    """Predict each concept to be the one before it: (S, D) -> (S - 1, D)."""
    return concepts[:-1]


def running_mean(concepts: Tensor) -> Tensor:
    """Predict each concept to be the mean of all before it: (S, D) -> (S - 1, D)."""
    count = torch.arange(1, max(len(concepts), 1), device=concepts.device).unsqueeze(-1)
    return (concepts[:-1].double().cumsum(0) / count).to(concepts.dtype)


def corpus_mean(mean: Tensor) -> Callable[[Tensor], Tensor]:
    """The baseline that predicts the corpus' mean concept (D,) everywhere: a function (S, D) -> (S - 1, D)."""
    return lambda concepts: mean.to(concepts).expand(max(len(concepts) - 1, 0), -1)


@dataclass(frozen=True)
class Interval:
    """A mean with half the width of its 95 % interval, and what it rests on.

    Args:
        mean: over positions.
        half_width: the interval is mean +- half_width; NaN for a single document, which says nothing of others.
        num_positions: values averaged.
        num_documents: independent documents they come from.
    """

    mean: float
    half_width: float
    num_positions: int
    num_documents: int

    def __str__(self) -> str:
        if math.isnan(self.half_width):
            return f"{self.mean:.3f}"
        digits = 3  # so that columns align; two digits of a half width beyond that range
        if self.half_width > 0 and not 0.001 <= self.half_width < 0.1:
            digits = min(max(1 - math.floor(math.log10(self.half_width)), 0), 6)
        return f"{self.mean:.{digits}f} ± {self.half_width:.{digits}f}"


def mean_interval(values: Sequence[Tensor]) -> Interval:
    """Mean over all positions with a 95 % interval that treats documents, not positions, as independent.

    The sentences of a document share its topic and style: an easy document is easy throughout, and an interval that
    counts each position as a draw of its own is several times too narrow. So the variance is that of the documents'
    sums (a cluster-robust ratio estimate), with Student's t for one degree of freedom less than there are documents.
    NaN values (positions without a measure) are left out and not counted. For the difference of two models on the same
    documents, pass the differences: that interval is much narrower than the two single ones suggest.

    Args:
        values: one tensor (P_d,) for each document.

    Raises:
        ValueError: there is no value at all.
    """
    documents = [kept for value in values if len(kept := value.double()[~value.isnan()])]
    if not documents:
        raise ValueError("no positions to average; give documents of at least two sentences")
    counts = torch.tensor([len(value) for value in documents], dtype=torch.float64)
    sums = torch.tensor([float(value.sum()) for value in documents], dtype=torch.float64)
    total, num_documents = float(counts.sum()), len(documents)
    mean = float(sums.sum()) / total
    half_width = math.nan
    if num_documents > 1:
        spread = float((sums - mean * counts).square().sum()) * num_documents / (num_documents - 1)
        half_width = _t975(num_documents - 1) * math.sqrt(spread) / total
    return Interval(mean, half_width, int(total), num_documents)


def _t975(freedom: int) -> float:
    """Student's t at 97.5 percent; Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5) beyond the table."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2 + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)


def _targets(predicted: Tensor, true: Tensor, at: Tensor | None = None) -> Tensor:
    """The concepts (P, D) that the predictions (P, D) are about: those of `true` (S, D) `at` (P,), or its last P."""
    assert predicted.ndim == true.ndim == 2, (predicted.shape, true.shape)
    assert at is None or at.shape == predicted.shape[:1], (at, predicted.shape)
    assert at is not None or len(predicted) <= len(true), (predicted.shape, true.shape)
    assert predicted.shape[1] == true.shape[1], (predicted.shape, true.shape)
    if not predicted.isfinite().all():
        raise ValueError("predicted concepts are not finite; the model has diverged, train it again with a lower lr")
    return true[len(true) - len(predicted) :] if at is None else true[at]


def _blocks(
    predicted: Tensor, targets: Tensor, candidates: Tensor, block: int
) -> Iterator[tuple[slice, Tensor, Tensor, float]]:
    """Yield (rows, squared distance to the candidates (b, M), to the true concept (b, 1), smallest real difference)."""
    for start in range(0, len(predicted), block):
        rows = slice(start, min(start + block, len(predicted)))
        distance = _squared_distance(predicted[rows], candidates)
        own = (predicted[rows].double() - targets[rows].double()).square().sum(-1, keepdim=True)
        scale = predicted[rows].double().square().sum(-1).max() + targets[rows].double().square().sum(-1).max()
        yield rows, distance, own, TIE * float(scale)


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared l2 distances of rows (P, D), (M, D) -> (P, M); rounding is about 1e-15 of the squared lengths."""
    a, b = a.double(), b.double()
    return torch.addmm(a.square().sum(-1, keepdim=True) + b.square().sum(-1), a, b.T, alpha=-2)
