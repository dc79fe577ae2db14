"""From a text file to a store on one pinned thread, against the encoder's matrix products alone, in CPU seconds.

Reading, splitting, tokenising, all that is no product in the encoder, checksums and writing are what is above. The
products are MiniLM's linear layers on as many tokens, by the compiled kernel's peer: oneDNN with prepacked weights.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from pinned import pin
from sample import count_tokens, load_model, read_sentences

from data.encode import encode_corpus
from data.readers import read_documents
from encoders.packed.ops import TorchOps
from encoders.sentence_transformer import SentenceTransformerEncoder

LAYERS, WIDTH, INNER = 6, 384, 1536
BUDGET = 4096  # tokens a product, as the packed encoder does them


def multiply(num_tokens: int) -> float:
    """Returns the CPU seconds of the linear layers on random data."""
    ops = TorchOps(torch.device("cpu"), torch.bfloat16)
    shapes = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (INNER, WIDTH), (WIDTH, INNER)]
    linears = [ops.linear(torch.randn(shape), torch.randn(shape[0])) for shape in shapes for _ in range(LAYERS)]
    inputs = {width: torch.randn(BUDGET, width).bfloat16() for width in (WIDTH, INNER)}
    widths = [shape[1] for shape in shapes for _ in range(LAYERS)]
    with torch.inference_mode():
        seconds = 0.0
        for start in range(0, num_tokens, BUDGET):
            rows = min(BUDGET, num_tokens - start)
            begin = time.process_time()
            for linear, width in zip(linears, widths, strict=True):
                linear(inputs[width][:rows])
            seconds += time.process_time() - begin
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--sentences", type=int, default=4000)
    arguments = parser.parse_args()
    pin(1)
    sentences = read_sentences()[: arguments.sentences]
    encoder = SentenceTransformerEncoder("minilm", dtype="bfloat16")
    encoder.encode(sentences[:64])
    out = csv.writer(sys.stdout, lineterminator="\n")
    shares, rates, alone = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "book.txt"
        text.write_text("\n\n".join(sentences))
        for pair in range(arguments.pairs):
            begin = time.process_time()
            store = encode_corpus(read_documents(str(text)), encoder, Path(folder) / str(pair), progress=False)
            road = time.process_time() - begin
            texts = [sentence for number in range(len(store)) for sentence in store.sentences(number)]
            products = multiply(int(count_tokens(load_model(), texts).sum()))
            begin = time.process_time()
            encoder.encode(texts)
            model = time.process_time() - begin
            shares.append(products / road)
            alone.append(model / road)
            rates.append(len(texts) / road)
    name = f"road of {len(sentences):,} sentences, 1 thread"
    for what, values, unit in (
        ("text file to store", rates, "sentences/s"),
        ("products of oneDNN alone", shares, "of the road's seconds"),
        ("encoder alone", alone, "of the road's seconds"),
    ):
        row = [f"{value:.3f}" if value < 10 else f"{value:.0f}" for value in (median(values), min(values), max(values))]
        out.writerow([name, what, *row, unit, ""])


main()
