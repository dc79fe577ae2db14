"""What candidates and the fluency term are worth: cosine and BLEU of the best of k, on validation sentences.

Candidates are written once, the most at each temperature; every k and every weight chooses among the first k of them.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from data.store import ConceptStore
from decoders.cycle import CycleDecoder
from decoders.evaluation import held_out_pairs, score_texts, shown
from decoders.loading import load_decoder
from decoders.module import SentenceBatch
from decoders.names import lowercase_words, names_kept
from decoders.proposals import Proposals, propose
from encoders.encoder import SentenceEncoder, load_encoder

COUNTS, WEIGHTS = (1, 4, 8, 16), (0.0, 0.02, 0.05, 0.1)


def write(cycle: CycleDecoder, pairs: SentenceBatch, batch_size: int) -> Proposals:
    """Return the most candidates of every sentence, in the order of writing."""
    generator = Generator().manual_seed(0)
    texts: list[list[str]] = []
    means = []
    for i in shown(range(0, len(pairs), batch_size), f"temperature {max(cycle.temperatures)}"):
        some = slice(i, i + batch_size)
        found = propose(
            cycle.decoder,
            pairs.concepts[some],
            pairs.context[some],
            temperatures=cycle.temperatures,
            top_p=cycle.top_p,
            generator=generator,
        )
        texts += found.texts
        means.append(found.log_probability)
    return Proposals(texts, torch.cat(means))


def choose(written: Proposals, cosine: torch.Tensor, count: int, weight: float) -> list[str]:
    """Return the best of the first candidates of each sentence, given the cosine (N, candidates) of each."""
    score = (cosine + weight * written.log_probability)[:, :count]
    return [texts[i] for texts, i in zip(written.texts, score.argmax(1).tolist(), strict=True)]


def cosines(written: Proposals, pairs: SentenceBatch, encoder: SentenceEncoder) -> torch.Tensor:
    """Return the cosine (N, candidates) of each candidate with its concept."""
    flat = torch.from_numpy(encoder.encode([text for texts in written.texts for text in texts]))
    again = flat.unflatten(0, (len(pairs), -1))
    return torch.cosine_similarity(again, pairs.concepts[:, None], dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoder", type=Path, default=Path("artifacts/demo/decoder/best.ckpt"))
    parser.add_argument("--store", type=Path, default=Path("artifacts/bake/grimm"))
    parser.add_argument("--split", default="validation")
    parser.add_argument("--num_sentences", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=10)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.8])
    parser.add_argument("--top_p", type=float, default=0.9)
    parser.add_argument("--keep", type=Path, help="file to keep the candidates in, one a temperature")
    options = parser.parse_args()
    store, decoder = ConceptStore.open(options.store), load_decoder(options.decoder)
    encoder = load_encoder(decoder.encoder_name)
    bounds = {"num_sentences": options.num_sentences, "min_words": 5, "max_words": 40, "seed": 0}
    pairs = held_out_pairs(store, options.split, context_sentences=1, **bounds)
    writer = csv.writer(sys.stdout)
    small = lowercase_words([*pairs.sentences, *pairs.context])
    columns = (
        "temperature",
        "candidates",
        "fluency weight",
        "cosine",
        "BLEU",
        "names kept",
        "names",
        "log probability",
    )
    writer.writerow(columns)
    for temperature in options.temperatures:
        cycle = CycleDecoder(decoder, encoder, candidates=max(COUNTS), temperature=temperature, top_p=options.top_p)
        written = write(cycle, pairs, options.batch_size)
        if options.keep is not None:
            candidates = {"texts": written.texts, "log_probability": written.log_probability.tolist()}
            options.keep.with_suffix(f".{temperature}.json").write_text(json.dumps(candidates))
        cosine = cosines(written, pairs, encoder)
        for count in COUNTS:
            for weight in WEIGHTS if count > 1 else (0.0,):
                texts = choose(written, cosine, count, weight)
                found = score_texts(texts, pairs, encoder, np.random.default_rng(0))
                place = (cosine + weight * written.log_probability)[:, :count].argmax(1, keepdim=True)
                fluency = written.log_probability.gather(1, place).mean().item()
                kept, names = names_kept(texts, pairs.sentences, pairs.context, small)
                values = (f"{found['cosine'][0]:.4f}", f"{found['bleu'][0]:.2f}", kept, names, f"{fluency:.3f}")
                writer.writerow([temperature, count, weight, *values])
                sys.stdout.flush()


if __name__ == "__main__":
    main()
