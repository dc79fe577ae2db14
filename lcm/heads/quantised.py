"""Quant-LCM: the next concept as units of a residual quantiser, one codebook after another."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lcm.heads.categorical import check_drawing, draw
from lcm.heads.head import (
    GuessingHead,
    LastContextHead,
    Regression,
    check_cond_dropout,
    drop_contexts,
    last_visible,
    mean_over,
)
from lcm.heads.mlp import ResidualMLP
from lcm.residual_quantizer import ResidualQuantizer

# Weight of the products with a guess before training. For concepts of variance 1 in every direction it would be 1; they
# have most of theirs in few directions, and 1 would be far too sure.
TILT = 0.1
SAMPLE = 8192  # concepts that the variance left by each codebook is measured on


class QuantisedHead(LastContextHead, GuessingHead):
    """Quant-LCM-d: a softmax over the units of a codebook, given those chosen before it (arXiv:2412.08821, 2.3.5).

    What has been chosen goes in as the sum of its centroids, with the number of the codebook and the last visible
    context, so that one network serves all codebooks; it is a residual MLP where the paper has its One-Tower. In
    training k is uniform for each position, so M times the loss estimates -log p(units | context) without bias.

    The codebooks are fitted to data before the first step, by fit().

    Args:
        dim: width D of a concept.
        width: width H of a context and of the network.
        num_codebooks: M, units a concept and calls of the network to sample one. The paper has 64.
        num_units: U, centroids a codebook, at most as many as there are training concepts. The paper has 8192.
        num_layers: layers of the network.
        cond_dropout: probability that a position is trained without context, which guidance needs.
        num_draws: codebooks drawn for each target; they share the backbone's work. The paper draws one.
        first_guess: predict x linearly from the context too, which favours the units that lie along that prediction;
            the network learns the rest of their logits.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        num_codebooks: int = 16,
        num_units: int = 64,
        num_layers: int = 3,
        cond_dropout: float = 0.15,
        num_draws: int = 4,
        first_guess: bool = False,
    ) -> None:
        super().__init__()
        check_cond_dropout(cond_dropout)
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1, found {num_draws}")
        self.cond_dropout, self.num_draws = cond_dropout, num_draws
        self.quantizer = ResidualQuantizer(dim, num_codebooks, num_units)
        self.codebook = nn.Embedding(num_codebooks, width)
        self.network = ResidualMLP(dim, width, self.num_outputs, num_layers)
        if first_guess:
            self.regression = Regression(width, dim)
            self.scale_guess(num_codebooks)

    @property
    def num_outputs(self) -> int:
        """What the network gives: a logit a unit."""
        return self.quantizer.num_units

    def fit(self, x: Tensor) -> None:
        """Fit the codebooks to normalised x (N, D); the same x gives the same codebooks."""
        self.quantizer.fit(x)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of a unit, in nats, at uniform k; also of the first and the last codebook's."""
        units = self.quantizer.encode(x)
        index, partial, seen = self.prepare(context, units, visible, generator)
        logits = self.predict(partial, index, seen).movedim(-1, 1)  # (B, U, S, draws)
        return self.averages(F.cross_entropy(logits, units.gather(-1, index), reduction="none"), index, target)

    def estimate(self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None) -> Tensor:
        """Return a sum of drawn centroids (B, Q, D) whose gradient is that of the sum of expected ones.

        This is the straight-through estimator (arXiv:1308.3432): the decoder reads a concept that sampling may give.
        What has been drawn goes into the next call of the network as it is, without gradient.
        """
        seen = last_visible(context, visible)
        total = partial = seen.new_zeros(*seen.shape[:2], self.quantizer.dim, dtype=torch.float32)
        for k, codebook in enumerate(self.quantizer.codebooks):
            logits = self.logits(partial, k, seen)
            drawn = codebook[draw(logits.detach(), temperature=1.0, top_k=None, top_p=1.0, generator=generator)]
            expected = logits.softmax(-1) @ codebook
            total, partial = total + (drawn + (expected - expected.detach())), partial + drawn
        return total

    def prepare(
        self, context: Tensor, units: Tensor, visible: Tensor, generator: Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return random codebooks (B, S, draws), the sums before them (B, S, draws, D) and contexts (B, S, 1, H)."""
        num, shape, device = self.quantizer.num_codebooks, units.shape[:2], units.device
        index = torch.randint(num, (*shape, self.num_draws), generator=generator, device=device)
        visible = drop_contexts(visible, self.cond_dropout if self.training else 0.0, generator)
        return index, self.quantizer.decode(units[:, :, None], index), last_visible(context, visible)[:, :, None]

    def predict(self, partial: Tensor, index: Tensor, context: Tensor) -> Tensor:
        """What the network says, float32, of codebook `index` (...) after centroids that sum to partial (..., D)."""
        found = self.network(partial, context + self.codebook(index))
        return found if self.regression is None else found + self.guess(self.regression(context), index)

    def scale_guess(self, num_codebooks: int) -> None:
        """Make what guess() needs."""
        self.log_tilt = nn.Parameter(torch.full((num_codebooks,), math.log(TILT)))

    def guess(self, mean: Tensor, index: Tensor) -> Tensor:
        """Logits (..., U) of the units of codebook `index` (...) by their products with a guess of x (..., D).

        A Gaussian about a mean favours x by exp(mean x / variance), so each unit of which x is made by its product with
        the mean. The weight of these products is learnt, one for each codebook.
        """
        mean = mean.expand(*index.shape, -1)
        found = mean.new_empty(*index.shape, self.quantizer.num_units)
        for k in index.unique().tolist():  # a table of all codebooks would be M times as large
            here = index == k
            found[here] = (self.log_tilt[k].exp() * mean[here] @ self.quantizer.codebooks[k].mT).float()
        return found

    def averages(self, error: Tensor, index: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the mean of error (B, S, draws) over targets, and of that at the first and at the last codebook."""
        target = target[..., None].expand_as(error)
        ends = {"first": 0, "last": self.quantizer.num_codebooks - 1}
        parts = {f"loss_{name}_codebook": mean_over(error.detach(), target & (index == k)) for name, k in ends.items()}
        return {"loss": mean_over(error, target), **parts}

    def logits(self, partial: Tensor, k: int, context: Tensor) -> Tensor:
        """Logits (B, Q, U) of the units of a codebook, from 0, after centroids that sum to partial (B, Q, D)."""
        return self.predict(partial, torch.full(partial.shape[:-1], k, device=partial.device), context)

    @torch.no_grad()
    def sample(
        self,
        memory: Tensor,
        visible: Tensor,
        *,
        generator: Generator | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """Draw one next x (B, Q, D), a sum of M centroids, for each query.

        arXiv:2412.08821, section 2.4.1, has temperature 1 and top_k 3 for texts, top_k 1 for single sentences, and a
        guidance_scale of 1 and 2 there (Quant-LCM-d), of 1.5 and 3 (Quant-LCM-c).

        Args:
            memory: contexts (B, S, H).
            visible: bool (B, Q, S), True = query q sees context s.
            generator: source of the choices.
            temperature: 1 draws units as they were learnt, 0 takes the likeliest of each codebook in turn.
            top_k: most units to draw among.
            top_p: share of the probability that the units to draw among hold together.
            guidance_scale: 1 is no guidance; larger follows the context more closely.
        """
        check_drawing(temperature, top_k, top_p)
        context = last_visible(memory, visible)
        partial = torch.zeros(*visible.shape[:2], self.quantizer.dim, device=visible.device)
        for k in range(self.quantizer.num_codebooks):
            logits = self.logits(partial, k, context)
            if guidance_scale != 1:
                logits = torch.lerp(self.logits(partial, k, torch.zeros_like(context)), logits, guidance_scale)
            unit = draw(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
            partial = partial + self.quantizer.codebooks[k][unit]
        return partial


class QuantisedContinuousHead(QuantisedHead):
    """Quant-LCM-c: what is missing to x after k - 1 codebooks, by squared error (arXiv:2412.08821, 2.3.5).

    Sampling adds the centroid of codebook k that is nearest to the residual that was predicted, or draws one by
    Eq. 23, p(c) ~ exp(-beta |c - r|^2). The paper's beta is a knob; here each codebook has its own, learnt by maximum
    likelihood beside the squared error and without a gradient to the network, so that temperature 1 means something:
    the temperature divides beta.

    Args:
        dim: width D of a concept.
        width: width H of a context and of the network.
        options: as of QuantisedHead; the network learns what is missing to the residual that the first guess implies.
    """

    left: Tensor

    def __init__(self, dim: int, width: int, **options: Any) -> None:
        super().__init__(dim, width, **options)
        self.log_beta = nn.Parameter(torch.zeros(self.quantizer.num_codebooks))

    def scale_guess(self, num_codebooks: int) -> None:
        """Make what guess() needs."""
        self.register_buffer("left", torch.ones(num_codebooks))

    def fit(self, x: Tensor) -> None:
        """Fit the codebooks to normalised x (N, D), and measure the share of its square that each has before it."""
        super().fit(x)
        if self.regression is not None:
            some = x[torch.linspace(0, len(x) - 1, min(len(x), SAMPLE)).long()].float()
            units = self.quantizer.encode(some)
            for k in range(self.quantizer.num_codebooks):
                residual = some - self.quantizer.decode(units[:, :k])
                self.left[k] = residual.square().sum() / some.square().sum().clamp_min(1e-6)

    def guess(self, mean: Tensor, index: Tensor) -> Tensor:
        """Residual (..., D) before codebook `index` (...), by a guess of x (..., D): the share of it that is left.

        Of N(0, 1), given units that leave a variance of v around their sum, a mean moves the expectation by v of it.
        """
        return self.left[index][..., None] * mean

    @property
    def num_outputs(self) -> int:
        """What the network gives: the residual."""
        return self.quantizer.dim

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the squared error of x, mean over D, at uniform k; also at the first and the last codebook.

        The negative log-likelihood of a unit by Eq. 23 is reported, and teaches beta, but adds nothing to the loss.
        """
        units = self.quantizer.encode(x)
        index, partial, seen = self.prepare(context, units, visible, generator)
        # Partial is added outside, because a narrow network cannot hand it on.
        residual = self.predict(partial, index, seen)
        values = self.averages((partial + residual - x[:, :, None]).square().mean(-1), index, target)
        k = torch.randint(len(self.log_beta), (), generator=generator, device=x.device)  # all would take M tables
        logits = self.by_distance(residual.detach(), k).movedim(-1, 1)  # (B, U, S, draws)
        nll = F.cross_entropy(logits, units[..., k, None].expand_as(index), reduction="none")
        nll = mean_over(nll, target[..., None] & (index == k))
        return values | {"loss": values["loss"] + nll - nll.detach(), "unit_nll": nll.detach()}

    def estimate(self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the continuous x (B, Q, D) behind fewer than M of the head's own units, how many is drawn."""
        seen = last_visible(context, visible)
        depth = int(torch.randint(self.quantizer.num_codebooks, (), generator=generator, device=seen.device))
        partial = seen.new_zeros(*seen.shape[:2], self.quantizer.dim, dtype=torch.float32)
        with torch.no_grad():
            for k in range(depth):
                partial = partial + self.quantizer.codebooks[k][self.logits(partial, k, seen).argmax(-1)]
        index = torch.full(partial.shape[:-1], depth, device=partial.device)
        return partial + self.predict(partial, index, seen)

    def by_distance(self, residual: Tensor, k: int | Tensor) -> Tensor:
        """Logits (..., U) of the units of codebook k by their distance from residual (..., D)."""
        # Makes beta a number without a unit. A corpus of few different sentences leaves nothing to later codebooks.
        square = self.quantizer.codebooks[k].square().sum(-1).mean().clamp_min(1e-3)
        beta = self.log_beta[k].exp() / square
        return beta * self.quantizer.closeness(residual, k)  # arXiv:2412.08821, Eq. 23

    def logits(self, partial: Tensor, k: int, context: Tensor) -> Tensor:
        """Logits (B, Q, U) of the units of a codebook; linear in the residual, so guiding them guides the residual."""
        return self.by_distance(super().logits(partial, k, context), k)
