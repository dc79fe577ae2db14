"""Twenty held-out sentences, drawn with a fixed seed, beside what decoders make of their concepts.

python samples.py --decoder NAME=CKPT --stores A,B --out samples.md
"""

import argparse
from pathlib import Path

from data.store import ConceptStore
from decoders.cycle import CycleDecoder
from decoders.evaluation import held_out_pairs
from decoders.loading import load_decoder
from lcm.checkpoint import open_encoder
from lcm.manuscript import write_whole
from lcm.quiet import quiet

NUM = 20


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", required=True, metavar="NAME=CHECKPOINT")
    parser.add_argument("--stores", required=True, help="folders, with commas between")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    stores = [ConceptStore.open(path) for path in options.stores.split(",")]
    name, _, path = options.decoder.partition("=")
    decoder = load_decoder(path, stores[0].encoder)
    encoder = open_encoder(stores[0].encoder_name, stores[0].encoder, str(stores[0].path))
    cycle = CycleDecoder(decoder, encoder, candidates=options.candidates)
    lines = [
        f"# {NUM} held-out sentences and what {name} writes for their concepts\n",
        f"Drawn with seed {options.seed}, 5 to 40 words; the decoder is given the true text before. In brackets the "
        "cosine of the text, encoded again, with the concept.\n",
    ]
    for i, store in enumerate(stores):
        num = NUM // len(stores) + (i < NUM % len(stores))
        pairs = held_out_pairs(store, "test", num_sentences=num, min_words=5, max_words=40, seed=options.seed)
        first = decoder.decode(pairs.concepts, pairs.context)
        kept = cycle.decode_scored(pairs.concepts, pairs.context)
        for sentence, greedy, best in zip(pairs.sentences, first, kept.chosen, strict=True):
            lines.append(f"- {Path(store.path).name}: {' '.join(sentence.split())}")
            lines.append(f"  - greedy: {greedy}")
            lines.append(f"  - best of {options.candidates} ({best.cosine:.2f}): {best.text}")
    write_whole(options.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
