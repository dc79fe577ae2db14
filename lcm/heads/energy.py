"""Energy score: a generator that turns noise into the next concept in one step."""

import math

import torch
from torch import Generator, Tensor, nn

from lcm.heads.head import GuessingHead, LastContextHead, Regression, last_visible, mean_over
from lcm.heads.mlp import ResidualMLP

MEAN_DRAWS = 64  # that a temperature below 1 takes its mean from


def distances(samples: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of samples (..., N, D) to targets (..., M, D), and of two samples to each other; each (...).

    The energy score is the first less half the second, E|X - y| - E|X - X'| / 2. It is strictly proper: no distribution
    scores lower on average than the one that the targets come from (Gneiting and Raftery, 2007, section 4.3). In one
    dimension it is the CRPS. A sample is not paired with itself, so the expectation is the same for every N.
    """
    num = samples.shape[-2]
    exact = "donot_use_mm_for_euclid_dist"  # the other way loses small distances, and their gradient
    to_targets = torch.cdist(samples, targets, compute_mode=exact).mean((-2, -1))
    apart = torch.cdist(samples, samples, compute_mode=exact).sum((-2, -1)) / (num * (num - 1))
    return to_targets, apart


class EnergyHead(LastContextHead, GuessingHead):
    """Generator of the next x from noise and the last visible context, trained by the energy score (arXiv:2510.27688).

    Half of CALM's loss with its best exponent, alpha = 1, over sqrt(D), so that it does not grow with D. Of CALM's
    generator it keeps the uniform noise, the residual layers under the context and the zero start; the layers are those
    of FlowHead. A position without a visible context learns the unconditional distribution.

    Args:
        dim: width D of a concept.
        width: width H of contexts and generator.
        num_layers: residual layers.
        noise_dim: numbers of uniform noise that make a sample.
        num_samples: samples N whose score is taken; below 4 it learns worse, above 8 hardly better (CALM).
        num_targets: noisy copies M of the target in training; held-out losses take the target itself.
        target_noise: standard deviation of their noise, in x. CALM's targets are drawn from its autoencoder's
            posterior; a concept is one point, and what is learnt with noise is as much wider.
        first_guess: predict x linearly from the context too, and let the generator add to that.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        num_layers: int = 4,
        noise_dim: int = 64,
        num_samples: int = 8,
        num_targets: int = 1,
        target_noise: float = 0.0,
        first_guess: bool = False,
    ) -> None:
        super().__init__()
        if num_samples < 2:
            raise ValueError(f"num_samples must be at least 2, found {num_samples}: the score needs their spread")
        if num_targets < 1:
            raise ValueError(f"num_targets must be at least 1, found {num_targets}")
        if target_noise < 0:
            raise ValueError(f"target_noise must be at least 0, found {target_noise}")
        if num_targets > 1 and target_noise == 0:
            raise ValueError(
                f"without target_noise all {num_targets} targets are the same; set it, or num_targets to 1"
            )
        self.dim, self.noise_dim, self.num_samples = dim, noise_dim, num_samples
        self.num_targets, self.target_noise = num_targets, target_noise
        self.context = nn.Linear(width, width)
        self.network = ResidualMLP(noise_dim, width, dim, num_layers)
        if first_guess:
            self.regression = Regression(width, dim)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the energy score over sqrt(D), and its parts; spread equals distance where the spread is right."""
        samples = self.draw(last_visible(context, visible), self.num_samples, generator)  # (B, S, N, D)
        targets = x[:, :, None]  # (B, S, 1, D)
        if self.training and self.target_noise:
            shape = (*x.shape[:2], self.num_targets, self.dim)
            targets = targets + self.target_noise * torch.randn(shape, generator=generator, device=x.device)
        distance, spread = (mean_over(value / math.sqrt(self.dim), target) for value in distances(samples, targets))
        return {"loss": distance - spread / 2, "distance": distance.detach(), "spread": spread.detach()}

    def estimate(self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None) -> Tensor:
        """Return one draw (B, Q, D); its noise has no gradient, what is made of it has."""
        return self.draw(last_visible(context, visible), 1, generator)[:, :, 0]

    def draw(self, context: Tensor, num: int, generator: Generator | None) -> Tensor:
        """Draw x (B, Q, num, D) under contexts (B, Q, H)."""
        shape = (*context.shape[:2], num, self.noise_dim)
        return self.generate(torch.rand(shape, generator=generator, device=context.device) - 0.5, context)

    def mean(self, context: Tensor) -> Tensor:
        """Return the mean x (B, Q, D) under contexts (B, Q, H), estimated from MEAN_DRAWS draws.

        The noise is the same at every call and position, and each has its mirror image beside it, which makes the mean
        of a generator that is linear in its noise exact.
        """
        generator = Generator(context.device).manual_seed(0)
        half = torch.rand(MEAN_DRAWS // 2, self.noise_dim, generator=generator, device=context.device) - 0.5
        # As many at a time as in training, so that memory is that of training.
        means = [self.generate(torch.cat((some, -some)), context).mean(2) for some in half.split(4)]
        return torch.stack(means).mean(0)

    def generate(self, uniform: Tensor, context: Tensor) -> Tensor:
        """Turn noise on [-1/2, 1/2] ((B, Q,) num, Z) into x (B, Q, num, D) under contexts (B, Q, H)."""
        x = self.network(math.sqrt(12) * uniform, self.context(context)[:, :, None])  # the noise has variance 1
        return x if self.regression is None else x + self.regression(context)[:, :, None]

    def sample(
        self,
        memory: Tensor,
        visible: Tensor,
        *,
        generator: Generator | None = None,
        temperature: float = 1.0,
        num_candidates: int = 1,
    ) -> Tensor:
        """Draw one next x (B, Q, D) for each query, by one call of the generator at temperature 1.

        CALM lowers the temperature by keeping what is drawn more than once. Concepts never coincide, so here a draw is
        pulled towards the mean. To scale the noise instead would be wrong: no noise is a noise that training never
        showed, and what is made of it lies far from the mean.

        Args:
            memory: what remember() returned.
            visible: bool (B, Q, S), True = query q sees context s.
            generator: source of the noise.
            temperature: 1 draws from what was learnt, T with T times its deviation, 0 is its mean, always the same;
                among several modes that may lie between them. Any but 1 costs 64 draws more, for the mean.
            num_candidates: concepts drawn, of which that nearest to the others is returned (the medoid): a typical
                concept that is still a draw. 1 draws freely.
        """
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, found {temperature}")
        if num_candidates < 1:
            raise ValueError(f"num_candidates must be at least 1, found {num_candidates}")
        if num_candidates > 1 and temperature == 0:
            raise ValueError("at temperature 0 all candidates are the same; set num_candidates to 1")
        context = last_visible(memory, visible)
        candidates = self.draw(context, num_candidates, generator)
        best = torch.cdist(candidates, candidates).sum(-1).argmin(-1)  # (B, Q)
        x = candidates.gather(2, best[..., None, None].expand(-1, -1, 1, self.dim))[:, :, 0]
        return x if temperature == 1 else torch.lerp(self.mean(context), x, temperature)
