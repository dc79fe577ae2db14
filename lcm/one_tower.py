"""One-Tower diffusion: one causal transformer reads the clean concepts and denoises the next one."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer, KeyValueCache
from lcm.diffusion import NoiseSchedule
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.head import last_visible
from lcm.heads.one_tower import OneTowerHead, TimedInput
from lcm.heads.with_contrast import check_contrast_weight, with_contrast
from lcm.model import ConceptModel, ReadState, earlier
from lcm.normalizer import FittedNormalizer
from lcm.predictions import ClampedSNR, Prediction

# Of a long row. A step of 2,048 concepts takes a fifth less time than in one piece (CPU, width 384, bfloat16).
QUERIES_AT_ONCE = 256

# How much of the means is in the next concept: regressing it on what new means give has a slope of 0.14 to 0.26 in
# three corpora. With 1 the draws have too little spread: an energy score of 0.82 and not 0.73 after 100 small steps.
SLOPE = 0.2


class OneTowerModel(ConceptModel):
    """Diffusion of the next concept by the transformer that reads those before it (arXiv:2412.08821, section 2.3.3).

    In training each concept stands in two copies, clean and noised, and one network serves both. Rows may see columns:

                clean 0 1 2   noisy 0 1 2
        clean 0       x
              1       x x
              2       x x x
        noisy 0                     x
              1       x               x
              2       x x               x

    The clean copies see no noisy one, so they are an ordinary causal pass, whose keys and values the noisy copies then
    attend to. In generation those are computed once, and a denoising step costs one position. A noisy copy has the
    rotary position of its clean one; it does not know its level, since what is predicted is a sentence.

    If the backbone has means of recent concepts, a noisy copy has those of the clean ones that it sees. Merely added to
    it they could not be told from it, and it would not learn to denoise; what goes in is alpha x_t + sigma^2 m instead,
    where m is SLOPE times what the first block is given of the last of these: the posterior mean of an x of variance 1
    about m.

    Args:
        dim: width D of a concept.
        backbone: causal transformer of width H, with or without means of recent concepts.
        num_levels: kinds of rows (sentence, scene, chapter, part, book); each adds a learnt vector to its concept.
        context_noise: in training each concept that is read is noised, up to this share of its variance. The time does
            not tell that noise.
        normalizer: between raw concepts and x; the robust one if not given.
        cond_dropout: probability that a position is trained without context.
        schedule: noise schedule; its grid is that of training. Cosine if not given.
        prediction: what the network predicts; x0 if not given.
        weight: weight of the squared error of x0 at each noise level, scaled to a mean of 1 over the grid. If not
            given, the loss is the squared error of what is predicted.
        first_guess: predict x linearly from the recent means too, and let the tower, whose output then starts at 0,
            learn the difference between the true x0 and the posterior mean that this prediction implies. The paper's
            has none.
        contrast: its loss over the clean copies' contexts is added, as in WithContrast; none adds nothing.
        contrast_weight: of that loss, which is in nats; 0.1 if not given.
    """

    backbone: CausalTransformer
    head: OneTowerHead  # type: ignore[assignment]  # it names its sampling options

    def __init__(
        self,
        dim: int,
        backbone: CausalTransformer,
        num_levels: int = 5,
        context_noise: float = 0.0,
        normalizer: FittedNormalizer | None = None,
        *,
        cond_dropout: float = 0.15,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction | None = None,
        weight: ClampedSNR | None = None,
        first_guess: bool = False,
        contrast: ContrastiveHead | None = None,
        contrast_weight: float | None = None,
    ) -> None:
        if contrast is None and contrast_weight is not None:
            raise ValueError(f"a contrast_weight of {contrast_weight} needs a contrast; give one, or no weight")
        if contrast is not None and contrast.query.weight.shape != (dim, backbone.width):
            made = tuple(contrast.query.weight.shape)
            raise ValueError(f"the contrast must be of dim {dim} and width {backbone.width}, found {made}")
        of_contrast = 0.1 if contrast_weight is None else contrast_weight
        check_contrast_weight(of_contrast)
        if not isinstance(backbone, CausalTransformer):
            raise ValueError(
                "a one-tower needs a CausalTransformer, whose keys and values its noisy copies attend to; "
                f"found a {type(backbone).__name__}; choose the other backbone or another model"
            )
        if first_guess and backbone.recent_means is None:
            raise ValueError("the first guess of a one-tower is made of recent means; give its backbone decays")
        head = OneTowerHead(
            dim,
            backbone.width,
            cond_dropout=cond_dropout,
            schedule=schedule,
            prediction=prediction,
            weight=weight,
            first_guess=first_guess,
        )
        super().__init__(dim, backbone, head, num_levels, context_noise, normalizer)
        self.input = TimedInput(dim, backbone.width, head.schedule.num_steps)
        head.align(self.input.concept.weight)
        self.contrast, self.contrast_weight = contrast, of_contrast
        if contrast is not None:
            contrast.align(self.input.concept.weight)

    def fit(self, concepts: Tensor, end_of_text: Tensor | None = None) -> None:
        """Set what is measured, not learnt, as ConceptModel.fit() does."""
        super().fit(concepts, end_of_text)
        if self.contrast is not None:
            self.contrast.fit(self.normalizer(concepts))

    def contexts(
        self,
        x: Tensor,
        level: Tensor | None = None,
        mask: Tensor | None = None,
        document: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        """Contexts (B, S, H) of normalised x (B, S, D); the cache keeps the means of all positions, as it does keys."""
        context, new = super().contexts(x, level, mask, document, cache)
        if cache is not None and cache.means is not None:
            new = replace(new, means=replace(new.means, mixed=torch.cat((cache.means.mixed, new.means.mixed), dim=1)))
        return context, new

    def loss(
        self, batch: ConceptBatch, generator: Generator | None = None, *, read: ConceptBatch | None = None
    ) -> dict[str, Tensor]:
        """Scalars, "loss" among them, as ConceptModel.loss(); with losses at low, middle and high noise.

        Where there is a contrast, the model's own is "head_loss", and those of the contrast are there too.
        """
        x, visible = self.normalizer(batch.concepts), earlier(batch, read)
        context, cache = self.contexts_in_training(x, batch, generator, read)
        own = self.head.loss(partial(self.along, cache), x, batch.target, visible, generator)
        if self.contrast is None:
            return own
        contrast = self.contrast.loss(context, x, batch.target, visible, generator)
        return with_contrast(own, contrast, self.contrast_weight)

    def estimate(  # type: ignore[override]  # it names its option
        self, batch: ConceptBatch, generator: Generator | None = None, *, num_steps: int = 1
    ) -> Tensor:
        """Teacher-forced raw x0 (B, S, D) with gradients, after steps of DDIM from pure noise."""
        _, cache = self.contexts_in_training(self.normalizer(batch.concepts), batch, generator, None)
        tower, visible = partial(self.along, cache), earlier(batch)
        x = self.head.sample(
            tower, visible, generator=generator, num_steps=num_steps, guidance_scale=1.0, initial_noise=1.0
        )
        return self.normalizer.inverse(x)

    @torch.no_grad()
    def predict(self, batch: ConceptBatch, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Teacher-forced predictions, raw (B, S, D): position s is predicted from the true concepts before s."""
        _, cache = self.contexts(self.normalizer(batch.concepts), batch.level, None, batch.document)
        x = self.head.sample(partial(self.along, cache), earlier(batch), generator=generator, **sampling)
        return self.normalizer.inverse(x)

    @torch.no_grad()
    def predict_from(self, state: ReadState, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Return the next raw concept (B, D) after what has been read."""
        tower = partial(self.noisy, state.cache, state.mask.sum(1, keepdim=True))
        x = self.head.sample(tower, state.mask[:, None], generator=generator, **sampling)
        return self.normalizer.inverse(x[:, 0])

    def along(
        self, cache: KeyValueCache, x_t: Tensor, t: Tensor, visible: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Contexts (B, S, H) of noisy copies of all S concepts in the cache, in their order, and their recent means.

        A long row is cut, because a piece needs no keys behind it, and would attend to its other queries in vain.
        """
        positions = torch.arange(len(cache), device=x_t.device).expand(len(t), -1)
        if visible is None:
            return self.noisy(cache, positions, x_t, t, None)
        pieces = []
        for start in range(0, len(cache), QUERIES_AT_ONCE):
            stop = start + QUERIES_AT_ONCE
            seen = KeyValueCache([(k[:, :, :stop], v[:, :, :stop]) for k, v in cache.layers], cache.means)
            here = (tensor[:, start:stop] for tensor in (positions, x_t, t, visible[:, :, :stop]))
            pieces.append(self.noisy(seen, *here))
        contexts, recent = zip(*pieces, strict=True)
        return torch.cat(contexts, dim=1), None if cache.means is None else torch.cat(recent, dim=1)

    def noisy(
        self, cache: KeyValueCache, positions: Tensor, x_t: Tensor, t: Tensor, visible: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Contexts (B, Q, H) of noisy concepts, each of which sees itself and its visible clean ones.

        Beside them what the first block is given of the last visible concept, (B, Q, H), zeros where none is visible;
        None if the backbone has no means.

        Args:
            cache: keys and values of S clean concepts, and their means.
            positions: (B, Q) rotary positions of the noisy concepts, or (B, 1) for all of a row.
            x_t: (B, Q, D) noisy concepts.
            t: (B, Q) their times.
            visible: bool (B, Q, S), True = query q sees clean concept s; None if no query sees any.
        """
        h, recent = self.embed(cache, x_t, t, visible)
        past: list[tuple[Tensor, Tensor]] | list[None] = cache.layers
        allowed = None
        if visible is None:  # each by itself, in a row of its own
            h, past = h.flatten(0, 1)[:, None], [None] * len(cache.layers)
            positions = positions.new_zeros(1, 1)  # a rotation changes nothing between a query and itself
        else:
            itself = torch.eye(h.shape[1], dtype=torch.bool, device=h.device).expand(len(h), -1, -1)
            allowed = torch.cat((visible, itself), dim=-1)[:, None]  # (B, 1, Q, S + Q)
        return self.backbone.through(h, positions, allowed, past)[0].reshape(*t.shape, -1), recent

    def embed(
        self, cache: KeyValueCache, x_t: Tensor, t: Tensor, visible: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the first block is given of noisy concepts, and their recent means, as noisy() takes them."""
        if cache.means is None:
            return self.input(x_t, t), None
        alpha, sigma = (level[..., None] for level in self.head.schedule(t))
        h = self.input(alpha * x_t, t)
        if visible is None:
            return h, torch.zeros_like(h)
        recent = last_visible(cache.means.mixed, visible)
        return h + SLOPE * sigma**2 * recent, recent
