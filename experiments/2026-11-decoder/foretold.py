"""What a decoder makes of predicted concepts, given the text before: is its sentence nearer to them than others are?

python foretold.py --decoder NAME=CKPT --store STORE --predicted FOLDER --out FILE.json

For each held-out prediction: candidates, the best of which is encoded again; its cosine with the prediction is placed
among those of 1,000 random sentences of the corpus (`nearer`: share of these that are farther). Beside it the cosine
with the true next concept, and the nearest training sentence as a decoder that only looks up.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from data.durable import write_json
from data.store import ConceptStore
from decoders.cycle import CycleDecoder
from decoders.loading import load_decoder
from decoders.predicted import PredictedConcepts
from decoders.retrieval import RetrievalDecoder
from decoders.scores import bootstrap
from decoders.sentences import SentenceDataset
from lcm.checkpoint import open_encoder
from lcm.quiet import quiet


def nearer(own: Tensor, predicted: Tensor, others: Tensor) -> np.ndarray:
    """Return the share (N,) of concepts (M, D) that are farther from predictions (N, D) than a text's own (N, D)."""
    unit = torch.nn.functional.normalize
    cosine = (unit(own, dim=-1) * unit(predicted, dim=-1)).sum(-1, keepdim=True)
    return (unit(predicted, dim=-1) @ unit(others, dim=-1).T < cosine).float().mean(-1).numpy()


def main() -> None:
    """Measure decoders on the same predictions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", action="append", required=True, metavar="NAME=CHECKPOINT")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--predicted", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    store = ConceptStore.open(options.store)
    encoder = open_encoder(store.encoder_name, store.encoder, str(store.path))
    foretold = PredictedConcepts.open(options.predicted, store)
    dataset = SentenceDataset(store, store.split("test"), 2)
    known = np.flatnonzero(foretold.known(dataset.rows[:, 0], dataset.rows[:, 1]))
    chosen = np.random.default_rng(options.seed).permutation(known)[: options.sentences]
    pairs = dataset.batch(chosen)
    predicted = torch.from_numpy(foretold.concepts(dataset.rows[chosen, 0], dataset.rows[chosen, 1])).float()
    nearest = RetrievalDecoder.from_store(store)
    draw = torch.randint(len(nearest.sentences), (1000,), generator=Generator().manual_seed(options.seed)).tolist()
    others = torch.from_numpy(encoder.encode([nearest.sentences[i] for i in draw]))
    texts = {"nearest training sentence": nearest.decode(predicted)}
    for given in options.decoder:
        name, _, path = given.partition("=")
        decoder = load_decoder(path, store.encoder)
        cycle = CycleDecoder(decoder, encoder, candidates=options.candidates)
        level = float(decoder.predicted_level)
        texts[name] = cycle.decode(predicted, pairs.context, declared_level=level)
    found = {}
    for name, written in texts.items():
        own, random = torch.from_numpy(encoder.encode(written)), np.random.default_rng(options.seed)
        ones = np.ones(len(own))
        place = nearer(own, predicted, others)
        found[name] = {
            "cosine with the prediction": bootstrap(torch.cosine_similarity(own, predicted).numpy(), ones, random),
            "cosine with the true concept": bootstrap(
                torch.cosine_similarity(own, pairs.concepts.float()).numpy(), ones, random
            ),
            "nearer than this share of random sentences": bootstrap(place, ones, random),
            "predictions for which it is nearer than 99 %": bootstrap((place >= 0.99).astype(float), ones, random),
        }
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value[0]:.3f}" for key, value in found[name].items()) + "\n")
    write_json(options.out, {"num": len(chosen), "store": str(store.path), "rows": found})


if __name__ == "__main__":
    main()
