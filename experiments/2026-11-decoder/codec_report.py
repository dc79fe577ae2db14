"""What a codec's training did: decoding, next-concept prediction and similarities, before and after.

python codec_report.py --old STORE --old_decoder CKPT --new STORE --new_decoder CKPT --out codec.json

Both stores are of one corpus, the new one encoded by the codec's encoder; a table goes to stdout.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from data.store import ConceptStore
from decoders.evaluation import evaluate_decoder
from decoders.loading import load_decoder
from lcm import evaluation, metrics
from lcm.baselines import fit_baselines
from lcm.checkpoint import open_encoder
from lcm.quiet import quiet
from lcm.table import to_markdown

MAX_NEIGHBOURHOOD = 5000  # sentences among which neighbours are looked for
Documents = list[tuple[Tensor, Tensor]]


def main(
    *,
    old: Path,
    old_decoder: Path,
    new: Path,
    new_decoder: Path,
    out: Path,
    num_sentences: int = 300,
    num_pairs: int = 5000,
    seed: int = 0,
) -> None:
    """Measure both and write all numbers to a JSON file.

    Args:
        old: store of the original encoder.
        old_decoder: decoder of the original encoder.
        new: store of the same corpus, of the codec's encoder.
        new_decoder: the codec's decoder.ckpt.
        out: file to write.
        num_sentences: held-out sentences that each decoder writes.
        num_pairs: pairs of held-out sentences whose cosines are compared.
        seed: of all draws.
    """
    quiet()
    stores = {"original": ConceptStore.open(old), "codec": ConceptStore.open(new)}
    decoders = {"original": old_decoder, "codec": new_decoder}
    found: dict[str, Any] = {"similarity": similarity(*stores.values(), num_pairs, seed)}
    for name, store in stores.items():
        found[name] = {
            "next": next_concept(store, seed),
            "decoding": decoding(store, decoders[name], num_sentences, seed),
        }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(table(found))


def decoding(store: ConceptStore, checkpoint: Path, num_sentences: int, seed: int) -> dict[str, Any]:
    """Return what `evaluate_decoder` says of a decoder on the test documents of its store, written greedily."""
    encoder = open_encoder(store.encoder_name, store.encoder, f"the store {store.path}")
    decoder = load_decoder(checkpoint, store.encoder)
    return evaluate_decoder(decoder, encoder, store, num_sentences=num_sentences, seed=seed)


def next_concept(store: ConceptStore, seed: int) -> dict[str, list[float]]:
    """Return [mean, half width] of what a ridge predictor reaches, and copying the last concept beside it."""
    held_out = evaluation.HeldOut.from_store(store, "test", seed=seed)
    predictors = {"copy the last": lambda concepts, _: metrics.copy_last(concepts)}
    predictors |= fit_baselines([store], seed=seed).predictors
    found = {}
    for name in ("ridge regression", "copy the last"):
        row = evaluation.measure(name, predictors[name], held_out).row()
        for column in ("contrastive accuracy", "R@10"):
            value = row[column]
            assert isinstance(value, metrics.Interval)
            found[f"{name}, {column}"] = [value.mean, value.half_width]
    return found


def similarity(old: ConceptStore, new: ConceptStore, num_pairs: int, seed: int) -> dict[str, float]:
    """Return how much of the similarities of held-out sentences is as it was.

    `spearman` of the cosines of random pairs, the share of their variance that is `lost`, the root mean squared error
    of cosines, and the share of ten nearest neighbours that are the same.
    """
    from scipy.stats import spearmanr

    sentences = [sentences_of(store) for store in (old, new)]
    if sentences[0][0] != sentences[1][0]:
        raise ValueError(f"the stores {old.path} and {new.path} hold other test sentences; encode one corpus twice")
    one, other = (torch.nn.functional.normalize(concepts, dim=-1) for _, concepts in sentences)
    generator = Generator().manual_seed(seed)
    first = torch.randint(len(one), (num_pairs,), generator=generator)
    second = (first + torch.randint(1, len(one), (num_pairs,), generator=generator)) % len(one)  # never itself
    before, after = ((v[first] * v[second]).sum(-1) for v in (one, other))
    error = (after - before).square().mean()
    chosen = torch.randperm(len(one), generator=generator)[:MAX_NEIGHBOURHOOD]
    return {
        "num_sentences": len(one),
        "num_pairs": num_pairs,
        "spearman": float(spearmanr(before.numpy(), after.numpy()).statistic),
        "lost": float(error / before.var()),
        "rms error of cosines": float(error.sqrt()),
        "neighbours kept of 10": neighbours_kept(one[chosen], other[chosen], 10),
    }


def sentences_of(store: ConceptStore) -> tuple[list[str], Tensor]:
    """Return the test sentences (level 0) of a store and their raw concepts (N, D)."""
    texts: list[str] = []
    documents: Documents = []
    for i in store.split("test").tolist():
        documents.append(evaluation.read_document(store, i))
        texts += [text for text, level in zip(store.sentences(i), store.levels(i), strict=True) if level == 0]
    return texts, evaluation.sentences_of(documents)


def neighbours_kept(one: Tensor, other: Tensor, num: int) -> float:
    """Return which share of each unit vector's nearest `num`, itself left out, is the same in two spaces (N, D)."""
    kept = []
    for rows in torch.arange(len(one)).split(512):
        nearest = []
        for space in (one, other):
            cosine = space[rows] @ space.T
            cosine[torch.arange(len(rows)), rows] = -torch.inf
            nearest.append(cosine.topk(num).indices)
        kept.append((nearest[0][:, :, None] == nearest[1][:, None]).any(-1).float().mean(-1))
    return float(torch.cat(kept).mean())


def table(found: dict[str, Any]) -> str:
    """Return both as Markdown."""
    rows = []
    for name in ("original", "codec"):
        decoded, following = found[name]["decoding"], found[name]["next"]
        row = {"encoder": name}
        for column in ("bleu", "cosine", "exact"):
            value = decoded["rows"]["decoder"].get(column)
            row[column] = "no short sentence" if value is None else show(value)
        row["nats carried"] = show(decoded["nats_carried"]["against no concept"])
        row["ridge CA"] = "{:.3f} +- {:.3f}".format(*following["ridge regression, contrastive accuracy"])
        row["copy CA"] = "{:.3f} +- {:.3f}".format(*following["copy the last, contrastive accuracy"])
        rows.append(row)
    kept = ", ".join(f"{key} {value:.4g}" for key, value in found["similarity"].items())
    return f"{to_markdown(rows)}\nSimilarities of test sentences, codec against original: {kept}.\n"


def show(interval: list[float]) -> str:
    """Return [value, low, high] as text."""
    value, low, high = np.round(interval, 3)
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
