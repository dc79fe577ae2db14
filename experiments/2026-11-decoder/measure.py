"""Held-out quality of decoders on several corpora, one JSON file a decoder and corpus; what is there is not made again.

python measure.py --decoder smollm2=RUN/best.ckpt --decoder small=RUN/best.ckpt --stores A,B --out FOLDER
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from data.durable import write_json
from data.store import ConceptStore
from decoders.evaluation import evaluate_decoder
from decoders.loading import load_decoder
from lcm.checkpoint import open_encoder
from lcm.quiet import quiet


def measure(path: Path, store: ConceptStore, options: argparse.Namespace) -> dict[str, Any]:
    """Return what evaluate_decoder finds, with the time until the decoder was ready."""
    start = time.perf_counter()
    decoder = load_decoder(path, store.encoder)
    ready = time.perf_counter() - start
    encoder = open_encoder(store.encoder_name, store.encoder, f"the store {store.path}")
    corrections = options.corrections if decoder.arguments.get("corrects") else 0
    found = evaluate_decoder(
        decoder,
        encoder,
        store,
        split="test",
        num_sentences=options.sentences,
        seed=options.seed,
        before=decoder.arguments["before"],
        after=decoder.arguments["after"],
        cycle={"candidates": options.candidates, "corrections": corrections} if options.candidates > 1 else None,
    )
    return {**found, "ready_s": ready, "threads": torch.get_num_threads(), "corrections": corrections}


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", action="append", required=True, metavar="NAME=CHECKPOINT")
    parser.add_argument("--stores", required=True, help="folders, with commas between")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=100, help="of each corpus, 5 to 40 words")
    parser.add_argument("--candidates", type=int, default=8, help='1 leaves the row "best of" out')
    parser.add_argument("--corrections", type=int, default=0, help="of decoders that were trained to correct")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    options.out.mkdir(parents=True, exist_ok=True)
    for given in options.decoder:
        name, _, path = given.partition("=")
        for store in map(ConceptStore.open, options.stores.split(",")):
            target = options.out / f"{name}@{Path(store.path).name}.json"
            if target.exists():
                continue
            found = measure(Path(path), store, options)
            write_json(target, found)
            rows = {row: {key: round(v[0], 3) for key, v in values.items()} for row, values in found["rows"].items()}
            sys.stdout.write(f"{target.stem} {json.dumps(rows)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
