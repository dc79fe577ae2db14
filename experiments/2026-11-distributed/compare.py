"""Tables of trainings in one process and in several, from their logs: python compare.py FOLDER-OF-RUNS."""

import csv
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
HEADS, ARMS = ("regression", "two_tower"), ("one", "accumulated", "ddp", "fsdp")


def curve(run: Path, column: str) -> dict[int, float]:
    with (run / "log/version_0/metrics.csv").open() as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}


def weights_apart(first: Path, second: Path) -> float:
    """Returns the distance of what the two runs have learnt over the length of the second."""
    one, two = (torch.load(run / "last.ckpt", weights_only=True)["current_model_state"] for run in (first, second))
    one = {name: value for name, value in one.items() if ".stopping." not in name}  # measured, not learnt
    apart = sum(float((one[name].double() - two[name].double()).square().sum()) for name in one)
    return (apart / sum(float(value.double().square().sum()) for value in two.values())) ** 0.5


def main(folder: Path) -> None:
    rows, curves = [], {}
    for run in sorted(path.parent for path in folder.glob("*/seconds")):
        head, seed, arm = run.name.rsplit("-", 2)
        curves[head, int(seed), arm] = curve(run, "validation_loss")
        for column in ("validation_loss", "train_loss"):
            rows += [[head, seed, arm, column, step, value] for step, value in curve(run, column).items()]
    with (HERE / "results.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["head", "seed", "arm", "loss", "step", "value"], *rows])
    seeds = sorted({seed for _, seed, arm in curves if arm == "ddp"})
    columns = ("step", *(f"{arm}, mean ± sd" for arm in ARMS[:3]), "ddp - accumulated", "ddp - one")
    print(f"| head | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for head in HEADS:
        for step in curves[head, 0, "ddp"]:
            found = {arm: torch.tensor([curves[head, seed, arm][step] for seed in seeds]) for arm in ARMS[:3]}
            apart = [found["ddp"] - found[arm] for arm in ("accumulated", "one")]
            cells = [f"{value.mean():.4f} ± {value.std():.4f}" for value in (*found.values(), *apart)]
            print(f"| {head} | {step + 1} | {' | '.join(cells)} |")
    print("\n| head | ddp and fsdp, seed 0: largest difference of a validation loss | of weights, relative |")
    print("|---|---:|---:|")
    for head in HEADS:
        ddp, fsdp = (curves[head, 0, arm] for arm in ("ddp", "fsdp"))
        apart = max(abs(ddp[step] - fsdp[step]) for step in ddp)
        print(f"| {head} | {apart:.1e} | {weights_apart(folder / f'{head}-0-fsdp', folder / f'{head}-0-ddp'):.1e} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
