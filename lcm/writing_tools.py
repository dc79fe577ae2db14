"""The verbs of the command line that write, draw and measure: typed functions, with heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def generate(
    outline: Path,
    *,
    model: Path,
    decoder: Path,
    sentences_per_point: int = 6,
    seed: int = 0,
    out: Path | None = None,
    anchor: float = 0.5,
    candidates: int = 8,
    corrections: int = 0,
    decoder_temperature: float | None = None,
    stop_at_end: bool | None = None,
    stop_at_repetition: bool = False,
    sampling: dict[str, int | float | str] | None = None,
) -> None:
    """Write a text from an outline; it streams to stdout as it is written. Same seed, same text.

    Args:
        outline: Markdown (headings, bullets) or YAML; a point may end with its length, as in "(4 sentences)".
        model: checkpoint of a concept model.
        decoder: checkpoint of a decoder of the same encoder.
        sentences_per_point: length of a point for which the outline gives none, in sentences; the most, where the model
            may stop. A length that the outline gives is kept.
        seed: of all randomness.
        out: Markdown file to write as well.
        anchor: how far each predicted concept is pulled towards its point's, 0 not at all, 1 all the way.
        candidates: sentences that the decoder writes for a concept, the most probable one and draws; the one nearest to
            it by its own concept is kept, if it is fluent and not yet said. 1 draws nothing.
        corrections: rounds in which the decoder corrects the sentence; it must have been trained for that.
        decoder_temperature: of the draws of the decoder, 0.8 if not given; that of the concepts is
            --sampling.temperature.
        stop_at_end: whether a point is over where the model would end the text; if not given, where it has learnt to.
        stop_at_repetition: whether a point is over where a sentence says the last one again, and so does a second try.
        sampling: options of the model's head, one by one, as in --sampling.num_steps 20 --sampling.sampler heun, or
            together, as in --sampling '{temperature: 0.8, top_p: 0.9}'; its defaults if not given. An option that the
            head does not have is an error that names those it has.
    """
    from lcm.outline import read_outline

    cycle = _cycle(candidates, corrections, decoder_temperature)
    points = read_outline(outline)  # before the heavy imports: a mistake there is told at once
    from lcm.manuscript import open_writer, stream
    from lcm.quiet import quiet

    quiet()
    writer = open_writer(model, decoder, **cycle)
    stream(
        writer,
        points,
        out=out,
        seed=seed,
        sentences_per_point=sentences_per_point,
        anchor=anchor,
        stop=writer.model.stopping.rule(end=stop_at_end, repetition=stop_at_repetition),
        sampling=sampling or {},
    )


def plot(document: str, *, store: Path, out: Path, title: str | None = None) -> None:
    """Draw the way of a document through concept space, in a plane that all documents of the store share.

    Args:
        document: a text file (.md, .txt), whose headings become anchors, or the number of a document in the store.
        store: store whose encoder reads the text and whose concepts span the plane.
        out: picture to write; the suffix (.png, .svg, .pdf) says which kind.
        title: heading of the picture; the document's title if not given.
    """
    from lcm.drawing import draw

    draw(document, store, out, title)


def evaluate(
    store: Path,
    *,
    model: Path,
    decoder: Path | None = None,
    split: Literal["validation", "test"] = "test",
    pool: int = 2000,
    num_sentences: int = 200,
    candidates: int = 8,
    corrections: int = 0,
    decoder_temperature: float | None = None,
    seed: int = 0,
    out: Path | None = None,
    sampling: dict[str, int | float | str] | None = None,
) -> None:
    """Measure a model, and a decoder, on held-out documents, beside the baselines that they have to beat.

    Args:
        store: folder that "lcm encode" wrote.
        model: checkpoint of a concept model.
        decoder: checkpoint of a decoder; not measured if not given.
        split: documents to measure on.
        pool: held-out concepts among which a prediction has to find its own.
        num_sentences: held-out sentences that the decoder writes.
        candidates: sentences that it writes for a concept in the row "best of"; 1 leaves that row out.
        corrections: rounds of correction in that row, as of "lcm generate".
        decoder_temperature: of the draws in that row, as of "lcm generate".
        seed: of all randomness.
        out: Markdown file to write as well; the numbers go beside it as .json.
        sampling: options of the model's head, as of "lcm generate".
    """
    cycle = _cycle(candidates, corrections, decoder_temperature)
    from lcm.quiet import quiet
    from lcm.report import measure_all

    quiet()
    measure_all(
        store,
        model,
        decoder,
        split=split,
        pool=pool,
        num_sentences=num_sentences,
        cycle=cycle,
        seed=seed,
        out=out,
        sampling=sampling or {},
    )


def _cycle(candidates: int, corrections: int, temperature: float | None) -> dict[str, Any]:
    """Return options of CycleDecoder."""
    if candidates == 1 and temperature is not None:
        raise ValueError("one candidate is the most probable sentence: leave the decoder temperature out")
    if temperature == 0 and candidates > 1:
        raise ValueError("candidates differ only at a decoder temperature above 0; give --candidates 1 instead")
    given = {} if temperature is None else {"temperature": temperature}
    return {"candidates": candidates, "corrections": corrections, **given}
