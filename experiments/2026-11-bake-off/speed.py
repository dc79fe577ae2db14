"""Measure how fast models write: concepts a second behind 128, eight texts at a time, models in turn, medians."""

from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import yaml
from ground import draw_bank
from jsonargparse import auto_cli
from measure import find_runs
from torch import Generator

from data.durable import write_json
from data.store import ConceptStore
from lcm.checkpoint import load_model
from lcm.evaluation import read_document
from lcm.generation import continue_concepts
from lcm.quiet import quiet

BATCH, PROMPT = 8, 128


def main(
    rows: Path, runs: Path, store: Path, out: Path, *, rounds: int = 5, num_concepts: int = 4, threads: int = 1
) -> None:
    """Time every row of a file of rows, its first seed, as it draws; the rounds go through all models in turn.

    Args:
        rows: YAML as for measure.py.
        runs: folder of the trainings, NAME-SEED, those that are done.
        store: store whose first concepts are the prompts.
        out: JSON file, name of a row -> concepts a second.
        rounds: times of which the median is taken, after one that does not count.
        num_concepts: concepts that each of the eight texts is continued by.
        threads: of the processor.
    """
    quiet()
    torch.set_num_threads(threads)
    opened = ConceptStore.open(store)
    concepts = torch.cat([read_document(opened, i)[0] for i in range(min(len(opened), 64))])
    concepts = concepts.repeat(-(-BATCH * PROMPT // len(concepts)), 1)  # a small store comes again
    prompt = concepts[: BATCH * PROMPT].unflatten(0, (BATCH, PROMPT))
    models, options, seconds = {}, {}, {}
    settings = yaml.safe_load(rows.read_text(encoding="utf-8"))
    for name, _, path in find_runs(settings, runs, ""):
        if name in models:  # another seed of it
            continue
        models[name], row = load_model(path).model, settings[name]
        asked = row["draw"] if "draw" in row else next(iter(row["answers"].values()))
        options[name] = {key: value for key, value in asked.items() if key != "bank"}
        if "bank" in asked:
            options[name]["bank"] = models[name].normalizer(draw_bank(concepts, asked["bank"], seed=0))
        seconds[name] = []
    for _ in range(rounds + 1):
        for name, model in models.items():
            began = perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                continue_concepts(model, prompt, num_concepts, generator=Generator().manual_seed(0), **options[name])
            seconds[name].append(perf_counter() - began)
    found = {name: float(f"{BATCH * num_concepts / median(times[1:]):.4g}") for name, times in seconds.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
