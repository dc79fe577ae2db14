"""Held-out nats, cosine and BLEU against sentences seen: curves.csv from the logs of trainings, and curves.png.

Cosine and BLEU are those of results.csv, means over corpora, of the trainings in SEEN; the dashed line is the nearest
training sentence, the dotted one the project's bar.

python curves.py --run smollm2=RUN:SENTENCES_A_STEP --run small=RUN:SENTENCES_A_STEP   reads the logs of runs
python curves.py                                                                       draws what curves.csv holds
"""

import argparse
import csv
from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

HERE = Path(__file__).parent
TABLE, FIGURE, RESULTS = HERE / "curves.csv", HERE / "curves.png", HERE / "results.csv"
SEEN = {"smollm2-quarter": 2144, "smollm2": 8576}  # sentences
SECONDS = 0.42  # of one thread, for a sentence of smollm2's training
BARS = {"cosine": 0.85, "bleu": 18.0}  # of best of 8
NEAREST = "nearest training sentence"
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


def draw(rows: list[dict[str, str]], results: list[dict[str, str]]) -> None:
    """Draw nats a token, nats that the concept carries, cosine and BLEU against sentences seen."""
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    axes = grid.flatten()
    names = list(dict.fromkeys(row["decoder"] for row in rows))
    for colour, name in zip(COLOURS, names, strict=False):
        own = [row for row in rows if row["decoder"] == name]
        seen = [int(row["sentences"]) for row in own]
        for ax, key in zip(axes, ("nats a token", "carried"), strict=False):
            ax.plot(seen, [float(row[key]) for row in own], "o-", color=colour, markersize=4, label=name)
    labels = ("nats a token of its own vocabulary", "nats a token carried by the concept", "cosine", "BLEU")
    for ax, label in zip(axes, labels, strict=True):
        ax.set_ylabel(label)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("sentences seen in training")
        ax.grid(alpha=0.3)
    for ax, key in zip(axes[2:], BARS, strict=True):
        draw_text(ax, key, results)
    axes[0].legend(frameon=False)
    axes[2].legend(loc=(0.33, 0.62), frameon=False)
    figure.savefig(FIGURE, dpi=150)


def draw_text(ax: Axes, key: str, results: list[dict[str, str]]) -> None:
    """Draw what SmolLM2 wrote, greedily and as the best of 8; hours of one thread stand above."""

    def mean_of(decoder: str, text: str) -> float:
        return mean(float(row[key]) for row in results if (row["decoder"], row["text"]) == (decoder, text))

    for style, text in (("o--", "decoder"), ("o-", "decoder, best of 8")):
        values = [mean_of(name, text) for name in SEEN]
        ax.plot(SEEN.values(), values, style, color=COLOURS[0], markersize=4, label=text.replace("decoder", "smollm2"))
    ax.axhline(mean_of("smollm2", NEAREST), color="0.5", linestyle="--", linewidth=1, label=NEAREST)
    ax.axhline(BARS[key], color="0.2", linestyle=":", linewidth=1, label="bar, best of 8")
    hours = ax.secondary_xaxis("top", functions=(lambda n: n * SECONDS / 3600, lambda h: h * 3600 / SECONDS))
    hours.set_xticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    hours.set_xticks([], minor=True)
    hours.set_xlabel("hours of one thread")
    ax.set_xlim(1000, 20000)


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
    read = []
    for path in (TABLE, RESULTS):
        with path.open(encoding="utf-8") as file:
            read.append(list(csv.DictReader(file)))
    draw(*read)


if __name__ == "__main__":
    main()
