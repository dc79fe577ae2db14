"""Training steps of our backbone and of nn.TransformerEncoder of equal parameters, all in every round, in turn.

Prints rows of results.csv. With one thread a step costs CPU time, since other processes take the machine too; with two
threads it takes the wall clock, and a busy machine shows in the spread.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from lcm.backbone import Backbone, CausalTransformer
from lcm.retention import RetentiveTransformer

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--length", type=int, default=1024)
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
parser.add_argument("--but", nargs="*", default=[], help="sides to leave out")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(0)
clock = time.process_time if arguments.threads == 1 else time.perf_counter
PEERS = "peer, dropout 0.1 (its default)", "peer, no dropout"
ROWS, LENGTH, WIDTH, LAYERS, HEADS = arguments.rows, arguments.length, 384, 5, 6


class Ours(nn.Module):
    """Input and output layers around a backbone of ours."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.input, self.backbone, self.output = nn.Linear(WIDTH, WIDTH), backbone, nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, document: Tensor | None) -> Tensor:
        """Predict (B, S, D)."""
        return self.output(self.backbone(self.input(x).float(), None, document)[0])


class Peer(nn.Module):
    """The same layers around nn.TransformerEncoder; it gets a mask of (B * heads, S, S) where rows are packed."""

    def __init__(self, inner: int, dropout: float) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, inner, dropout, norm_first=True, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.causal = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        self.packed = torch.empty(0)

    def forward(self, x: Tensor, document: Tensor | None) -> Tensor:
        """Predict (B, S, D)."""
        if document is None:
            return self.output(self.encoder(self.input(x), mask=self.causal, is_causal=True))
        if not len(self.packed):  # made once, so that it costs the peer nothing
            other = document[:, None, :, None] != document[:, None, None, :]
            self.packed = self.causal.masked_fill(other, -torch.inf).expand(-1, HEADS, -1, -1).flatten(0, 1)
        return self.output(self.encoder(self.input(x), mask=self.packed))


def pack() -> Tensor:
    """Return ids (B, S) of packed documents of 100 to 1,000 concepts, cut where a row ends."""
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    for row in ids:
        begin = 0
        while begin < LENGTH:
            row[begin:] += 1
            begin += int(torch.randint(100, 1001, ()))
    return ids


def count(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def equal_peer(dropout: float, parameters: int) -> Peer:
    """Return the peer whose feed-forward width brings it nearest to a number of parameters."""
    small, larger = count(Peer(1, dropout)), count(Peer(2, dropout))
    return Peer(1 + round((parameters - small) / (larger - small)), dropout)


def sides() -> dict[str, nn.Module]:
    """Return what is measured, by name."""
    found: dict[str, nn.Module] = {
        "ours, dropout 0.1": Ours(CausalTransformer(WIDTH, LAYERS, HEADS, 0.1)),
        "ours, no dropout": Ours(CausalTransformer(WIDTH, LAYERS, HEADS, 0.0)),
        "retention, dropout 0.1": Ours(RetentiveTransformer(WIDTH, LAYERS, HEADS, 0.1)),
    }
    if arguments.compile:
        found["ours, dropout 0.1, compiled"] = torch.compile(Ours(CausalTransformer(WIDTH, LAYERS, HEADS, 0.1)))
    parameters = count(found["ours, dropout 0.1"])
    found[PEERS[0]] = equal_peer(0.1, parameters)
    found[PEERS[1]] = equal_peer(0.0, parameters)
    return {name: model for name, model in found.items() if name not in arguments.but}


def make_step(model: nn.Module, fused: bool) -> Callable[[Tensor | None], float]:
    """Return a training step that takes document ids and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)
    x, y = torch.randn(2, ROWS, LENGTH, WIDTH)

    def step(document: Tensor | None) -> float:
        start = clock()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.mse_loss(model(x, document).float(), y)
        loss.backward()
        optimizer.step()
        return clock() - start

    return step


def main() -> None:
    found = sides()
    steps = {name: make_step(model, fused=not name.startswith("peer")) for name, model in found.items()}
    out = csv.writer(sys.stdout, lineterminator="\n")
    for rows, document in (("whole", None), ("packed", pack())):
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            step(document)  # compiles, warms up
        for round_ in range(arguments.rounds):
            for name in list(steps)[:: 1 if round_ % 2 else -1]:
                seconds[name].append(steps[name](document))
        for name, times in seconds.items():
            ratios = [[t / s for s, t in zip(times, seconds[peer], strict=True)] for peer in PEERS if peer in found]
            middle, low, high = (ROWS * LENGTH / f(times) for f in (median, max, min))
            speeds = [f"{value:.0f}" for value in (middle, low, high)]
            spread = [f"{f(r):.2f}" for r in ratios for f in (median, min, max)]
            spread = ["not run"] * 3 * (len(PEERS) - len(ratios)) + spread
            threads = arguments.threads
            out.writerow([threads, LENGTH, ROWS, rows, name, count(found[name]), arguments.rounds, *speeds, *spread])
            sys.stdout.flush()


main()
