"""The verbs of the command line beside training: typed functions, with heavy imports inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal


def corpus(source: str, *, rows: int = 12, cut: Literal["auto", "never", "chapter"] = "auto") -> None:
    """Fetch and read a corpus, and show what was understood: documents, headings, first rows, what was left out.

    Args:
        source: a named corpus (shakespeare, austen, sotu, moby-dick, grimm), a .txt, .md, .jsonl or .parquet file, a
            folder of them, or a Hugging Face data set; "list" names the corpora with their licences.
        rows: number of rows to show.
        cut: whether books become one document a chapter: "auto" does so when there are fewer than ten documents.
    """
    from data.describe import describe_documents, list_corpora
    from data.readers import read_documents
    from data.report import ReadReport

    if source == "list":
        sys.stdout.write(list_corpora() + "\n")
        return
    report = ReadReport()
    documents = read_documents(source, cut=cut, report=report)
    say(report.lines())
    sys.stdout.write(describe_documents(documents, num_rows=rows) + "\n")


def encode(
    corpus: str,
    *,
    out: Path,
    encoder: str = "minilm",
    cut: Literal["auto", "never", "chapter"] = "auto",
    max_chars: int = 250,
) -> None:
    """Split a corpus into sentences, encode them and write the store; run it again to finish what was cut short.

    Args:
        corpus: a named corpus, a file, a folder or a Hugging Face data set, as for "lcm corpus".
        out: folder of the store.
        encoder: "minilm", "hashing" (fast and meaningless, to try things), or any sentence-transformers name or folder.
        cut: whether books become one document a chapter: "auto" does so when there are fewer than ten documents.
        max_chars: longer sentences are split at their best boundary, in characters.
    """
    from data.describe import describe_store
    from data.encode import encode_corpus
    from data.readers import read_documents
    from data.report import ReadReport
    from encoders.encoder import load_encoder

    report = ReadReport()
    documents = read_documents(corpus, cut=cut, report=report)
    say(report.lines())
    store = encode_corpus(documents, load_encoder(encoder), out, max_chars=max_chars)
    sys.stdout.write(describe_store(store) + "\n")


def info(store: Path, *, verify: bool = False) -> None:
    """Say what is in a store.

    Args:
        store: folder that "lcm encode" wrote.
        verify: read everything and check checksums, widths and values.
    """
    from data.describe import describe_store
    from data.store import ConceptStore

    opened = ConceptStore.open(store)
    if verify:
        opened.verify()
    sys.stdout.write(describe_store(opened) + ("\nverified: every shard is whole\n" if verify else "\n"))


def generate(
    outline: Path,
    *,
    model: Path,
    decoder: Path,
    sentences_per_point: int = 6,
    seed: int = 0,
    out: Path | None = None,
    anchor: float = 0.5,
    candidates: int = 4,
    temperature: float = 0.7,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    initial_noise: float | None = None,
) -> None:
    """Write a text from an outline; it streams to stdout as it is written. Same seed, same text.

    Args:
        outline: Markdown (headings, bullets) or YAML; a point may end with its length, as in "(4 sentences)".
        model: checkpoint of a concept model.
        decoder: checkpoint of a decoder of the same encoder.
        sentences_per_point: length of a point for which the outline gives none, in sentences.
        seed: of all randomness.
        out: Markdown file to write as well.
        anchor: how far each predicted concept is pulled towards its point's, 0 not at all, 1 all the way.
        candidates: sentences that the decoder writes for a concept; the one nearest to it is kept.
        temperature: of the decoder's words, 0 takes the most probable one.
        num_steps: calls of the denoiser a concept; the head's default if not given.
        guidance_scale: how closely the context is followed, 1 is no guidance; the head's default if not given.
        initial_noise: standard deviation of the sampler's start; the head's default if not given.
    """
    from lcm.outline import read_outline

    if candidates > 1 and temperature == 0:
        raise ValueError("candidates differ only at a temperature above 0; give --candidates 1 as well")
    points = read_outline(outline)  # before the heavy imports: a mistake there is told at once
    from lcm.manuscript import open_writer, stream
    from lcm.quiet import quiet

    quiet()

    sampling = {"num_steps": num_steps, "guidance_scale": guidance_scale, "initial_noise": initial_noise}
    stream(
        open_writer(model, decoder, temperature),
        points,
        out=out,
        seed=seed,
        sentences_per_point=sentences_per_point,
        anchor=anchor,
        candidates=candidates,
        **{name: value for name, value in sampling.items() if value is not None},
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
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Measure a model, and a decoder, on held-out documents, beside the baselines that they have to beat.

    Args:
        store: folder that "lcm encode" wrote.
        model: checkpoint of a concept model.
        decoder: checkpoint of a decoder; not measured if not given.
        split: documents to measure on.
        pool: held-out concepts among which a prediction has to find its own.
        num_sentences: held-out sentences that the decoder writes.
        seed: of all randomness.
        out: Markdown file to write as well; the numbers go beside it as .json.
    """
    from lcm.quiet import quiet
    from lcm.report import measure_all

    quiet()
    measure_all(store, model, decoder, split=split, pool=pool, num_sentences=num_sentences, seed=seed, out=out)


def fit() -> None:
    """Train a model or a decoder from yaml files; "lcm fit --help" shows Lightning's options."""


def validate() -> None:
    """Measure the validation loss of a checkpoint."""


def test() -> None:
    """Measure the test loss of a checkpoint."""


def predict() -> None:
    """Write the concept that a checkpoint puts behind each window of the test documents."""


def say(lines: list[str]) -> None:
    """Tell the user on stderr."""
    for line in lines:
        sys.stderr.write(f"{line}\n")


TOOLS: dict[str, Any] = {
    function.__name__: function
    for function in (corpus, encode, info, fit, validate, test, predict, generate, plot, evaluate)
}
