"""A text while it is written: streamed to stdout, and to a file once it is whole."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Generator

from decoders.cycle import CycleDecoder
from decoders.loading import load_decoder
from lcm.checkpoint import load_model, open_encoder
from lcm.console import say
from lcm.outline import Outline
from lcm.sampling import read_sampling
from lcm.writer import Line, Writer


def open_writer(model: Path, decoder: Path, **cycle: Any) -> Writer:
    """Return a writer of two checkpoints that were trained with the same encoder.

    Args:
        model: checkpoint of a concept model.
        decoder: checkpoint of a decoder.
        cycle: options of CycleDecoder, such as the number of candidates.
    """
    from rich.console import Console

    with Console(stderr=True).status("opening model, decoder and encoder"):
        trained = load_model(model)
        encoder = open_encoder(trained.encoder_name, trained.encoder, str(model))
        opened = load_decoder(decoder, trained.encoder)
    checked = CycleDecoder(opened, encoder, **cycle)
    decoding = {"declared_level": float(opened.predicted_level)}
    return Writer(trained.model, checked, encoder, length=trained.length, levels=trained.levels, decoding=decoding)


def stream(
    writer: Writer,
    outline: Outline,
    *,
    out: Path | None,
    seed: int,
    sampling: Mapping[str, int | float | str],
    **options: Any,
) -> None:
    """Print a text while it is written and write it to a file when it is whole; say on stderr what ended early.

    Args:
        writer: writes it.
        outline: what to write about.
        out: the file; none writes to stdout alone.
        seed: of all randomness.
        sampling: options of the model's head, as a user writes them.
        **options: others of Writer.write().
    """
    text, before, ended = "", None, Counter[str]()
    options |= {"ended": ended, "generator": Generator().manual_seed(seed)}
    for line in writer.write(outline, **options, **read_sampling(writer.model, sampling)):
        more = to_text(line, before)
        sys.stdout.write(more)
        sys.stdout.flush()
        text, before = text + more, line
    sys.stdout.write("\n")
    say([f"{number} point{'s' * (number > 1)} ended early, {reason}" for reason, number in ended.items()])
    if out is not None:
        write_whole(out, text + "\n")


def to_text(line: Line, before: Line | None) -> str:
    """Return a line behind another as Markdown: a heading by its depth, the sentences of a point in one paragraph."""
    text = f"{'#' * min(line.depth + 1, 6)} {line.text}" if line.level else line.text
    if before is None:
        return text
    return f" {text}" if before.level == line.level == 0 else f"\n\n{text}"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is either whole or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.part")
    hidden.write_text(text, encoding="utf-8")
    hidden.replace(path)
