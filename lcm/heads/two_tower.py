"""Two-Tower diffusion: a denoiser without positions that looks at the contexts through cross-attention."""

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lcm.backbone import SwiGLU
from lcm.diffusion import CosineSchedule, NoiseSchedule, add_noise, guide
from lcm.heads.head import by_noise, check_cond_dropout, drop_contexts, mean_over
from lcm.predictions import ClampedSNR, Prediction, X0Prediction
from lcm.samplers import Sampler, ddim

Memory = list[tuple[Tensor, Tensor]]  # keys and values a layer, each (B, heads, 1 + S, d); row 0 is the zero vector's


def embed_time(t: Tensor, num_steps: int) -> Tensor:
    """Sines and cosines of the step number t * num_steps: (...) -> (..., 256), 128 frequencies 10000^(-k/128)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(128, device=t.device) / 128)
    angles = (t * num_steps)[..., None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class DenoiserLayer(nn.Module):
    """Cross-attention and SwiGLU, each scaled, shifted and gated by the noise level (AdaLN-zero, arXiv:2212.09748).

    The paper's layer also has self-attention under an identity mask; over one vector that is a linear map, which the
    feed-forward branch holds already, so it is left out.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.feed_forward_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)
        self.modulator = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulator.weight)
        nn.init.zeros_(self.modulator.bias)

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, d) of contexts (B, S, H)."""
        k, v = self.key_value(context).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def forward(self, h: Tensor, modulation: Tensor, memory: tuple[Tensor, Tensor], visible: Tensor) -> Tensor:
        """Denoise h (B, Q, H) with modulation (B, Q, 6H), seeing memory where visible (B, 1, Q, 1 + S)."""
        scale_a, shift_a, gate_a, scale_f, shift_f, gate_f = modulation.chunk(6, dim=-1)
        y = (1 + scale_a) * self.attention_norm(h) + shift_a
        q = self.query(y).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = memory
        y = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=visible)
        h = h + gate_a * self.dropout(self.output(y.transpose(1, 2).flatten(2)))
        y = (1 + scale_f) * self.feed_forward_norm(h) + shift_f
        return h + gate_f * self.dropout(self.feed_forward(y))


class TwoTowerHead(nn.Module):
    """Diffusion in concept space, conditioned on the contexts before a position (arXiv:2412.08821, section 2.3.4).

    Every position has its own noise level in training. A query sees a zero vector and the contexts before it; for
    classifier-free guidance a position loses all contexts with probability cond_dropout, by itself.

    Args:
        dim: width D of a concept.
        width: width H of contexts and denoiser.
        num_layers: denoiser layers.
        num_heads: attention heads a layer.
        dropout: probability of dropping an element of a branch while training.
        cond_dropout: probability that a position is trained without context.
        schedule: noise schedule; its grid is that of training. Cosine if not given.
        prediction: what the network predicts; x0 if not given.
        weight: weight of the squared error of x0 at each noise level, scaled to a mean of 1 over the grid. If not
            given, the loss is the squared error of what is predicted.
    """

    loss_weight: Tensor

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        cond_dropout: float = 0.15,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction | None = None,
        weight: ClampedSNR | None = None,
    ) -> None:
        super().__init__()
        check_cond_dropout(cond_dropout)
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, found width {width} and {num_heads} heads")
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
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.input = nn.Linear(dim, width)
        layers = nn.ModuleList(DenoiserLayer(width, num_heads, dropout) for _ in range(num_layers))
        self.layers = cast("Iterable[DenoiserLayer]", layers)
        self.norm, self.output = nn.RMSNorm(width), nn.Linear(width, dim)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted squared error, mean over D, at uniform noise levels; also at low, middle, high noise."""
        num_steps = self.schedule.num_steps
        step = torch.randint(1, num_steps + 1, x.shape[:2], generator=generator, device=x.device)
        t = step / num_steps
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x_t = add_noise(x, noise, t, self.schedule)
        visible = drop_contexts(visible, self.cond_dropout if self.training else 0.0, generator)
        error = (self.denoise(x_t, t, self.remember(context), visible) - x).square().mean(-1)  # (B, S)
        error = error * self.loss_weight[step]
        return {"loss": mean_over(error, target), **by_noise(error, target, t)}

    def remember(self, context: Tensor, memory: Memory | None = None) -> Memory:
        """Append the keys and values of contexts (B, S, H); the first call puts the zero vector before them."""
        if memory is None:
            return [layer.project(F.pad(context, (0, 0, 1, 0))) for layer in self.layers]
        new = [layer.project(context) for layer in self.layers]
        return [
            (torch.cat((k, more_k), 2), torch.cat((v, more_v), 2))
            for (k, v), (more_k, more_v) in zip(memory, new, strict=True)
        ]

    def denoise(self, x_t: Tensor, t: Tensor, memory: Memory, visible: Tensor) -> Tensor:
        """Predict x0 (B, Q, D), float32, from x_t (B, Q, D) at times t (B, Q), seeing visible (B, Q, S) of memory."""
        num_steps = self.schedule.num_steps
        # Times lie on a grid, so a table of modulations has no more rows than the grid has steps.
        grid = torch.arange(num_steps + 1, device=t.device) / num_steps
        times, which = (grid, (t * num_steps).round().long()) if t.numel() > len(grid) else (t.flatten(), None)
        embedded = self.time(embed_time(times, num_steps))
        h = self.input(x_t).float()  # the residual stream stays in float32 under autocast
        seen = F.pad(visible, (1, 0), value=True)[:, None]  # (B, 1, Q, 1 + S): the zero vector is always there
        for layer, (k, v) in zip(self.layers, memory, strict=True):
            modulation = layer.modulator(embedded).float()  # 1 + .003 is 1 in bfloat16
            modulation = modulation[which] if which is not None else modulation.unflatten(0, t.shape)
            h = layer(h, modulation, (k, v), seen)
        alpha, sigma = self.schedule(t)
        return self.prediction.x0(self.output(self.norm(h)).float(), x_t, alpha[..., None], sigma[..., None])

    def sample(
        self,
        memory: Memory,
        visible: Tensor,
        *,
        generator: Generator | None = None,
        num_steps: int = 40,
        guidance_scale: float = 3.0,
        guidance_rescale: float = 0.7,
        initial_noise: float = 0.6,
        temperature: float = 1.0,
        epsilon_scale: float = 1.0,
        sampler: Sampler = ddim,
    ) -> Tensor:
        """Draw one next x (B, Q, D) for each query.

        Args:
            memory: what remember() returned.
            visible: bool (B, Q, S), True = query q sees context s.
            generator: source of the initial noise.
            num_steps: steps of the sampler, each one call of the denoiser; heun() makes 2 num_steps - 2 calls.
            guidance_scale: 1 is no guidance; larger follows the context more closely.
            guidance_rescale: share of the guided deviation that is pulled back.
            initial_noise: standard deviation of the start; smaller is nearer to the mean, hence tamer. The defaults are
                those of arXiv:2412.08821; the distribution that was learnt is that of 1, without guidance.
            temperature: multiplies initial_noise; 0 starts at the centre, and the seed then changes nothing.
            epsilon_scale: divides the noise left after each step; the paper takes 1.00045.
            sampler: ddim(), dpm_solver() or heun() of lcm.samplers.
        """
        if temperature < 0:
            raise ValueError(f"temperature must be 0 or more, found {temperature}")
        shape = (*visible.shape[:2], self.dim)
        x = temperature * initial_noise * torch.randn(shape, generator=generator, device=visible.device)
        unseen = torch.zeros_like(visible)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            conditional = self.denoise(x_t, t, memory, visible)
            if guidance_scale == 1:
                return conditional
            return guide(conditional, self.denoise(x_t, t, memory, unseen), guidance_scale, guidance_rescale)

        times = self.schedule.times(num_steps).unbind()
        return sampler(denoise, x, times, self.schedule, epsilon_scale=epsilon_scale)
