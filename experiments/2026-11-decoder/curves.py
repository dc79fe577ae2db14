"""Held-out nats against sentences seen, from the logs of trainings: curves.csv, and curves.png from that.

python curves.py --run smollm2=RUN:SENTENCES_A_STEP --run small=RUN:SENTENCES_A_STEP   reads the logs of runs
python curves.py                                                                       draws what curves.csv holds
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

HERE = Path(__file__).parent
TABLE, FIGURE = HERE / "curves.csv", HERE / "curves.png"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # told apart by colour-blind readers too (Okabe and Ito)


def read_run(name: str, folder: Path, sentences_a_step: float) -> list[dict[str, str]]:
    """Return the validations of a training, those of resumed parts one behind the other."""
    rows = []
    for log in sorted(folder.glob("log/version_*/metrics.csv")):
        with log.open(encoding="utf-8") as file:
            found = [row for row in csv.DictReader(file) if row.get("validation_loss")]
        for row in found:
            steps = int(row["step"]) + 1
            rows.append(
                {
                    "decoder": name,
                    "steps": str(steps),
                    "sentences": str(round(steps * sentences_a_step)),
                    "nats a token": f"{float(row['validation_loss']):.3f}",
                    "no concept": f"{float(row['validation_loss_none_concept']):.3f}",
                    "shuffled concept": f"{float(row['validation_loss_shuffled_concept']):.3f}",
                    "carried": f"{float(row['validation_nats_carried']):.3f}",
                }
            )
    return rows


def draw(rows: list[dict[str, str]]) -> None:
    """Draw nats a token, and nats that the concept carries, against sentences seen."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    names = list(dict.fromkeys(row["decoder"] for row in rows))
    for colour, name in zip(COLOURS, names, strict=False):
        own = [row for row in rows if row["decoder"] == name]
        seen = [int(row["sentences"]) for row in own]
        for ax, key in zip(axes, ("nats a token", "carried"), strict=True):
            ax.plot(seen, [float(row[key]) for row in own], "o-", color=colour, markersize=4, label=name)
    axes[0].set_ylabel("nats a token of its own vocabulary")
    axes[1].set_ylabel("nats a token carried by the concept")
    for ax in axes:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("sentences seen in training")
        ax.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    """Read logs, if any are given, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER:SENTENCES_A_STEP")
    options = parser.parse_args()
    rows = []
    for given in options.run:
        name, _, rest = given.partition("=")
        folder, _, rate = rest.rpartition(":")
        rows += read_run(name, Path(folder), float(rate))
    if rows:
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    with TABLE.open(encoding="utf-8") as file:
        draw(list(csv.DictReader(file)))


if __name__ == "__main__":
    main()
