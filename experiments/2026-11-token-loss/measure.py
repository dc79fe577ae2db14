"""What concept models are worth as text and as concepts on held-out tales, before and after a second stage.

python experiments/2026-11-token-loss/measure.py STORE DECODER NAME=CHECKPOINT ...
"""

import sys

import numpy as np
import torch
from torch import Generator, Tensor

from data.store import ConceptStore
from data.texts_module import TextDataModule
from decoders.loading import load_decoder
from decoders.prefix import PrefixDecoder
from decoders.scores import bootstrap
from lcm.checkpoint import load_model
from lcm.evaluation import HeldOut, measure, predictor
from lcm.metrics import Interval
from lcm.token_loss import draw_targets

NUM_TEXTS = 48


def main(store_path: str, decoder_path: str, *named: str) -> None:
    """Print a row for each checkpoint."""
    torch.manual_seed(0)
    store = ConceptStore.open(store_path)
    decoder = load_decoder(decoder_path, store.encoder)
    module = TextDataModule(store_path, length=64, stride=64, batch_size=64, end_of_text=False)
    batch = next(iter(module.val_dataloader()))
    row, position = draw_targets(batch, NUM_TEXTS, Generator().manual_seed(0)).unbind(-1)
    texts = module.texts(batch.place[row, position])
    sentences, before = [text.text for text in texts], [text.before for text in texts]
    held_out = HeldOut.from_store(store, "validation")
    true = batch.concepts[row, position]
    print("| concepts | nats a token | scaled to length 1 | mean length | contrastive accuracy | l2 |")
    print("|---|---|---|---|---|---|")
    print(f"| true | {nats(decoder, true, sentences, before)} | | {true.norm(dim=-1).mean():.2f} | | |")
    print(f"| of another sentence | {nats(decoder, true.roll(1, 0), sentences, before)} | | | | |")
    print(f"| none | {nats(decoder, None, sentences, before)} | | | | |")
    for each in named:
        name, path = each.split("=")
        trained = load_model(path, store.encoder)
        concepts = trained.model.predict(batch, generator=Generator().manual_seed(0))[row, position]
        scaled = torch.nn.functional.normalize(concepts, dim=-1)
        found = measure(name, predictor(trained.model, length=trained.length), held_out).row()
        cells = [nats(decoder, some, sentences, before) for some in (concepts, scaled)]
        cells += [f"{concepts.norm(dim=-1).mean():.2f}", *(shown(found[key]) for key in ("contrastive accuracy", "l2"))]
        print("|", " | ".join([name, *cells]), "|", flush=True)


def nats(decoder: PrefixDecoder, concepts: Tensor | None, sentences: list[str], before: list[str]) -> str:
    """Return nats a token of the sentences given raw concepts (N, D), with a 95 % bootstrap interval."""
    parts = [slice(i, i + 8) for i in range(0, len(sentences), 8)]
    scores = [decoder.nll(None if concepts is None else concepts[p], sentences[p], before[p]) for p in parts]
    total, count = (torch.cat([getattr(s, n) for s in scores]).double().numpy() for n in ("total", "num_tokens"))
    value, low, high = bootstrap(total, count, np.random.default_rng(0))
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


def shown(value: object) -> str:
    """Return a mean with the half width of its 95 % interval over documents."""
    assert isinstance(value, Interval)
    return f"{value.mean:.3f} ± {value.half_width:.3f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
