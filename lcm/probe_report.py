"""The table of "lcm probe": a row an encoder, and what its columns mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encoders.encoder import load_encoder
from lcm.baselines import MAX_FEATURES, NUM_CONCEPTS
from lcm.console import say
from lcm.manuscript import write_whole
from lcm.probe_figure import draw_probe
from lcm.probing import BINS, Budget, probe_encoder, total_seconds
from lcm.table import Row, to_markdown

READ_AT = 0.3  # the level of noise of which the table speaks; the figure shows all


def probe_all(names: Sequence[str], budget: Budget, out: Path) -> str:
    """Probe encoders one by one, write probe.md, probe.json and probe.png under `out`, and return the table.

    All encoders are opened before the first is probed, so that a wrong name is told at once.
    """
    encoders = [load_encoder(name) for name in names]
    found: list[dict[str, Any]] = []
    text = ""
    for encoder in encoders:
        say([f"probing {encoder.name}"])
        found.append(probe_encoder(encoder, budget, out))
        text = write_report(found, budget, out)  # after each: who stops the command keeps what was measured
    say([f"wrote {out / 'probe.md'}, probe.json and probe.png beside it"])
    return text


def write_report(found: Sequence[Mapping[str, Any]], budget: Budget, out: Path) -> str:
    """Write table, numbers and figure, and return the table."""
    text = report(found, budget)
    write_whole(out / "probe.md", text)
    content = {"corpus": budget.source, "seed": budget.seed, "steps": budget.steps, "encoders": found}
    write_whole(out / "probe.json", json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    draw_probe(found).savefig(out / "probe.png", dpi=150)
    return text


def report(found: Sequence[Mapping[str, Any]], budget: Budget) -> str:
    """Return the table as Markdown, with the meaning of its columns below."""
    return f"{to_markdown([row(one) for one in found])}\n{legend(found[0], budget)}"


def row(found: Mapping[str, Any]) -> Row:
    """Return an encoder's row."""
    words, spectrum, following = found["words"], found["spectrum"], found["next"]["rows"]
    cells: dict[str, str | int | float | None] = {"encoder": found["encoder"], "D": found["dim"]}
    cells["words AP"] = cell(words["levels"][0]["average_precision"])
    cells["by frequency"] = f"{words['by_frequency'][0]:.3f}"
    if decoder := found.get("decoder"):
        first, noised = decoder["levels"][0], at_level(decoder["levels"], READ_AT)
        cells["BLEU"] = cell(first["bleu"], 1)
        cells["cosine"] = cell(first["cosine"])
        cells["by chance"] = f"{decoder['chance_cosine']:.3f}"
        cells["nats a token"] = cell(decoder["nats_carried"]["against no concept"])
        cells["BLEU falls"] = cell(noised["bleu_fall"], 1)
        cells["cosine falls"] = cell(noised["cosine_fall"])
    cells["effective rank"] = f"{spectrum['effective_rank']:.1f}"
    cells["dims 90 / 99 %"] = f"{spectrum['dims_90']} / {spectrum['dims_99']}"
    for short, name in (("ridge", "ridge regression"), ("recent", "recent mean"), ("copy", "copy the last")):
        cells[f"CA {short}"] = cell(following[name]["contrastive accuracy"]) if name in following else None
    if "ridge regression" in following:
        cells["R@10 ridge"] = cell(following["ridge regression"]["R@10"])
    cells["minutes"] = f"{total_seconds(found) / 60:.1f}"
    return cells


def legend(found: Mapping[str, Any], budget: Budget) -> str:
    """Return what the columns mean and what they rest on, which is the same for all encoders."""
    words, following, documents = found["words"], found["next"], found["documents"]
    parts = [
        f"Text: {budget.source}, {documents['train']} training and {documents['test']} test documents; seed "
        f"{budget.seed}. Behind ± is half the width of a 95 % interval.",
        f"words AP: average precision (0 to 1) of the {words['num_words']:,} frequent words, those in over a tenth of "
        f"the sentences left out, ranked by ridge regression on the concept, {words['num_sentences']:,} test "
        "sentences, interval over documents; by frequency: ranked without the concept.",
        *(decoder_legend(found["decoder"]) if "decoder" in found else ()),
        f"effective rank: exp of the entropy of the covariance's normalised eigenvalues, "
        f"{found['spectrum']['num_concepts']:,} concepts, at most D; dims: principal components that hold 90 and 99 % "
        "of the variance.",
        f"CA: contrastive accuracy (chance .5), R@10 among {following['pool']:,}, of the next concept, "
        f"{following['num_positions']:,} positions, interval over documents: ridge regression on the last "
        f"{NUM_CONCEPTS} concepts (fewer above D = {MAX_FEATURES // NUM_CONCEPTS}), a recent mean whose decay is "
        "chosen on validation documents, a copy of the last.",
        "minutes: by the clock, encoding included where it was not done before.",
    ]
    return "\n\n".join(parts) + "\n"


def decoder_legend(decoder: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the columns of the trained decoder mean."""
    lengths = ", ".join(f"{low}-{high}" for low, high in BINS)
    return (
        f"BLEU (0 to 100), cosine (of the text, encoded again, with its concept): decoder of {decoder['llm']} after "
        f"{decoder['steps']} steps, {decoder['num_sentences']} test sentences, as many of each of {lengths} words, "
        "interval over sentences; by chance: mean cosine of two sentences; nats a token: what the concept takes off "
        f"the loss, {decoder['num_tokens']:,} tokens.",
        f"BLEU falls, cosine falls: from no noise to Gaussian noise of {READ_AT:g} of the concept's variance, paired.",
    )


def at_level(levels: Sequence[Mapping[str, Any]], level: float) -> Mapping[str, Any]:
    """Return the scores at a level of noise."""
    return next(scores for scores in levels if scores["level"] == level)


def cell(value: Sequence[float | None], digits: int = 3) -> str:
    """Return [value, low, high] as "value ± half the width"; the value alone without bounds."""
    middle, low, high = value
    if low is None or high is None:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ± {(high - low) / 2:.{digits}f}"
