"""The tables that "lcm evaluate" prints: a model and a decoder beside their baselines."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Generator, Tensor

from data.store import ConceptStore
from decoders.evaluation import evaluate_decoder, shown
from decoders.loading import load_decoder
from lcm import evaluation, metrics
from lcm.baselines import fit_baselines
from lcm.checkpoint import load_model, open_encoder
from lcm.draws import Draw, drawer, energy, point
from lcm.manuscript import write_whole
from lcm.normalizer import Normalizer
from lcm.sampling import read_sampling
from lcm.table import Row, to_markdown, write_json

NUM_DRAWS, DRAWN_AT = 8, 128  # draws of a concept, and sentences that are drawn for, to take an energy score
CHANCE = "random training concept"


def measure_all(
    store_path: Path,
    model: Path,
    decoder: Path | None,
    *,
    split: str,
    pool: int,
    num_sentences: int,
    cycle: Mapping[str, Any],
    seed: int,
    out: Path | None,
    sampling: Mapping[str, int | float | str],
) -> None:
    """Print the tables of a model and a decoder beside their baselines, and write them."""
    store = ConceptStore.open(store_path)
    trained = load_model(model, store.encoder)
    options = read_sampling(trained.model, sampling)
    held_out = evaluation.HeldOut.from_store(store, split, pool=pool, seed=seed)
    train = evaluation.sentences_of(evaluation.read_document(store, i) for i in store.split("train"))
    predictors = {"model": evaluation.predictor(trained.model, length=trained.length, seed=seed, **options)}
    with Console(stderr=True).status("fitting the baselines"):
        fitted = fit_baselines([store], tune_on="test" if split == "validation" else "validation", seed=seed)
    predictors |= evaluation.baselines(train.mean(0)) | fitted.predictors
    steps = shown(list(predictors.items()), "measuring")
    measured = [evaluation.measure(name, predict, held_out) for name, predict in steps]
    draws = {name: point(predict) for name, predict in predictors.items()}
    draws["model"] = drawer(trained.model, NUM_DRAWS, length=trained.length, seed=seed, **options)
    draws[CHANCE] = random_concepts(train, NUM_DRAWS, seed)
    normalizer, at = Normalizer(store.dim), held_out.positions(DRAWN_AT, seed=seed)
    normalizer.fit(train)
    scores = {name: metrics.mean_interval(energy(draw, held_out, at, normalizer)) for name, draw in draws.items()}
    gap = evaluation.context_gap(trained.model, held_out, seed=seed)
    text = report(measured, gap, held_out, split, fitted.note) + report_energy(scores)
    numbers: list[Row] = [*(m.row() for m in measured), {"predictor": "model, loss by context", **gap}]
    numbers += [{"predictor": name, "energy score": score} for name, score in scores.items()]
    if decoder is not None:
        found = measure_decoder(store, decoder, split, num_sentences, seed, cycle)
        text += report_decoder(found)
        numbers += decoder_rows(found)
    sys.stdout.write(text)
    if out is not None:
        write_whole(out, text)
        write_json(numbers, out.with_suffix(".json"))


def measure_decoder(
    store: ConceptStore, decoder: Path, split: str, num_sentences: int, seed: int, cycle: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what evaluate_decoder finds; `cycle` are the options of CycleDecoder."""
    opened = load_decoder(decoder, store.encoder)
    encoder = open_encoder(store.encoder_name, store.encoder, f"the store {store.path}")
    return evaluate_decoder(
        opened,
        encoder,
        store,
        split=split,
        num_sentences=num_sentences,
        seed=seed,
        before=opened.arguments["before"],
        after=opened.arguments["after"],
        cycle=cycle if cycle["candidates"] > 1 or cycle["corrections"] else None,
    )


def report(
    measured: Sequence[evaluation.Measured],
    gap: Mapping[str, float | int],
    held_out: evaluation.HeldOut,
    split: str,
    note: str = "",
) -> str:
    """Return the measures of a model as Markdown: the table, who wins each column, and what the context is worth."""
    text = (
        f"Next concept, {len(held_out.concepts)} {split} documents, R@k among {len(held_out.pool):,} held-out "
        f"sentences, 95 % intervals over documents:\n\n"
        f"{to_markdown([m.row() for m in measured])}\n"
        f"{evaluation.verdict(measured)}\n\n{evaluation.leads(measured)}\n"
    )
    if note:
        text += f"\n{note}\n"
    if "difference" not in gap:
        return text + "\nToo few long documents to compare the loss with true and shuffled context.\n"
    return text + (
        f"\nLoss with the true context {gap['true context']:.4f}, "
        f"with another document's {gap['shuffled context']:.4f}: "
        f"the context is worth {gap['difference']:.4f} ({gap['windows']} windows).\n"
    )


def report_energy(scores: Mapping[str, metrics.Interval]) -> str:
    """Return the energy scores as a sentence; those of draws and of points are told apart, for spread is rewarded."""
    model, chance = scores["model"], scores[CHANCE]
    points = {name: score for name, score in scores.items() if name not in ("model", CHANCE)}
    best = min(points, key=lambda name: points[name].mean)
    return (
        f"\nEnergy score, smaller is better, at up to {DRAWN_AT} sentences: the model {model}, by {NUM_DRAWS} draws of "
        f"what it has learnt; random training concepts {chance}; of predictors that do not draw the best is the "
        f"{best}, {points[best]}.\n"
    )


def random_concepts(train: Tensor, num: int, seed: int) -> Draw:
    """Return a predictor that draws training concepts (N, D) at random: spread without knowledge."""
    generator = Generator().manual_seed(seed)
    return lambda concepts, level, at: train[torch.randint(len(train), (num, len(at)), generator=generator)]


def report_decoder(found: Mapping[str, Any]) -> str:
    """Return the measures of a decoder as Markdown."""
    nll, carried = found["nll"], found["nats_carried"]["against no concept"]
    return (
        f"\nSentence from its concept, {found['num_sentences']} held-out sentences of 5 to 40 words, "
        f"95 % intervals:\n\n"
        f"{to_markdown(decoder_rows(found))}\n"
        f"Nats a token with the true concept {nll['true'][0]:.3f}, a shuffled one {nll['shuffled'][0]:.3f}, none "
        f"{nll['no'][0]:.3f}: the concept carries {interval(carried)} ({found['num_tokens']:,} tokens).\n"
    )


def decoder_rows(found: Mapping[str, Any]) -> list[Row]:
    """Return the table of a decoder beside retrieval and chance; sentences/s of what is written, "-" of the others."""
    speed = found["sentences_per_second"]
    return [
        {
            "text": name,
            "BLEU": interval(row["bleu"], 1),
            "re-encode cosine": interval(row["cosine"]),
            "sentences/s": f"{speed[name]:.1f}" if name in speed else "-",
        }
        for name, row in found["rows"].items()
    ]


def interval(bounds: Sequence[float], digits: int = 3) -> str:
    """Return [value, low, high] as "value [low, high]"."""
    value, low, high = (f"{bound:.{digits}f}" for bound in bounds)
    return f"{value} [{low}, {high}]"
