"""What the first guess adds to a training step, and how far its regression has moved.

CPU time with and without it, in turn, medians of the ratio.

A step is one row of random concepts: loss, gradients, AdamW; without clipping, averaging and data.
"""

from pathlib import Path
from statistics import median
from time import process_time

import torch
from jsonargparse import auto_cli
from table import PLAIN
from torch.nn import Linear
from torch.nn.functional import cosine_similarity, normalize

from data.batch import ConceptBatch
from lcm.checkpoint import load_model
from lcm.heads.head import Regression
from lcm.model import ConceptModel
from lcm.quiet import quiet
from lcm.table import to_markdown

LENGTH = 1024  # a row of the bake-off


def step(model: ConceptModel, optimizer: torch.optim.Optimizer, batch: ConceptBatch) -> float:
    """Return the CPU seconds of one training step."""
    began = process_time()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch, torch.Generator().manual_seed(0))["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return process_time() - began


def cosine_with_start(model: ConceptModel) -> float:
    """Return the cosine of a regression with its start, the input layer's weight transposed, as that is now."""
    regression = next(module for module in model.head.modules() if isinstance(module, Regression))
    reading = next(module for module in model.input.modules() if isinstance(module, Linear))  # the first reads concepts
    return cosine_similarity(regression.weight.flatten(), reading.weight.T.flatten(), dim=0).item()


def main(runs: Path, *, rounds: int = 7) -> None:
    """Time every pair of trainings X-0 and X_plain-0 that is there, in one thread.

    Args:
        runs: folder of the trainings.
        rounds: pairs of steps whose ratios count, after two that do not.
    """
    quiet()
    torch.set_num_threads(1)
    rows = []
    for folder in sorted(runs.glob(f"*{PLAIN}-0")):
        name = folder.name.removesuffix(f"{PLAIN}-0")
        if not all((path / "done").is_file() for path in (folder, runs / f"{name}-0")):
            continue
        models = [load_model(path / "best.ckpt").model.train() for path in (folder, runs / f"{name}-0")]
        moved = cosine_with_start(models[1])
        optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-5) for model in models]
        shape = (1, LENGTH)
        concepts = normalize(torch.randn(*shape, models[0].dim), dim=-1)
        batch = ConceptBatch(concepts, torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.long))
        times = []
        for number in range(rounds + 2):
            taken = {i: step(models[i], optimizers[i], batch) for i in ((0, 1), (1, 0))[number % 2]}
            times.append((taken[0], taken[1]))
        times = times[2:]
        ratios = sorted(guess / plain for plain, guess in times)
        seconds = median(plain for plain, _ in times)
        rows.append(
            {
                "row": name,
                "s/step without": f"{seconds:.2f}",
                "with, times as long": f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
                "cosine of its weights with their start": f"{moved:.3f}",
            }
        )
    print(to_markdown(rows))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
