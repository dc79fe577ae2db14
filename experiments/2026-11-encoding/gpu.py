"""Encoding on a GPU: limits of the card, kernels against their alternatives, and sentence-transformers against us.

Rates are medians over rounds in which all variants of a table take turns. --device cpu goes through the same steps at a
tiny size; with TRITON_INTERPRET=1 the kernels run there too.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import gpu_kernels
import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from encoders.packed.bert import BertWeights, PackedBert
from encoders.packed.bert_readers import read_bert
from encoders.packed.ops import Batch, TorchOps
from encoders.packed.pack import Pack, pack_tokens
from encoders.packed.pooling import read_pooling
from encoders.packed.tokens import Tokenizer, Tokens
from encoders.packed.triton_ops import TritonOps
from encoders.sentence_transformer import SentenceTransformerEncoder, find_model

BUDGETS = (8192, 16384, 32768)
WINDOW = 4096  # sentences that the engine sorts together
Embed = Callable[[Batch], Tensor]
Variants = dict[str, Callable[[], float]]  # name to seconds a unit of work


def write(what: str, of: str, samples: list[float] | str, unit: str, ratio: float | str = "-") -> None:
    values = [samples] * 3 if isinstance(samples, str) else [median(samples), min(samples), max(samples)]
    shown = [value if isinstance(value, str) else f"{value:.4g}" for value in (*values, ratio)]
    csv.writer(sys.stdout, lineterminator="\n").writerow([what, of, *shown[:3], unit, shown[3]])
    sys.stdout.flush()


def compare(what: str, variants: Variants, unit: str, work: float, rounds: int) -> dict[str, float]:
    """Write work/seconds of each variant, and its ratio to the first; returns the medians of the rates."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    refused: dict[str, str] = {}
    for turn in range(rounds + 1):
        names = list(variants) if turn % 2 else list(reversed(variants))
        for name in names:
            if name in refused:
                continue
            try:
                rates[name].append(work / variants[name]())
            except (RuntimeError, NotImplementedError, TypeError) as error:  # a card or a PyTorch that lacks it
                refused[name] = "OOM" if isinstance(error, torch.OutOfMemoryError) else "not run"
                print(f"{what}, {name}: {str(error).splitlines()[0]}", file=sys.stderr)
    first = next(iter(variants))
    for name, samples in rates.items():
        if name in refused:
            write(what, name, refused[name], unit)
        elif first in refused:
            write(what, name, samples[1:], unit)
        else:  # the first round warms up
            pairs = [a / b for a, b in zip(samples[1:], rates[first][1:], strict=True)]
            write(what, name, samples[1:], unit, median(pairs))
    return {name: median(samples[1:]) for name, samples in rates.items() if name not in refused}


class Bench:
    """What is measured, on one device: a model, its sentences and its tokens."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        self.is_gpu = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if self.is_gpu else torch.float16
        self.folder = str(find_model(options.model))
        lines = [line for line in Path(options.text).read_text(encoding="utf-8").splitlines() if line.strip()]
        times = -(-options.sentences // len(lines))
        self.sentences = (lines * times)[: options.sentences]
        self.model = self.load(torch.float32)
        self.weights: BertWeights = read_bert(self.model[0].auto_model)
        self.tokens: Tokens = Tokenizer(self.model.tokenizer, self.model.max_seq_length)(self.sentences)

    def load(self, dtype: torch.dtype) -> SentenceTransformer:
        model = SentenceTransformer(self.folder, device=str(self.device), local_files_only=True)
        return model.to(dtype)  # whatever the file holds

    def seconds(self, run: Callable[[], object]) -> float:
        self.wait()
        start = perf_counter()
        run()
        self.wait()
        return perf_counter() - start

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def packs(self, budget: int) -> list[Pack]:
        ids, lengths = self.tokens.ids, self.tokens.lengths
        ends = np.concatenate([[0], np.cumsum(lengths)])
        starts = range(0, len(lengths), WINDOW)
        return [
            pack
            for start in starts
            for pack in pack_tokens(
                ids[ends[start] : ends[min(start + WINDOW, len(lengths))]], lengths[start : start + WINDOW], budget
            )
        ]

    def embed(self, ops: TorchOps | TritonOps) -> Embed:
        encoder, pooling = PackedBert(self.weights, ops), read_pooling(self.model, self.device)
        return lambda batch: pooling(encoder(batch), batch, ops)

    def flops(self) -> float:
        """Operations that all sentences need: products of the layers, and attention."""
        each = sum(
            part.weight.numel()
            for layer in self.weights.layers
            for part in (layer.qkv, layer.out, layer.up, layer.down)
        )
        width = self.weights.word.shape[1] * len(self.weights.layers)
        return 2.0 * each * len(self.tokens.ids) + 4.0 * width * float((self.tokens.lengths**2).sum())


@torch.inference_mode()
def single_launches(embed: Embed, packs: list[Pack], device: torch.device) -> list[np.ndarray]:
    return [embed(Batch.of(pack, device)).cpu().numpy() for pack in packs]


def ours(bench: Bench) -> tuple[Variants, Callable[[], list[np.ndarray]]]:
    """Returns the engine from tokens on, at each budget and without each of its parts; and the best guess of it."""
    fused, plain = TritonOps(bench.device, bench.dtype), TorchOps(bench.device, bench.dtype)
    embed = bench.embed(fused)
    middle = bench.packs(BUDGETS[1])
    variants: Variants = {}

    def graphed(budget: int) -> Callable[[], list[np.ndarray]]:
        if not bench.is_gpu:
            return lambda: single_launches(embed, bench.packs(budget), bench.device)
        from encoders.packed.cuda_graphs import GraphedEncoder

        encoder = GraphedEncoder(embed, budget=budget, longest_block=fused.longest_block, device=bench.device)
        packs = bench.packs(budget)
        return lambda: [rows.copy() for rows in encoder.encode(packs)]

    for budget in BUDGETS:
        run = graphed(budget)
        variants[f"engine from tokens, budget {budget}"] = lambda run=run: bench.seconds(run)
    others = {
        "no graphs, copies in series": embed,
        "cuBLAS, then GELU; no graphs": bench.embed(TritonOps(bench.device, bench.dtype, tile=None)),
        "plain PyTorch, packed; no graphs": bench.embed(plain),
    }
    for name, other in others.items():
        variants[f"engine from tokens, {name}"] = lambda other=other: bench.seconds(
            lambda: single_launches(other, middle, bench.device)
        )
    return variants, graphed(BUDGETS[1])


def peers(bench: Bench) -> Variants:
    """Returns sentence-transformers from text on; a rate is for all sentences, the default sees a tenth of them."""
    variants: Variants = {}

    def add(name: str, model: SentenceTransformer, batch_size: int, share: int) -> None:
        some = bench.sentences[:: max(1, share)]

        def run() -> float:
            seconds = bench.seconds(lambda: model.encode(some, batch_size=batch_size, show_progress_bar=False))
            return seconds * len(bench.sentences) / len(some)

        variants[f"sentence-transformers, {name}"] = run

    add("float32, batch 32 (the default)", bench.model, 32, 10)
    bfloat16 = bench.load(torch.bfloat16)
    for batch_size in (32, 256, 1024, 4096):
        add(f"bfloat16, batch {batch_size}", bfloat16, batch_size, 10 if batch_size == 32 else 2)
    add("float16, batch 1024", bench.load(torch.float16), 1024, 2)
    engine = SentenceTransformerEncoder(bench.folder, device=str(bench.device))
    variants["engine from text"] = lambda: bench.seconds(lambda: engine.encode(bench.sentences))
    return variants


def agreement(bench: Bench) -> None:
    """Write the cosines of the engine with sentence-transformers in float32."""
    some = bench.sentences[:: max(1, len(bench.sentences) // 4096)]
    engine = SentenceTransformerEncoder(bench.folder, device=str(bench.device))
    reference = bench.model.encode(some, show_progress_bar=False)
    cosine = (engine.encode(some) * reference).sum(axis=1)
    write("agreement", "engine, cosine with float32: mean", [float(cosine.mean())], "cosine")
    write("agreement", "engine, cosine with float32: least", [float(cosine.min())], "cosine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True, help="a file with a sentence in each line")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sentences", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    bench = Bench(parser.parse_args())
    rounds = parser.parse_args().rounds
    peak = gpu_kernels.measure_limits(bench.device, write)
    for what, unit, work, variants in gpu_kernels.compare_kernels(bench.device, bench.dtype):
        compare(what, variants, unit, work, rounds)
    number, flops = len(bench.sentences), bench.flops()
    write("corpus", "sentences", [float(number)], "sentences")
    write("corpus", "tokens a sentence", [len(bench.tokens.ids) / number], "tokens")
    from_tokens, run = ours(bench)
    for name, rate in compare("encode", peers(bench) | from_tokens, "sentences/s", number, rounds).items():
        write("share of the matmul peak", name, [rate * flops / number / peak], "share")
    agreement(bench)
    engine = SentenceTransformerEncoder(bench.folder, device=str(bench.device))
    gpu_kernels.profile("engine from tokens", run, bench.is_gpu, write)
    gpu_kernels.profile("engine from text", lambda: engine.encode(bench.sentences), bench.is_gpu, write)


if __name__ == "__main__":
    main()
