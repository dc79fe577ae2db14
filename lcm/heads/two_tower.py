"""Two-Tower diffusion: a denoiser without positions that looks at the contexts through cross-attention."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lcm.backbone import SwiGLU
from lcm.denoiser import Denoiser
from lcm.diffusion import NoiseSchedule, embed_time
from lcm.heads.head import last_visible
from lcm.predictions import ClampedSNR, Prediction


@dataclass(frozen=True)
class TowerMemory:
    """What the denoiser keeps of the contexts.

    Attributes:
        layers: keys and values of each layer, both (B, heads, 1 + S, d); row 0 is the zero vector's.
        contexts: (B, S, H), where a first guess is made of the last one; else None.
    """

    layers: list[tuple[Tensor, Tensor]]
    contexts: Tensor | None


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


class TwoTowerHead(Denoiser):
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
        first_guess: predict x linearly from the last context too, and let the network, which is then told of that
            context at its input and starts with an output of 0, learn the difference between the true x0 and the
            posterior mean that this prediction implies. The paper's has none.
    """

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
        first_guess: bool = False,
    ) -> None:
        super().__init__(dim, cond_dropout=cond_dropout, schedule=schedule, prediction=prediction, weight=weight)
        if width % num_heads:
            raise ValueError(f"width must be a multiple of num_heads, found width {width} and {num_heads} heads")
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.input = nn.Linear(dim, width)
        layers = nn.ModuleList(DenoiserLayer(width, num_heads, dropout) for _ in range(num_layers))
        self.layers = cast("Iterable[DenoiserLayer]", layers)
        self.norm, self.output = nn.RMSNorm(width), nn.Linear(width, dim)
        if first_guess:
            self.guess_first(width)
            self.context = nn.Linear(width, width)

    def loss(
        self, context: Tensor, x: Tensor, target: Tensor, visible: Tensor, generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted squared error, mean over D, at uniform noise levels; also at low, middle, high noise."""
        return self.denoising_loss(x, target, self.remember(context), visible, generator)

    def estimate(
        self, context: Tensor, x: Tensor, visible: Tensor, generator: Generator | None = None, *, num_steps: int = 1
    ) -> Tensor:
        """Return x0 (B, Q, D) after steps of DDIM from pure noise; the first, alone, gives about the mean of x."""
        memory = self.remember(context)
        return self.sample(
            memory, visible, generator=generator, num_steps=num_steps, guidance_scale=1.0, initial_noise=1.0
        )

    def remember(self, context: Tensor, memory: TowerMemory | None = None) -> TowerMemory:
        """Append the keys and values of contexts (B, S, H); the first call puts the zero vector before them."""
        if memory is None:
            layers = [layer.project(F.pad(context, (0, 0, 1, 0))) for layer in self.layers]
            return TowerMemory(layers, None if self.regression is None else context)
        new = [layer.project(context) for layer in self.layers]
        layers = [
            (torch.cat((k, more_k), 2), torch.cat((v, more_v), 2))
            for (k, v), (more_k, more_v) in zip(memory.layers, new, strict=True)
        ]
        return TowerMemory(layers, None if memory.contexts is None else torch.cat((memory.contexts, context), 1))

    def denoise(self, x_t: Tensor, t: Tensor, memory: TowerMemory, visible: Tensor) -> Tensor:
        """Predict x0 (B, Q, D), float32, from x_t (B, Q, D) at times t (B, Q), seeing visible (B, Q, S) of memory."""
        num_steps = self.schedule.num_steps
        # Times lie on a grid, so a table of modulations has no more rows than the grid has steps.
        grid = torch.arange(num_steps + 1, device=t.device) / num_steps
        times, which = (grid, (t * num_steps).round().long()) if t.numel() > len(grid) else (t.flatten(), None)
        embedded = self.time(embed_time(times, num_steps))
        h = self.input(x_t).float()  # the residual stream stays in float32 under autocast
        guess = None
        if self.regression is not None:
            assert memory.contexts is not None, "remember() keeps them"
            last = last_visible(memory.contexts, visible)
            guess, h = self.regression(last), h + self.context(last)
        seen = F.pad(visible, (1, 0), value=True)[:, None]  # (B, 1, Q, 1 + S): the zero vector is always there
        for layer, (k, v) in zip(self.layers, memory.layers, strict=True):
            modulation = layer.modulator(embedded).float()  # 1 + .003 is 1 in bfloat16
            modulation = modulation[which] if which is not None else modulation.unflatten(0, t.shape)
            h = layer(h, modulation, (k, v), seen)
        return self.to_x0(self.output(self.norm(h)), x_t, t, guess)
