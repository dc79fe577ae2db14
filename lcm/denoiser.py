"""What every diffusion over concepts does alike, whatever network denoises: noising, loss and sampling."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from lcm.diffusion import CosineSchedule, NoiseSchedule, add_noise, guide, posterior_mean
from lcm.heads.head import (
    GuessingHead,
    Regression,
    by_noise,
    check_cond_dropout,
    check_guidance,
    drop_contexts,
    mean_over,
)
from lcm.predictions import ClampedSNR, Prediction, X0Prediction
from lcm.samplers import Sampler, ddim


class Denoiser(GuessingHead):
    """Diffusion in concept space; a subclass brings the network, in denoise(), and its last layer.

    Every position has its own noise level in training. For classifier-free guidance a position loses all contexts with
    probability cond_dropout, by itself.

    Args:
        dim: width D of a concept.
        cond_dropout: probability that a position is trained without context.
        schedule: noise schedule; its grid is that of training. Cosine if not given.
        prediction: what the network predicts; x0 if not given.
        weight: weight of the squared error of x0 at each noise level, scaled to a mean of 1 over the grid. If not
            given, the loss is the squared error of what is predicted.
    """

    loss_weight: Tensor
    output: nn.Linear

    def __init__(
        self,
        dim: int,
        *,
        cond_dropout: float = 0.15,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction | None = None,
        weight: ClampedSNR | None = None,
    ) -> None:
        super().__init__()
        check_cond_dropout(cond_dropout)
        self.dim, self.cond_dropout = dim, cond_dropout
        self.schedule = schedule if schedule is not None else CosineSchedule()
        self.prediction = prediction if prediction is not None else X0Prediction()
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        if self.prediction.divides_by_alpha and alpha[-1] == 0:
            raise ValueError(
                f"{type(self.prediction).__name__} divides by alpha, which is 0 at the end of this schedule; "
                "set its zero_terminal_snr to false, or predict x0 or v"
            )
        loss_weight = self.prediction.weight(alpha, sigma)
        if weight is not None:
            loss_weight = weight(alpha, sigma)
            loss_weight = loss_weight / loss_weight[1:].mean()  # training takes no time 0
        self.register_buffer("loss_weight", loss_weight, persistent=False)

    def guess_first(self, width: int) -> None:
        """Add a first guess made of contexts of a width, beside a network whose output then starts at 0."""
        self.regression = Regression(width, self.dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def denoise(self, x_t: Tensor, t: Tensor, memory: Any, visible: Tensor) -> Tensor:
        """Predict x0 (B, Q, D), float32, from x_t (B, Q, D) at times t (B, Q), seeing visible (B, Q, S) of memory."""
        raise NotImplementedError

    def denoise_both(self, x_t: Tensor, t: Tensor, memory: Any, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Predict x0 (B, Q, D) as denoise() does, and as it does where nothing is visible."""
        return self.denoise(x_t, t, memory, visible), self.denoise(x_t, t, memory, torch.zeros_like(visible))

    def diffuse(self, x: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Return x (B, S, D) noised to random levels, and their times t (B, S), uniform on the grid without 0."""
        num_steps = self.schedule.num_steps
        step = torch.randint(1, num_steps + 1, x.shape[:2], generator=generator, device=x.device)
        t = step / num_steps
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return add_noise(x, noise, t, self.schedule), t

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor, guess: Tensor | None = None) -> Tensor:
        """Read the network's output (B, Q, D) for x_t at times t (B, Q) as x0, float32.

        With a guess (B, Q, D) of x0, made without x_t, the output is what is missing in the posterior mean about it.
        """
        alpha, sigma = (level[..., None] for level in self.schedule(t))
        if guess is None:
            return self.prediction.x0(output.float(), x_t, alpha, sigma)
        missing = self.prediction.x0(output.float(), torch.zeros_like(x_t), alpha, sigma)
        return posterior_mean(x_t, guess, alpha, sigma) + missing

    def denoising_loss(
        self, x: Tensor, target: Tensor, memory: Any, visible: Tensor, generator: Generator | None
    ) -> dict[str, Tensor]:
        """Return the weighted squared error, mean over D, at uniform noise levels; also at low, middle, high noise."""
        x_t, t = self.diffuse(x, generator)
        visible = drop_contexts(visible, self.cond_dropout if self.training else 0.0, generator)
        error = (self.denoise(x_t, t, memory, visible) - x).square().mean(-1)  # (B, S)
        error = error * self.loss_weight[(t * self.schedule.num_steps).round().long()]
        return {"loss": mean_over(error, target), **by_noise(error, target, t)}

    def sample(
        self,
        memory: Any,
        visible: Tensor,
        *,
        generator: Generator | None = None,
        num_steps: int = 40,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.7,
        initial_noise: float = 0.6,
        temperature: float = 1.0,
        epsilon_scale: float = 1.0,
        sampler: Sampler = ddim,
    ) -> Tensor:
        """Draw one next x (B, Q, D) for each query.

        Args:
            memory: what was read.
            visible: bool (B, Q, S), True = query q sees context s.
            generator: source of the initial noise.
            num_steps: steps of the sampler, each one call of the denoiser; heun() makes 2 num_steps - 2 calls.
            guidance_scale: 1 is no guidance; larger follows the context more closely. 3 if not given, 1 for a model
                trained without cond_dropout.
            guidance_rescale: share of the guided deviation that is pulled back.
            initial_noise: standard deviation of the start; smaller is nearer to the mean, hence tamer. The defaults are
                those of arXiv:2412.08821; the distribution that was learnt is that of 1, without guidance.
            temperature: multiplies initial_noise; 0 starts at the centre, and the seed then changes nothing.
            epsilon_scale: divides the noise left after each step; the paper takes 1.00045.
            sampler: ddim(), dpm_solver() or heun() of lcm.samplers.
        """
        if temperature < 0 or initial_noise < 0 or epsilon_scale <= 0:
            raise ValueError(
                "need temperature and initial_noise of at least 0 and an epsilon_scale above it, "
                f"found {temperature}, {initial_noise} and {epsilon_scale}"
            )
        if guidance_scale is None:
            guidance_scale = 3.0 if self.cond_dropout else 1.0
        check_guidance(guidance_scale, self.cond_dropout)
        shape = (*visible.shape[:2], self.dim)
        x = temperature * initial_noise * torch.randn(shape, generator=generator, device=visible.device)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            if guidance_scale == 1:
                return self.denoise(x_t, t, memory, visible)
            conditional, unconditional = self.denoise_both(x_t, t, memory, visible)
            return guide(conditional, unconditional, guidance_scale, guidance_rescale)

        times = self.schedule.times(num_steps).unbind()
        return sampler(denoise, x, times, self.schedule, epsilon_scale=epsilon_scale)
