"""Limits of a card, our kernels against their alternatives at MiniLM's sizes, and where the time of a run goes."""

from collections.abc import Callable, Iterator
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.profiler import ProfilerActivity

from encoders.packed import triton_ops
from encoders.packed.ops import AttentionShape, Batch, TorchOps
from encoders.packed.pack import Pack
from encoders.packed.triton_ops import Tile, TritonOps

Write = Callable[..., None]
DIM, INNER = 384, 1536
REPEATS = 20
TILES = [
    Tile(128, 128, 64, 8, 3),
    Tile(128, 128, 64, 8, 4),
    Tile(128, 128, 32, 4, 4),
    Tile(64, 128, 64, 4, 4),
    Tile(128, 256, 64, 8, 3),
    Tile(64, 256, 64, 8, 3),
    Tile(128, 64, 64, 4, 4),
]


def seconds_each(run: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds of one run; on a GPU out of a graph of many, which hides what a launch costs the host."""
    run()
    if device.type != "cuda":
        start = perf_counter()
        run()
        return perf_counter() - start
    graph, start_event, end_event = torch.cuda.CUDAGraph(), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            run()
    graph.replay()
    start_event.record()
    graph.replay()
    end_event.record()
    torch.cuda.synchronize()
    return float(start_event.elapsed_time(end_event)) / 1000 / REPEATS


@torch.inference_mode()
def measure_limits(device: torch.device, write: Write) -> float:
    """Write the matmul peak on random data and the copy bandwidth; returns the peak in operations a second."""
    size = 8192 if device.type == "cuda" else 256
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    peaks = [2 * size**3 / seconds_each(lambda: left @ right, device) for _ in range(5)]
    write("limit", f"{name}: bfloat16 product of {size}", [peak / 1e12 for peak in peaks], "TFLOP/s")
    source = torch.randn(2**28 if device.type == "cuda" else 2**18, device=device)
    target = torch.empty_like(source)
    rates = [2 * source.nbytes / seconds_each(lambda: target.copy_(source), device) for _ in range(5)]
    write("limit", f"{name}: copy, read and written", [rate / 1e9 for rate in rates], "GB/s")
    return float(np.median(peaks))


def compare_kernels(
    device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[str, str, float, dict[str, Callable[[], float]]]]:
    """Yields (what, unit, work, seconds of each variant)."""
    tokens = 16384 if device.type == "cuda" else 256
    yield "product with GELU", "TFLOP/s", 2 * tokens * DIM * INNER / 1e12, _products(tokens, device, dtype)
    for longest in (16, 32, 64, 128):
        what = f"attention, 12 heads of 32, sentences up to {longest}"
        yield what, "Mtokens/s", tokens / 1e6, _attention(tokens, longest, device, dtype)
    yield "add and normalise", "Mtokens/s", tokens / 1e6, _norms(tokens, device, dtype)


def _timed(run: Callable[[], object], device: torch.device) -> Callable[[], float]:
    def measure() -> float:
        with torch.inference_mode():
            return seconds_each(run, device)

    return measure


def _products(tokens: int, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], float]]:
    x, weight = (
        torch.randn(tokens, DIM, device=device, dtype=dtype),
        torch.randn(INNER, DIM, device=device, dtype=dtype),
    )
    bias = torch.randn(INNER, device=device, dtype=dtype)
    runs: dict[str, Callable[[], Tensor]] = {
        "cuBLAS, then GELU": lambda: F.gelu(F.linear(x, weight, bias)),
        "cuBLAS, without GELU": lambda: F.linear(x, weight, bias),
        "cuBLASLt, tanh inside": lambda: torch._addmm_activation(bias, x, weight.t(), use_gelu=True),
    }
    for tile in TILES if device.type == "cuda" else TILES[:1]:
        linear = TritonOps(device, dtype, tile=tile).linear(weight, bias, "gelu")
        name = f"Triton, {tile.rows} x {tile.columns} x {tile.depth}, {tile.num_warps} warps, {tile.num_stages} stages"
        runs[name] = lambda linear=linear: linear(x)
    return {name: _timed(run, device) for name, run in runs.items()}


def _attention(tokens: int, longest: int, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], float]]:
    generator = np.random.default_rng(longest)
    lengths = np.sort(generator.integers(longest // 2 + 1, longest + 1, tokens // longest))
    pack = Pack(np.arange(len(lengths)), np.zeros(lengths.sum(), dtype=np.int32), lengths)
    batch, shape = Batch.of(pack, device), AttentionShape(12, 12, 32, 32**-0.5)
    qkv = torch.randn(len(pack.ids), 3 * DIM, device=device, dtype=dtype)
    fused, plain = TritonOps(device, dtype), TorchOps(device, dtype)
    runs: dict[str, Callable[[], Tensor]] = {
        "varlen_attn": lambda: triton_ops._attend_long(qkv, batch, shape),
        "ours": lambda: fused.attend(qkv, batch, shape),
        "scaled_dot_product_attention by runs": lambda: plain.attend(qkv, batch, shape),
    }
    return {name: _timed(run, device) for name, run in runs.items()}


def _norms(tokens: int, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], float]]:
    x, residual = (torch.randn(tokens, DIM, device=device, dtype=dtype) for _ in range(2))
    weight, bias = torch.randn(DIM), torch.randn(DIM)
    runs = {"plain PyTorch": TorchOps(device, dtype), "ours": TritonOps(device, dtype)}
    norms = {name: ops.add_norm(weight, bias, 1e-12) for name, ops in runs.items()}
    return {name: _timed(lambda norm=norm: norm(x, residual), device) for name, norm in norms.items()}


def profile(name: str, work: Callable[[], object], is_gpu: bool, write: Write) -> None:
    """Write the share of the time that the card stands still, and what the rest goes to."""
    if not is_gpu:
        write("idle", name, "not run", "share")
        return
    work()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
        start = perf_counter()
        work()
        torch.cuda.synchronize()
        wall = 1e6 * (perf_counter() - start)  # microseconds, as the profiler's
    events = [event for event in profiler.events() or [] if event.device_type == DeviceType.CUDA]
    spans = sorted((event.time_range.start, event.time_range.end) for event in events if "Memcpy" not in event.name)
    busy = end = 0.0
    for first, last in spans:  # streams overlap: count no moment twice
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    write("idle", name, [1 - busy / wall], "share")
    shares: dict[str, float] = {}
    for event in events:
        shares[event.name] = shares.get(event.name, 0.0) + event.time_range.elapsed_us()
    for kernel in sorted(shares, key=lambda kernel: -shares[kernel])[:14]:
        write(f"profile, {name}", kernel[:90], [shares[kernel] / wall], "share of the time")
