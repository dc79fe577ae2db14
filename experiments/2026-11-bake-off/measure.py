"""Measure models and baselines on held-out documents, one JSON file each: python measure.py --help.

A file that is there is not made again, and X.lock says that a process makes X.json: so several share the work, and one
that was stopped goes on.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import torch
import yaml
from costs import costs
from ground import Ground, draw_bank
from jsonargparse import auto_cli
from torch import Generator, Tensor

from data.durable import hidden
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
    trained = load_model(path, ground.held_out.sources[0][0].encoder)
    asked = {"draw": (num_draws, row["draw"])} if "draw" in row else {}
    asked |= {name: (1, options) for name, options in row.get("answers", {}).items()}
    draws = {}
    for name, (num, options) in asked.items():
        given = dict(options)
        if "bank" in given:
            given["bank"] = trained.model.normalizer(draw_bank(ground.sample, given["bank"], seed))
        draw = drawer(trained.model, num, length=trained.length, seed=seed, **given)
        draws[name] = draw if row.get("float32") else in_bfloat16(draw)
    with torch.autocast("cpu", torch.bfloat16):
        gap = context_gap(trained.model, ground.held_out, length=64, max_windows=96, seed=seed)
    return {
        "answers": ground.measure(draws, text=row.get("text", list(draws)[:1]) if text else ()),
        "context": gap,
        "costs": {"parameters": sum(p.numel() for p in trained.model.parameters()), **costs(path)},
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


def write_part(path: Path, content: Mapping[str, Any]) -> Path:
    """Write what is to become a file under a name of its own, and return that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = hidden(path.with_name(f"{path.name}.{uuid4().hex}"))
    part.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return part


@contextmanager
def claim(target: Path) -> Iterator[bool]:
    """Hold a result for this process; yields False where it is there or another process makes it."""
    lock = target.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        sys.stderr.write(f"{target.name}: left to the process that {lock} names; delete that file if it has ended\n")
        yield False
        return
    try:
        with os.fdopen(file, "w") as opened:
            opened.write(f"process {os.getpid()}\n")
        yield not target.is_file()  # else another process was here since
    finally:
        lock.unlink()


def is_due(path: Path, content: Mapping[str, Any]) -> bool:
    """Return whether a file of positions is to be written; end where one is there that says otherwise.

    Results that lie beside it are read by it. Only what is about text may be added, before anything was measured.
    """
    if not path.is_file():
        return True
    there, here = (comparable(json.loads(text)) for text in (path.read_text(encoding="utf-8"), json.dumps(content)))
    other = [key for key in here if there.get(key) != here[key]]
    if not other:
        return False
    begun = any(file.suffix in (".json", ".lock") and file != path for file in path.parent.iterdir())
    if set(other) <= {"texts", "true text"} and there["texts"] is None and not begun:
        return True
    sys.exit(f"{path} was written with other {', '.join(other)}, to which all in its folder belongs; use another --out")


def comparable(content: dict[str, Any]) -> dict[str, Any]:
    """Return positions without nats, whose last digits are not the same on every machine."""
    text = content.get("true text")
    return content if text is None else content | {"true text": text | {"nats": None}}


def keep_positions(path: Path, content: Mapping[str, Any]) -> None:
    """Write what is measured on, unless it is there."""
    part = write_part(path, content)
    try:
        os.link(part, path)  # fails where there is one, be it since this moment
    except FileExistsError:
        if is_due(path, content):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def find_runs(rows: Mapping[str, Any], runs: Path, only: str) -> list[tuple[str, int, Path]]:
    """Return the trainings of rows that are done: name, seed, path of NAME-SEED/best.ckpt; say which are not."""
    found = []
    for name in rows:
        if not re.search(only, name):
            continue
        folders = [folder for folder in runs.glob(f"{name}-*") if re.fullmatch(r"\d+", folder.name[len(name) + 1 :])]
        if not folders:
            sys.stderr.write(f"{name}: left out, there is no {runs}/{name}-SEED\n")
        for folder in sorted(folders, key=lambda folder: int(folder.name[len(name) + 1 :])):
            if missing := [file for file in ("best.ckpt", "done") if not (folder / file).is_file()]:
                sys.stderr.write(
                    f"{folder.name}: left out, its training has not ended (no {' and no '.join(missing)})\n"
                )
            else:
                found.append((name, int(folder.name[len(name) + 1 :]), folder / "best.ckpt"))
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
    """Measure the baselines and every training of a file of rows that is done.

    Args:
        rows: YAML, name of a row -> how its models are asked; rows.yaml says more.
        runs: folder of the trainings, NAME-SEED/best.ckpt, beside it a file `done` when the training has ended.
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a claim is given back
    settings = yaml.safe_load(rows.read_text(encoding="utf-8"))
    asked = {
        "settings": {"split": split, "num_positions": num_positions, "num_draws": num_draws, "seed": seed},
        "texts": {"decoder": str(Path(decoder).resolve()), "num_texts": num_texts} if decoder else None,
    }
    is_due(out / "positions.json", asked)  # at once, not after minutes
    todo = [run for run in find_runs(settings, runs, only) if not (out / f"{run[0]}-{run[1]}.json").is_file()]
    base = out / "baselines.json"
    with_baselines = bool(re.search(only, "baselines")) and not base.is_file()
    if not todo and not with_baselines:
        return
    ground = Ground.prepare(stores, split, num_positions, num_texts, decoder, seed)
    true_text = ground.texts.true_text if ground.texts else None
    keep_positions(out / "positions.json", asked | ground.positions() | {"true text": true_text})
    if with_baselines:
        with claim(base) as mine:
            if mine:
                write_part(base, measure_baselines(ground, num_draws=num_draws, seed=seed)).replace(base)
    for name, number, path in todo:
        with claim(target := out / f"{name}-{number}.json") as mine:
            if not mine:
                continue
            text = number in (text_seeds or [0])
            found = measure_model(path, settings[name], ground, num_draws=num_draws, text=text, seed=seed)
            content = {"row": name, "seed": number, "checkpoint": str(path), "asked": settings[name], **found}
            write_part(target, content).replace(target)
            sys.stderr.write(f"{target}: {found['measured in']} s\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
