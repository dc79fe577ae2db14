"""Measure models and baselines on held-out documents, one JSON file each: python measure.py --help.

A file that is there is not made again, so several processes may share the work, and a stopped one goes on.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import yaml
from costs import costs
from ground import Ground
from jsonargparse import auto_cli
from torch import Generator, Tensor

from lcm.baselines import fit_baselines
from lcm.checkpoint import load_model
from lcm.draws import Draw, drawer, point
from lcm.evaluation import baselines, context_gap, read_document
from lcm.quiet import quiet


def measure_model(
    path: Path, row: Mapping[str, Any], ground: Ground, *, num_draws: int, text: bool, seed: int
) -> dict[str, Any]:
    """Return all that is measured of a checkpoint, by the settings of its row."""
    began = perf_counter()
    task = load_model(path, ground.held_out.sources[0][0].encoder)
    asked = {"draw": (num_draws, row["draw"])} if "draw" in row else {}
    asked |= {name: (1, options) for name, options in row.get("answers", {}).items()}
    draws = {}
    for name, (num, options) in asked.items():
        given = dict(options)
        if "bank" in given:
            given["bank"] = task.model.normalizer(ground.sample[: given["bank"]])
        draw = drawer(task.model, num, length=task.length, seed=seed, **given)
        draws[name] = draw if row.get("float32") else in_bfloat16(draw)
    with torch.autocast("cpu", torch.bfloat16):
        gap = context_gap(task.model, ground.held_out, length=64, max_windows=96, seed=seed)
    return {
        "answers": ground.measure(draws, text=row.get("text", list(draws)[:1]) if text else ()),
        "context": gap,
        "costs": {"parameters": sum(p.numel() for p in task.model.parameters()), **costs(path)},
        "measured in": round(perf_counter() - began, 1),
    }


def in_bfloat16(draw: Draw) -> Draw:
    """Return the same, computed in bfloat16 as in training; README says what that changes."""

    def run(concepts: Tensor, level: Tensor, at: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return draw(concepts, level, at)

    return run


def measure_baselines(ground: Ground, *, num_draws: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return what is measured of the rows without a model, name -> measures.

    Beside those to beat: a training concept at random and ridge regression with errors that it makes in training, which
    are what an energy score has to be compared with, and the true concept, which shows the best that text can be.
    """
    stores = list(dict.fromkeys(store for store, _ in ground.held_out.sources))
    fitted = fit_baselines(stores, seed=seed)
    sys.stderr.write(f"{fitted.note}\n")
    predictors = baselines(ground.sample.mean(0)) | fitted.predictors
    ridge, generator = predictors["ridge regression"], Generator().manual_seed(seed)
    documents = [read_document(store, int(i)) for store in stores for i in store.split("train")[:20]]
    errors = torch.cat([(concepts[1:] - ridge(concepts, level))[level[1:] == 0] for concepts, level in documents])

    def random_concept(concepts: Tensor, level: Tensor, at: Tensor) -> Tensor:
        return ground.sample[torch.randint(len(ground.sample), (num_draws, len(at)), generator=generator)]

    def ridge_with_errors(concepts: Tensor, level: Tensor, at: Tensor) -> Tensor:
        return (
            ridge(concepts, level)[at - 1]
            + errors[torch.randint(len(errors), (num_draws, len(at)), generator=generator)]
        )

    rows = {name: {"point": point(predict)} for name, predict in predictors.items()}
    rows["the true concept"] = {"point": point(lambda concepts, level: concepts[1:])}
    rows["random training concept"] = {"draw": random_concept}
    rows["ridge regression with errors"] = {"draw": ridge_with_errors}
    return {name: {"answers": ground.measure(draws, text=list(draws))} for name, draws in rows.items()}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def find_runs(rows: Mapping[str, Any], runs: Path, only: str) -> list[tuple[str, int, Path]]:
    """Return the checkpoints that there are of rows: name, seed, path of NAME-SEED/best.ckpt."""
    found = []
    for name in rows:
        if re.search(only, name):
            paths = {int(path.parent.name.rpartition("-")[2]): path for path in runs.glob(f"{name}-[0-9]*/best.ckpt")}
            found += [(name, number, paths[number]) for number in sorted(paths)]
            if not paths:
                sys.stderr.write(f"{name}: no {runs}/{name}-SEED/best.ckpt\n")
    return found


def main(
    rows: Path,
    runs: Path,
    stores: list[str],
    out: Path,
    *,
    decoder: str | None = None,
    split: str = "test",
    only: str = "",
    text_seeds: list[int] | None = None,
    num_positions: int = 1200,
    num_draws: int = 8,
    num_texts: int = 64,
    seed: int = 0,
) -> None:
    """Measure the baselines and every checkpoint of a file of rows.

    Args:
        rows: YAML, name of a row -> how its models are asked; rows.yaml says more.
        runs: folder of the trainings, NAME-SEED/best.ckpt.
        stores: stores whose held-out documents count.
        out: folder of the measures; one for each choice of the options below.
        decoder: checkpoint of a decoder, for the columns of text.
        split: documents that count.
        only: measure only rows whose name has this regular expression in it; "baselines" is a name too.
        text_seeds: seeds whose models are decoded too, for it takes as long as all else; [0] if not given.
        num_positions: sentences that are predicted.
        num_draws: draws of each, for a model that draws.
        num_texts: sentences that are decoded.
        seed: of the positions, the pool and the draws.
    """
    quiet()
    torch.set_num_threads(1)
    settings = yaml.safe_load(rows.read_text(encoding="utf-8"))
    todo = [run for run in find_runs(settings, runs, only) if not (out / f"{run[0]}-{run[1]}.json").is_file()]
    base = out / "baselines.json"
    with_baselines = bool(re.search(only, "baselines")) and not base.is_file()
    if not todo and not with_baselines:
        return
    ground = Ground.prepare(stores, split, num_positions, num_texts, decoder, seed)
    write(out / "positions.json", ground.positions() | {"true text": ground.texts.true_text if ground.texts else None})
    if with_baselines:
        write(base, measure_baselines(ground, num_draws=num_draws, seed=seed))
    for name, number, path in todo:
        target = out / f"{name}-{number}.json"
        if target.is_file():  # another process was here
            continue
        text = number in (text_seeds or [0])
        found = measure_model(path, settings[name], ground, num_draws=num_draws, text=text, seed=seed)
        write(target, {"row": name, "seed": number, "checkpoint": str(path), **found})
        sys.stderr.write(f"{target}: {found['measured in']} s\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
