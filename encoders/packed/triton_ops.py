import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from encoders.packed.ops import Activation, AddNorm, AttentionShape, Batch, Linear, TorchOps
from encoders.packed.triton_kernels import attend_kernel, embed_kernel, linear_kernel, norm_kernel, pool_kernel

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None  # type: ignore[assignment]  # a function that may be missing

_ELEMENTS = 4096  # of a block of rows: 32 a thread with four warps
# Heads and warps of a program, by its block of tokens. Up to heads of 64, Ampere and Hopper spill no register; heads of
# 128 do so on Ampere in the largest block. TODO(gpu): time them once a card is at hand, and TILE too.
ATTENTION_PROGRAM = {16: (2, 1), 32: (2, 1), 64: (2, 4), 128: (1, 8)}


@dataclass(frozen=True)
class Tile:
    """How `linear_kernel` cuts a product: the part that a program makes, and how far it reads ahead.

    Attributes:
        rows: of the part.
        columns: of the part.
        depth: of the inputs that are multiplied at once.
        num_warps: of a program.
        num_stages: blocks of the inputs that are on their way at a time.
    """

    rows: int = 128
    columns: int = 128
    depth: int = 64
    num_warps: int = 8
    num_stages: int = 3


TILE = Tile()


class TritonOps:
    """The operations of an encoder on an NVIDIA GPU, in few passes over its memory.

    Own kernels embed, add and normalise, multiply with an activation, attend within short sentences, and pool. Products
    without an activation are cuBLAS's, and all in float32. Longer sentences go to PyTorch's `varlen_attn`, or through
    `TorchOps` where that cannot take them: in float32, with a bias, or on a card or in a PyTorch without it.

    Attributes:
        longest_block: tokens of a sentence that the own attention takes.

    Args:
        device: of the weights and of the batches.
        dtype: of the matrix products; sums, norms and means are float32.
        tile: of products with an activation; None has cuBLAS multiply and PyTorch activate, in two passes.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, tile: Tile | None = TILE) -> None:
        self.device = device
        self.dtype = dtype
        self._tile = tile
        self._plain = TorchOps(device, dtype)
        # Longer ones in float32 would need more shared memory than most cards have.
        self.longest_block = 64 if dtype == torch.float32 else 128
        self._has_varlen = varlen_attn is not None and dtype != torch.float32 and _has_flash_attention(device)

    def tensor(self, weight: Tensor) -> Tensor:
        """Returns a weight on the device and in the dtype of the operations."""
        return self._plain.tensor(weight)

    def embed(
        self, word: Tensor, position: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> Callable[[Batch], Tensor]:
        """Returns a function of a batch: layer normalisation of its word and position embeddings' sum, (L, H)."""
        words, places, scale, shift = self.tensor(word), self.tensor(position), self._float(weight), self._float(bias)
        dim = words.shape[1]
        rows, block = _row_block(dim)

        def apply(batch: Batch) -> Tensor:
            out = words.new_empty(len(batch.ids), dim)
            grid = (triton.cdiv(len(out), rows),)
            embed_kernel[grid](
                out, batch.ids, batch.positions, words, places, scale, shift, len(out), eps, dim, rows, block
            )
            return out

        return apply

    def linear(self, weight: Tensor, bias: Tensor | None, activation: Activation | None = None) -> Linear:
        """Returns a function (L, in) -> (L, out); the weight is (out, in)."""
        tile = self._tile
        if activation is None or tile is None or self.dtype == torch.float32:
            return self._plain.linear(weight, bias, activation)
        kept, shift = self.tensor(weight), self._float(bias)
        out_dim, in_dim = kept.shape

        def apply(x: Tensor) -> Tensor:
            assert x.is_contiguous() and x.shape[1] == in_dim, (x.shape, x.stride(), in_dim)
            out = x.new_empty(len(x), out_dim)
            grid = (triton.cdiv(len(x), tile.rows) * triton.cdiv(out_dim, tile.columns),)
            sizes = (in_dim, out_dim, activation, tile.rows, tile.columns, tile.depth)
            linear_kernel[grid](
                out, x, kept, shift, len(x), *sizes, num_warps=tile.num_warps, num_stages=tile.num_stages
            )
            return out

        return apply

    def norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> Linear:
        """Returns layer normalisation (L, H) -> (L, H)."""
        apply = self._norm(weight, bias, eps)
        return lambda x: apply(x, None)

    def add_norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> AddNorm:
        """Returns a function of x and residual, (L, H) each: layer normalisation of their sum."""
        return self._norm(weight, bias, eps)

    def attend(self, qkv: Tensor, batch: Batch, shape: AttentionShape, bias: Tensor | None = None) -> Tensor:
        """Returns attention of each sentence for itself, (L, heads * head_dim); see `Ops`."""
        if batch.longest <= self.longest_block:
            return _attend_short(qkv, batch, shape, bias)
        if self._has_varlen and bias is None:
            return _attend_long(qkv, batch, shape)
        return self._plain.attend(qkv, batch, shape, bias)

    def pool_mean(self, x: Tensor, batch: Batch, normalize: bool) -> Tensor:
        """Returns the mean over each sentence's tokens, float32 (n, H), by choice scaled to length 1."""
        assert x.is_contiguous(), x.stride()
        num_sentences, dim = len(batch.starts) - 1, x.shape[1]
        out = x.new_empty(num_sentences, dim, dtype=torch.float32)
        pool_kernel[(num_sentences,)](out, x, batch.starts, dim, *_row_block(dim), normalize)
        return out

    def _norm(self, weight: Tensor, bias: Tensor | None, eps: float) -> Callable[[Tensor, Tensor | None], Tensor]:
        scale, shift = self._float(weight), self._float(bias)
        dim = len(weight)
        rows, block = _row_block(dim)

        def apply(x: Tensor, residual: Tensor | None) -> Tensor:
            assert x.is_contiguous() and x.shape[1] == dim, (x.shape, x.stride(), dim)
            assert residual is None or (residual.is_contiguous() and residual.shape == x.shape), x.shape
            out = torch.empty_like(x)
            grid = (triton.cdiv(len(x), rows),)
            norm_kernel[grid](out, x, residual, scale, shift, len(x), eps, dim, rows, block)
            return out

        return apply

    def _float(self, weight: Tensor | None) -> Tensor | None:
        """Returns what is not multiplied but added or scaled by, in float32: few bytes, and a little more exact."""
        return None if weight is None else weight.detach().to(self.device, torch.float32).contiguous()


def attention_block(longest: int) -> int:
    """Returns the length class of a pack: the power of two, from 16 on, that its longest sentence fits into."""
    return max(16, triton.next_power_of_2(longest))


def _attend_short(qkv: Tensor, batch: Batch, shape: AttentionShape, bias: Tensor | None) -> Tensor:
    """Returns the attention of sentences of one block each."""
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    assert qkv.is_contiguous() and qkv.shape[1] == width, (qkv.shape, qkv.stride(), width)
    assert bias is None or bias.is_contiguous(), bias.stride()
    out = qkv.new_empty(len(qkv), shape.heads * shape.head_dim)
    block = attention_block(batch.longest)
    heads_each, num_warps = ATTENTION_PROGRAM[block]
    heads_each = math.gcd(shape.heads, heads_each)
    attend_kernel[(len(batch.starts) - 1, shape.heads // heads_each)](
        out,
        qkv,
        batch.starts,
        bias,
        shape.scale,
        0 if bias is None else bias.shape[1] // 2,
        shape.heads,
        shape.kv_heads,
        shape.head_dim,
        block_dim=max(16, triton.next_power_of_2(shape.head_dim)),
        block=block,
        heads_each=heads_each,
        is_causal=shape.causal,
        window=-1 if shape.window is None else shape.window,
        num_warps=num_warps,
        num_stages=1,  # reading a head ahead would cost the shared memory of three other programs
    )
    return out


def _attend_long(qkv: Tensor, batch: Batch, shape: AttentionShape) -> Tensor:
    """Returns the attention of sentences of any length by PyTorch's flash attention."""
    assert varlen_attn is not None
    heads = qkv.view(len(qkv), -1, shape.head_dim)  # (L, heads + 2 kv_heads, d)
    query, key, value = heads.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
    if shape.heads != shape.kv_heads:  # the argument for it is younger than the function
        each = shape.heads // shape.kv_heads
        key, value = key.repeat_interleave(each, dim=1), value.repeat_interleave(each, dim=1)
    left = -1 if shape.window is None else shape.window
    window = (left, 0 if shape.causal else left)
    starts, longest = batch.starts, batch.longest
    y = varlen_attn(query, key, value, starts, starts, longest, longest, scale=shape.scale, window_size=window)
    assert isinstance(y, Tensor)
    return y.reshape(len(qkv), -1)


def _row_block(dim: int) -> tuple[int, int]:
    """Returns how many rows a program takes at a time, and the power of two that a row fits into."""
    block = triton.next_power_of_2(dim)
    return max(1, _ELEMENTS // block), block


def _has_flash_attention(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
