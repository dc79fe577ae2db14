"""What is around the products: the packed encoder by kind of operation, and the stages before and behind the model.

One pinned thread, CPU time; the stages on a corpus, the rates as medians of seven parts of it that take turns.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from pinned import pin
from sample import load_model, read_sentences, sample_sentences
from torch.profiler import ProfilerActivity, profile

from data.embed import Recipe, encode_shard, splitting_of
from data.plan import plan_shards
from data.readers import read_documents
from data.shards import write_shard
from data.splitters import make_splitter
from encoders.hashing import HashingEncoder
from encoders.packed import tokens
from encoders.packed.families import make_engine

KINDS = {
    "products": ("mkldnn::_linear_pointwise", "aten::addmm", "aten::linear"),
    "attention": ("scaled_dot_product",),
    "norms and sums": ("native_layer_norm", "aten::add", "aten::mean", "aten::sum"),
}
PARTS = 7
Write = Callable[[str, list[float], str], None]


class Zeros(HashingEncoder):
    """Takes no time."""

    def encode(self, sentences: list[str]) -> np.ndarray:
        return np.zeros((len(sentences), self.dim), np.float32)


def profile_packed(texts: list[str], write: Write) -> None:
    engine = make_engine(load_model(), torch.bfloat16, native=False)
    engine.encode(texts)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        engine.encode(texts)
    own = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    total, rest = sum(own.values()), 1.0
    for kind, names in KINDS.items():
        share = sum(value for key, value in own.items() if any(name in key for name in names)) / total
        rest -= share
        write(f"packed bfloat16: {kind}", [share], "of its operations")
    write("packed bfloat16: all else", [rest], "of its operations")


def time_tokenizers(texts: list[str], write: Write) -> None:
    model = load_model()
    tokenizer = model.tokenizer

    def as_it_comes(part: list[str]) -> None:
        for start in range(0, len(part), 32):
            tokenizer(part[start : start + 32], padding=True, truncation=True, max_length=256, return_tensors="pt")

    ways: dict[str, Callable[[list[str]], object]] = {
        "tokeniser, as sentence-transformers calls it": as_it_comes,
        "tokeniser, Hugging Face's, as we call it": tokens._HuggingFace(tokenizer, 256),
    }
    fastest = tokens.Tokenizer(tokenizer, 256)
    if fastest.library == "nanotoken":
        ways["tokeniser, nanotoken"] = fastest
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(PARTS):
        part = texts[number::PARTS]
        for name in list(ways)[:: -1 if number % 2 else 1]:
            begin = time.process_time()
            ways[name](part)
            rates[name].append(len(part) / (time.process_time() - begin))
    for name, values in rates.items():
        write(name, values, "sentences/s")


def time_stages(corpus: str, write: Write) -> None:
    documents = list(read_documents(corpus))
    begin = time.process_time()
    splitter = make_splitter("punkt", documents)
    write("learning the splitter", [time.process_time() - begin], "s of CPU")
    encoder = Zeros(384)
    recipe = Recipe(splitter, encoder)
    split = splitting_of(recipe)
    splitting, writing = [], []
    with tempfile.TemporaryDirectory() as folder:
        for plan in plan_shards(documents):
            begin = time.process_time()
            made = split(plan)
            splitting.append(len(made.texts) / (time.process_time() - begin))
            shard = encode_shard(made, encoder, lambda sentences, chars: None)
            begin = time.process_time()
            write_shard(Path(folder), shard, encoder.fingerprint, made.inputs)
            writing.append(len(made.texts) / (time.process_time() - begin))
    write("splitting", splitting, "sentences/s")
    write("writing a shard", writing, "sentences/s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sentences", type=int, default=512, help="of the profile")
    parser.add_argument("--corpus", default="austen")
    arguments = parser.parse_args()
    pin(1)
    out = csv.writer(sys.stdout, lineterminator="\n")

    def write(of: str, values: list[float], unit: str) -> None:
        shown = [
            f"{value:.3f}" if value < 100 else f"{value:.0f}" for value in (median(values), min(values), max(values))
        ]
        out.writerow(["around, 1 thread", of, *shown, unit, ""])

    sentences = read_sentences(arguments.corpus)
    profile_packed(sample_sentences(sentences, arguments.sentences), write)
    time_tokenizers(sentences, write)
    time_stages(arguments.corpus, write)


main()
