"""RMSNorm, dropout and rotary embedding for processors, in few passes over memory.

torch has no fused CPU kernels for them (2.13): written plainly they took a seventh of a training step. Each computes
what its plain form computes; on other devices the plain forms run, which torch fuses there or compiles.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Normalise(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return (..., H) of x (..., H) and weight (H,)."""
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of x and weight."""
        x, weight, inverse = ctx.saved_tensors
        product = (grad * x).flatten(0, -2)
        grad_weight = torch.mv(product.t(), inverse.flatten())
        along = torch.mv(product, weight).view_as(inverse).mul_(inverse.pow(3)).div_(x.shape[-1])
        return (grad * weight).mul_(inverse).addcmul_(x, along, value=-1), grad_weight, None


class RMSNorm(nn.RMSNorm):
    """Root mean square norm with a weight an element (arXiv:1910.07467): (..., H) -> (..., H)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x / rms(x) * weight."""
        if x.device.type != "cpu" or self.weight is None or x.dtype != self.weight.dtype:
            return super().forward(x)
        return Normalise.apply(x, self.weight, torch.finfo(x.dtype).eps if self.eps is None else self.eps)


class Dropout(nn.Dropout):
    """Drop elements while training and scale up the others.

    torch draws a double for each element on a CPU. Sixteen random bits say enough: p is rounded to 1/65,536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped."""
        if x.device.type != "cpu" or not self.training or not 0 < self.p < 1:
            return super().forward(x)
        threshold = max(1, min(round(self.p * 2**16), 2**16 - 1))
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (bits >= threshold - 2**15).to(x.dtype).mul_(2**16 / (2**16 - threshold))


def rotated_heads(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rotated queries, rotated keys and values, (B, heads, S, d) each, of x (B, S, 3, heads, d).

    A pair (x_i, x_(i + d/2)) turns by the angle with cos and sin (B or 1, 1, S, d/2), in float32 at least.
    """
    if x.device.type == "cpu":
        return RotatedHeads.apply(x, cos, sin)
    qkv = x.permute(2, 0, 3, 1, 4)
    a, b = qkv[:2].to(torch.promote_types(x.dtype, cos.dtype)).chunk(2, dim=-1)
    q, k = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)
    return q, k, qkv[2]


class RotatedHeads(torch.autograd.Function):
    """rotated_heads() without copies; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each contiguous."""
        ctx.save_for_backward(cos, sin)
        ctx.shape = x.shape
        q, k, v = x.permute(2, 0, 3, 1, 4)
        return turn(q, cos, sin).to(x.dtype), turn(k, cos, sin).to(x.dtype), v.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x; the angles have none."""
        cos, sin = ctx.saved_tensors
        grad = torch.empty(ctx.shape, dtype=grads[0].dtype, device=grads[0].device)
        q, k, v = grad.permute(2, 0, 3, 1, 4)
        q.copy_(turn(grads[0], cos, -sin))
        k.copy_(turn(grads[1], cos, -sin))
        v.copy_(grads[2])
        return grad, None, None


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x (..., d) by angles with cos and sin (..., d/2); float32 at least."""
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    a, b = wide.chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=wide.dtype, device=x.device)
    first, second = out.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=second).addcmul_(a, sin)
    return out
