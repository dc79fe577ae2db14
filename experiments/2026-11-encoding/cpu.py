"""Encoders of MiniLM on one pinned thread: sentences a CPU second, all engines in every round, and what they agree on.

Prints rows of results.csv. `--threads 2` measures the wall clock of both cores instead. Peers that are not installed
are left out and named on stderr; run.sh installs them beside the environment.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from peak import compile_peak
from peers import onnx_encoder, openvino_encoder
from pinned import pin
from sample import count_tokens, load_model, padded_tokens, read_sentences, sample_sentences

from encoders.packed.families import make_engine
from encoders.packed.native_library import native_reason

Encode = Callable[[list[str]], np.ndarray]
FLOPS_PER_TOKEN = 21_233_664  # of MiniLM's linear layers: 6 x 2 x (4 x 384^2 + 2 x 384 x 1536)


def engines(threads: int, compiled: bool) -> Iterator[tuple[str, Encode, bool]]:
    """Yields name, function, and whether it computes padding."""
    plain, half = load_model(), load_model().to(torch.bfloat16)
    yield "sentence-transformers float32", plain.encode, True
    yield (
        "sentence-transformers bfloat16",
        lambda texts: half.encode(texts, convert_to_tensor=True).float().numpy(),
        True,
    )
    yield "sentence-transformers bfloat16 autocast", autocast(plain), True
    if compiled:
        faster = load_model().to(torch.bfloat16)
        faster[0].auto_model = torch.compile(faster[0].auto_model, dynamic=True)
        yield (
            "sentence-transformers bfloat16 compiled",
            lambda texts: faster.encode(texts, convert_to_tensor=True).float().numpy(),
            True,
        )
    for name, make in (("ONNX Runtime float32", onnx_encoder), ("OpenVINO", openvino_encoder)):
        try:
            yield name, make(load_model(), threads), True
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    yield "packed float32", make_engine(plain, torch.float32, native=False).encode, False
    yield "packed bfloat16", make_engine(plain, torch.bfloat16, native=False).encode, False
    if reason := native_reason():
        print(f"the compiled kernel is left out: {reason}", file=sys.stderr)
    else:
        yield "compiled kernel", make_engine(plain, torch.bfloat16).encode, False


def autocast(model: torch.nn.Module) -> Encode:
    def encode(texts: list[str]) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return model.encode(texts)

    return encode


def measure_matmul(clock: Callable[[], float]) -> float:
    """Returns FLOP/s of large bfloat16 products in PyTorch, on random data."""
    a, b = torch.randn(2, 2048, 2048).bfloat16()
    start = clock()
    for _ in range(3):
        a @ b
    return 3 * 2 * 2048**3 / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    arguments = parser.parse_args()
    pin(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    texts = sample_sentences(read_sentences(), arguments.sentences)
    model = load_model()
    lengths = count_tokens(model, texts)
    total, padded = int(lengths.sum()), padded_tokens(texts, lengths)
    out = csv.writer(sys.stdout, lineterminator="\n")
    name = f"cpu, {arguments.threads} thread{'s' * (arguments.threads > 1)}"
    found = list(engines(arguments.threads, arguments.compile))
    expected = load_model().encode(texts)
    rates: dict[str, list[float]] = {engine: [] for engine, _, _ in found}
    measure_peak = compile_peak(clock)
    peaks, products = [], []
    for _, encode, _ in found:
        encode(texts)  # loads, compiles, warms up
    for pair in range(arguments.pairs):
        peaks.append(measure_peak() * arguments.threads)
        products.append(measure_matmul(clock))
        for engine, encode, _ in found if pair % 2 else reversed(found):
            start = clock()
            encode(texts)
            rates[engine].append(len(texts) / (clock() - start))
    for what, values in (
        ("peak of the instruction, bfloat16", peaks),
        ("large products in PyTorch, bfloat16", products),
    ):
        low, middle, high = (f"{value / 1e9:.0f}" for value in (min(values), median(values), max(values)))
        out.writerow([name, what, middle, low, high, "GFLOP/s", ""])
    for engine, encode, pads in found:
        concepts = encode(texts)
        cosine = (concepts * expected).sum(1) / np.linalg.norm(concepts, axis=1)
        for against in ("sentence-transformers float32", "sentence-transformers bfloat16"):
            ratios = [ours / theirs for ours, theirs in zip(rates[engine], rates[against], strict=True)]
            out.writerow([name, f"{engine}: times {against}", f"{median(ratios):.2f}", f"{min(ratios):.2f}",
                          f"{max(ratios):.2f}", f"x, {len(ratios)} pairs", f"{median(ratios):.2f}"])  # fmt: skip
        speed = median(rates[engine])
        share = [
            rate * total / len(texts) * FLOPS_PER_TOKEN / peak for rate, peak in zip(rates[engine], peaks, strict=True)
        ]
        for value, low, high, unit in (
            (f"{speed:.0f}", f"{min(rates[engine]):.0f}", f"{max(rates[engine]):.0f}", "sentences/s"),
            (f"{speed * total / len(texts):.0f}", "", "", "tokens/s"),
            (f"{median(share):.3f}", f"{min(share):.3f}", f"{max(share):.3f}", "of the peak"),
            (f"{padded / total if pads else 1:.3f}", "", "", "computed / real tokens"),
            (f"{cosine.mean():.6f}", f"{cosine.min():.6f}", "", "cosine with float32, mean and least"),
        ):
            out.writerow([name, engine, value, low, high, unit, ""])


main()
