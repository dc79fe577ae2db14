"""What "lcm probe" measures of one encoder: plain values that JSON holds, each interval as [value, low, high]."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from data.encode import encode_corpus
from data.readers import read_documents
from data.report import ReadReport
from data.store import ConceptStore
from decoders.evaluation import held_out_pairs, score_nll
from decoders.loading import load_decoder
from decoders.module import SentenceBatch
from decoders.prefix import PrefixDecoder
from encoders.encoder import SentenceEncoder
from lcm import evaluation, metrics
from lcm.baselines import fit_baselines
from lcm.fragility import BINS, LEVELS, ReadBack, read_back
from lcm.metrics import Interval
from lcm.spectrum import dims_for, effective_rank, eigenvalues
from lcm.word_probe import WordProbe, read_texts

CONFIG = Path(__file__).parents[1] / "configs" / "decoder.yaml"
PREDICTORS = ("ridge regression", "recent mean", "copy the last")


@dataclass(frozen=True)
class Budget:
    """What every encoder of a probe is given alike.

    Attributes:
        source: corpus, file or folder.
        steps: training steps of the decoder; 0 trains none.
        num_sentences: held-out sentences that it writes, a quarter of them in each bin of lengths.
        seed: of all randomness.
        llm: language model of the decoder.
    """

    source: str
    steps: int
    num_sentences: int
    seed: int = 0
    llm: str = "smollm2"


def probe_encoder(encoder: SentenceEncoder, budget: Budget, out: Path) -> dict[str, Any]:
    """Measure an encoder; its store goes under out/stores and its decoder under out/decoders.

    Raises:
        ValueError: the text is too short to hold documents out, or to tell words apart.
    """
    seconds: dict[str, dict[str, float]] = {}
    name = folder_name(encoder)
    with timed(seconds, "encoding"):
        store = open_store(encoder, budget.source, out / "stores")
    with timed(seconds, "words, spectrum and next concept"):
        found = {
            "encoder": encoder.name.removeprefix(f"{Path.cwd()}/"),
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "documents": {split: len(store.split(split)) for split in ("train", "validation", "test")},
            "words": measure_words(store, budget.seed),
            "spectrum": measure_spectrum(store),
            "next": measure_next(store, budget.seed),
        }
    if budget.steps:
        with timed(seconds, "training the decoder"):
            decoder = train_decoder(store, budget, out / "decoders" / name)
        with timed(seconds, "decoding"):
            found["decoder"] = measure_decoder(decoder, encoder, store, budget)
    return {**found, "seconds": seconds}


def folder_name(encoder: SentenceEncoder) -> str:
    """Return a name for an encoder's folders: another version of a model has another one."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', encoder.name).strip('-')[-40:]}-{crc32(encoder.fingerprint.encode()):08x}"


def open_store(encoder: SentenceEncoder, source: str, folder: Path) -> ConceptStore:
    """Encode a corpus as "lcm encode" does; what is there already stays."""
    corpus = re.sub(r"[^A-Za-z0-9]+", "-", Path(source).stem)[-40:]
    path = folder / f"{corpus}-{crc32(source.encode()):08x}-{folder_name(encoder)}"
    return encode_corpus(read_documents(source, report=ReadReport()), encoder, path)


def measure_words(store: ConceptStore, seed: int) -> dict[str, Any]:
    """Return how well a linear map reads a held-out sentence's words off its concept, at each level of noise."""
    held_out = read_texts(store, "test")
    if not held_out:
        raise ValueError(f"the store {store.path} has no test document to measure on; probe with a longer text")
    probe = WordProbe(read_texts(store, "train"))
    found = [
        {"level": level, "average_precision": bounds(probe.average_precision(held_out, level, seed=seed))}
        for level in LEVELS
    ]
    chance = probe.average_precision(held_out, 1.0)
    return {
        "num_words": len(probe.ids),
        "num_sentences": chance.num_positions,
        "num_documents": chance.num_documents,
        "by_frequency": bounds(chance),
        "levels": found,
    }


def measure_spectrum(store: ConceptStore) -> dict[str, Any]:
    """Return how many dimensions the training concepts use."""
    concepts = evaluation.sentences_of(evaluation.read_document(store, int(i)) for i in store.split("train"))
    values = eigenvalues(concepts)
    return {
        "num_concepts": len(concepts),
        "effective_rank": effective_rank(values),
        "dims_90": dims_for(values, 0.9),
        "dims_99": dims_for(values, 0.99),
        "share": (values / values.sum()).tolist(),
    }


def measure_next(store: ConceptStore, seed: int) -> dict[str, Any]:
    """Return contrastive accuracy and R@10 of a ridge predictor of the next concept, and of what it has to beat."""
    held_out = evaluation.HeldOut.from_store(store, "test", seed=seed)
    fitted = fit_baselines([store], seed=seed)
    predictors = {"copy the last": lambda concepts, _: metrics.copy_last(concepts), **fitted.predictors}
    measured = {name: evaluation.measure(name, predictors[name], held_out) for name in PREDICTORS if name in predictors}
    found: dict[str, Any] = {
        "num_documents": len(held_out.concepts),
        "num_positions": sum(len(values) for values in measured["copy the last"].values["l2"]),
        "pool": len(held_out.pool),
        "note": fitted.note,
        "rows": {
            name: {key: bounds(metrics.mean_interval(one.values[key])) for key in ("contrastive accuracy", "R@10")}
            for name, one in measured.items()
        },
    }
    if "ridge regression" in measured:
        ahead = evaluation.difference(measured["ridge regression"], measured["copy the last"], "contrastive accuracy")
        found["ridge_ahead_of_copy"] = bounds(ahead)
    return found


def train_decoder(store: ConceptStore, budget: Budget, folder: Path) -> PrefixDecoder:
    """Train a decoder as "lcm fit -c configs/decoder.yaml" does, for the steps of the budget, and open it."""
    from lcm.cli import train

    if not CONFIG.is_file():
        raise FileNotFoundError(f"there is no {CONFIG}; probe from a checkout of the project, or with --steps 0")
    options = {
        "data.store": store.path,
        "data.seed": budget.seed,
        "model.seed": budget.seed,
        "model.decoder.init_seed": budget.seed,
        "model.decoder.llm": budget.llm,
        "trainer.max_steps": budget.steps,
        "trainer.max_time": "null",  # a slow machine takes longer; it does not give an encoder fewer steps
        "trainer.limit_val_batches": 0,
        "trainer.val_check_interval": budget.steps,
        "trainer.default_root_dir": folder,
    }
    args = [
        "fit",
        f"--seed_everything={budget.seed}",
        f"--config={CONFIG}",
        *(f"--{k}={v}" for k, v in options.items()),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # which says that this is a call from Python
        train(args)
    return load_decoder(folder / "best.ckpt", store.encoder)


def measure_decoder(
    decoder: PrefixDecoder, encoder: SentenceEncoder, store: ConceptStore, budget: Budget
) -> dict[str, Any]:
    """Return what a decoder makes of held-out concepts: BLEU, cosine and nats carried, and its fragility."""
    pairs = draw_by_length(store, budget)
    read = read_back(decoder, encoder, pairs, seed=budget.seed)
    random = np.random.default_rng(budget.seed)
    return {
        "steps": budget.steps,
        "llm": budget.llm,
        "num_sentences": len(pairs),
        "chance_cosine": chance_cosine(pairs),
        "levels": read.scores(np.arange(len(pairs))),
        "lengths": read.by_length(),
        **score_nll(decoder, pairs, 32, random),
        "examples": examples(read, pairs),
    }


def draw_by_length(store: ConceptStore, budget: Budget) -> SentenceBatch:
    """Return test sentences, as many of each bin of lengths; a bin with fewer gives what it has, two or more."""
    parts, num = [], max(2, budget.num_sentences // len(BINS))
    for low, high in BINS:
        try:
            parts.append(
                held_out_pairs(store, "test", num_sentences=num, min_words=low, max_words=high, seed=budget.seed)
            )
        except ValueError:  # no two sentences of a length: what comes out tells the lengths apart
            continue
    if not parts:
        raise ValueError(
            f"the store {store.path} has no test sentences of {BINS[0][0]} to {BINS[-1][1]} words; give a longer text"
        )
    sentences = [sentence for part in parts for sentence in part.sentences]
    context = [text for part in parts for text in part.context]
    return SentenceBatch(torch.cat([part.concepts for part in parts]), sentences, context)


def chance_cosine(pairs: SentenceBatch) -> float:
    """Return the mean cosine of two different sentences of the batch."""
    unit = torch.nn.functional.normalize(pairs.concepts.double(), dim=-1)
    num = len(unit)
    return float(((unit @ unit.T).sum() - num) / (num * (num - 1)))


def examples(read: ReadBack, pairs: SentenceBatch, num: int = 8) -> list[dict[str, Any]]:
    """Return sentences and what was decoded at the first level and at the last, evenly from all lengths."""
    rows = range(0, len(pairs), max(1, len(pairs) // num))
    return [
        {
            "sentence": pairs.sentences[i],
            "decoded": read.texts[0][i],
            f"at level {read.levels[-1]}": read.texts[-1][i],
        }
        for i in rows
    ]


def bounds(interval: Interval) -> list[float | None]:
    """Return [mean, low, high]; the bounds are None where one document gives no interval."""
    if math.isnan(interval.half_width):
        return [interval.mean, None, None]
    return [interval.mean, interval.mean - interval.half_width, interval.mean + interval.half_width]


@contextmanager
def timed(seconds: dict[str, dict[str, float]], what: str) -> Iterator[None]:
    """Note how long something took, by the clock and in CPU time of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    seconds[what] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def total_seconds(found: Mapping[str, Any], kind: str = "wall") -> float:
    """Return the seconds that a probe took, by the clock ("wall") or in CPU time ("cpu")."""
    return sum(part[kind] for part in found["seconds"].values())
