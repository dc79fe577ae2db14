"""Kernels of an encoder over tokens without padding, for a GPU; `encoders.packed.triton_ops` launches them.

Sums, statistics and softmax are float32 whatever the tensors are. All tensors are contiguous; a row may begin beyond
2**31 elements, so that row offsets are 64 bits wide. What a sentence gets depends on its own tokens alone.
"""

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)
_SQRT_HALF = tl.constexpr(0.7071067811865476)
_TWICE_SQRT_2_OVER_PI = tl.constexpr(1.5957691216057308)


@triton.jit
def _normalize(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor | None,
    eps: float,
    dim: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """Returns rows (rows, block), which are zero behind `dim`, layer-normalised."""
    column = tl.arange(0, block)
    inside = column < dim
    mean = tl.sum(x, axis=1) / dim
    centred = tl.where(inside[None, :], x - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / dim
    y = centred * tl.rsqrt(variance + eps)[:, None]
    y = y * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        y += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)[None, :]
    return y


@triton.jit(do_not_specialize=["num_rows"])
def norm_kernel(
    out: tl.tensor,
    x: tl.tensor,
    residual: tl.tensor | None,
    weight: tl.tensor,
    bias: tl.tensor | None,
    num_rows: int,
    eps: float,
    dim: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write the layer normalisation of x + residual, (L, H); a program does `rows` rows."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.arange(0, block)
    mask = (row < num_rows)[:, None] & (column < dim)[None, :]
    offset = row.to(tl.int64)[:, None] * dim + column[None, :]
    summed = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    if residual is not None:
        summed += tl.load(residual + offset, mask=mask, other=0.0).to(tl.float32)
    y = _normalize(summed, weight, bias, eps, dim, block)
    tl.store(out + offset, y.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_rows"], do_not_specialize_on_alignment=["ids", "positions"])
def embed_kernel(
    out: tl.tensor,
    ids: tl.tensor,
    positions: tl.tensor,
    word: tl.tensor,
    position: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor | None,
    num_rows: int,
    eps: float,
    dim: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write the layer normalisation of word[ids] + position[positions], (L, H); a program does `rows` tokens."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.arange(0, block)
    mask = (row < num_rows)[:, None] & (column < dim)[None, :]
    token = tl.load(ids + row, mask=row < num_rows, other=0).to(tl.int64)
    place = tl.load(positions + row, mask=row < num_rows, other=0).to(tl.int64)
    x = tl.load(word + token[:, None] * dim + column[None, :], mask=mask, other=0.0).to(tl.float32)
    x += tl.load(position + place[:, None] * dim + column[None, :], mask=mask, other=0.0).to(tl.float32)
    y = _normalize(x, weight, bias, eps, dim, block)
    tl.store(out + row.to(tl.int64)[:, None] * dim + column[None, :], y.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _activate(x: tl.tensor, activation: tl.constexpr) -> tl.tensor:
    if activation == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * _SQRT_HALF))
    elif activation == "gelu_tanh":  # 0.5 (1 + tanh(z)) is sigmoid(2 z)
        x = x * tl.sigmoid((x + 0.044715 * x * x * x) * _TWICE_SQRT_2_OVER_PI)
    elif activation == "relu":
        x = tl.maximum(x, 0.0)
    elif activation == "silu":
        x = x * tl.sigmoid(x)
    return x


@triton.jit(do_not_specialize=["num_rows"])
def linear_kernel(
    out: tl.tensor,
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor | None,
    num_rows: int,
    in_dim: tl.constexpr,
    out_dim: tl.constexpr,
    activation: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block_depth: tl.constexpr,
) -> None:
    """Write activation(x weight^T + bias), (L, out); a program does a block of it.

    Programs that share rows come behind one another, so that x is read from the cache; the weight lies there anyway.
    """
    num_blocks: tl.constexpr = (out_dim + block_columns - 1) // block_columns
    row = (tl.program_id(0) // num_blocks) * block_rows + tl.arange(0, block_rows)
    column = (tl.program_id(0) % num_blocks) * block_columns + tl.arange(0, block_columns)
    depth = tl.arange(0, block_depth)
    # Beyond the edge the last row and column are read again: cheaper than a mask, and never written.
    x += tl.minimum(row, num_rows - 1).to(tl.int64)[:, None] * in_dim + depth[None, :]
    weight += tl.minimum(column, out_dim - 1)[None, :] * in_dim + depth[:, None]
    y = tl.zeros((block_rows, block_columns), dtype=tl.float32)
    for start in range(0, in_dim, block_depth):
        if in_dim % block_depth == 0:
            left = tl.load(x)
            right = tl.load(weight)
        else:
            left = tl.load(x, mask=(start + depth < in_dim)[None, :], other=0.0)
            right = tl.load(weight, mask=(start + depth < in_dim)[:, None], other=0.0)
        y = tl.dot(left, right, y, input_precision="ieee")
        x += block_depth
        weight += block_depth
    if bias is not None:
        y += tl.load(bias + column, mask=column < out_dim, other=0.0).to(tl.float32)[None, :]
    y = _activate(y, activation)
    mask = (row < num_rows)[:, None] & (column < out_dim)[None, :]
    tl.store(out + row.to(tl.int64)[:, None] * out_dim + column[None, :], y.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["middle"], do_not_specialize_on_alignment=["starts"])
def attend_kernel(
    out: tl.tensor,
    qkv: tl.tensor,
    starts: tl.tensor,
    bias: tl.tensor | None,
    scale: float,
    middle: int,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    block_dim: tl.constexpr,
    block: tl.constexpr,
    heads_each: tl.constexpr,
    is_causal: tl.constexpr,
    window: tl.constexpr,
) -> None:
    """Write the attention of sentences of at most `block` tokens; a program does one sentence and `heads_each` heads.

    A whole sentence is one block: softmax needs no second pass, and the products of queries and keys stay in registers.
    `bias` is (heads, 2 middle + 1) by place of the key minus place of the query; a window of -1 is none.
    """
    sentence = tl.program_id(0)
    start = tl.load(starts + sentence)
    length = tl.load(starts + sentence + 1) - start
    if length == 0:  # behind the last sentence of a captured graph
        return
    place = tl.arange(0, block)
    distance = place[None, :] - place[:, None]  # key minus query
    seen = (place < length)[None, :]
    if is_causal:
        seen = seen & (distance <= 0)
    if window >= 0:
        seen = seen & (distance <= window) & (distance >= -window)
    dim = tl.arange(0, block_dim)
    mask = (place < length)[:, None] & (dim < head_dim)[None, :]
    row = (start + place).to(tl.int64)[:, None]
    for index in range(heads_each):
        head = tl.program_id(1) * heads_each + index
        shared = head // (heads // kv_heads)
        first = qkv + row * ((heads + 2 * kv_heads) * head_dim) + dim[None, :]
        query = tl.load(first + head * head_dim, mask=mask, other=0.0)
        key = tl.load(first + (heads + shared) * head_dim, mask=mask, other=0.0)
        value = tl.load(first + (heads + kv_heads + shared) * head_dim, mask=mask, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * (scale * _LOG2_E)  # (block, block)
        if bias is not None:
            at = head * (2 * middle + 1) + middle + distance
            known = (place < length)[:, None] & (place < length)[None, :]
            scores += tl.load(bias + at, mask=known, other=0.0).to(tl.float32) * _LOG2_E
        scores = tl.where(seen, scores, float("-inf"))
        weights = tl.exp2(scores - tl.max(scores, axis=1)[:, None])
        total = tl.sum(weights, axis=1)
        y = tl.dot(weights.to(value.dtype), value, input_precision="ieee") / total[:, None]
        tl.store(out + row * (heads * head_dim) + head * head_dim + dim[None, :], y.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize_on_alignment=["starts"])
def pool_kernel(
    out: tl.tensor,
    x: tl.tensor,
    starts: tl.tensor,
    dim: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
    normalizes: tl.constexpr,
) -> None:
    """Write the mean of each sentence's tokens, by choice scaled to length 1; a program does one sentence."""
    sentence = tl.program_id(0)
    start = tl.load(starts + sentence)
    stop = tl.load(starts + sentence + 1)
    column = tl.arange(0, block)
    inside = column < dim
    total = tl.zeros((block,), dtype=tl.float32)
    for first in range(start, stop, rows):
        row = first + tl.arange(0, rows)
        mask = (row < stop)[:, None] & inside[None, :]
        part = tl.load(x + row.to(tl.int64)[:, None] * dim + column[None, :], mask=mask, other=0.0)
        total += tl.sum(part.to(tl.float32), axis=0)
    pooled = total / tl.maximum(stop - start, 1)
    if normalizes:
        pooled = pooled / tl.maximum(tl.sqrt(tl.sum(pooled * pooled, axis=0)), 1e-12)
    tl.store(out + sentence.to(tl.int64) * dim + column, pooled.to(out.dtype.element_ty), mask=inside)
