"""The verbs of the command line beside training: typed functions, with heavy imports inside."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lcm.console import say
from lcm.probe import probe
from lcm.store_tools import STORE_TOOLS
from lcm.writing_tools import evaluate, generate, plot


def corpus(
    source: str,
    *,
    peek: bool = False,
    rows: int = 12,
    cut: Literal["auto", "never", "chapter"] = "auto",
    language: str = "auto",
    keep_boilerplate: bool = False,
    keep_control_characters: bool = False,
    near_duplicates: float = 0.0,
) -> None:
    """Fetch and read a corpus, and show what was understood: counts, levels, languages, what was left out.

    Args:
        source: a named corpus (shakespeare, austen, sotu, moby-dick, anarchism, grimm), a file, a folder of files, or a
            Hugging Face data set; "list" names the corpora with their licences. Files may be text, Markdown, HTML,
            EPUB, subtitles, YAML scenes, JSON lines or Parquet; records may be texts, dialogues, questions with
            answers, LongPage books or Reasoning-v1.
        peek: show also the tree of the first document and its first rows as they would be stored.
        rows: number of rows to show.
        cut: whether books become one document a chapter: "auto" does so when there are fewer than ten documents.
        language: as nltk's Punkt names it (english, russian, german, ...); "auto" tells it by the text.
        keep_boilerplate: keep the headers and licences of public-domain editions, which are left out otherwise.
        keep_control_characters: keep control characters, soft hyphens and zero-width spaces, left out otherwise.
        near_duplicates: leave out documents that share this part of their word sequences with an earlier one, such as
            0.8; 0 keeps all.
    """
    from data.clean import Cleaning
    from data.describe import describe_documents, list_corpora
    from data.readers import read_documents
    from data.report import ReadReport

    if source == "list":
        sys.stdout.write(list_corpora() + "\n")
        return
    report = ReadReport()
    cleaning = Cleaning(not keep_boilerplate, not keep_control_characters, near_duplicates)
    documents = read_documents(source, cut=cut, language=language, cleaning=cleaning, report=report)
    text = describe_documents(documents, report, peek=peek, num_rows=rows)
    if not peek:
        say(report.lines())
    sys.stdout.write(text + "\n")


def encode(
    corpus: str,
    *,
    out: Path,
    encoder: str = "minilm",
    engine: Literal["here", "ray"] = "here",
    address: str | None = None,
    actors: int | None = None,
    cpus_per_actor: int = 1,
    gpus_per_actor: float = 0.0,
    splitter: str = "punkt",
    cut: Literal["auto", "never", "chapter"] = "auto",
    language: str = "auto",
    max_chars: int = 250,
    keep_boilerplate: bool = False,
    keep_control_characters: bool = False,
    near_duplicates: float = 0.0,
) -> None:
    """Split a corpus into sentences, encode them and write the store; run it again to finish what was cut short.

    Args:
        corpus: a named corpus, a file, a folder or a Hugging Face data set, as for "lcm corpus".
        out: folder of the store; with Ray it must be one that all machines share.
        encoder: "minilm", "hashing" (fast and meaningless, to try things), or any sentence-transformers name or folder.
        engine: "here" encodes in this process, "ray" on a Ray cluster (the extra [ray]).
        address: of the Ray cluster, as in "auto" or "10.0.0.1:6379"; Ray is started here if not given.
        actors: encoders that Ray runs; as many as the cluster holds if not given.
        cpus_per_actor: cores each of them takes.
        gpus_per_actor: GPUs each of them takes, 0.5 for two on one.
        splitter: "punkt", or "wtpsplit:MODEL" (the extra [wtpsplit]) for languages that Punkt cannot split.
        cut: whether books become one document a chapter: "auto" does so when there are fewer than ten documents.
        language: as nltk's Punkt names it (english, russian, german, ...); "auto" tells it by the text.
        max_chars: longer sentences are split at their best boundary, in characters.
        keep_boilerplate: keep the headers and licences of public-domain editions, which are left out otherwise.
        keep_control_characters: keep control characters, soft hyphens and zero-width spaces, left out otherwise.
        near_duplicates: leave out documents that share this part of their word sequences with an earlier one, such as
            0.8; 0 keeps all.
    """
    from data.clean import Cleaning
    from data.describe import describe_store
    from data.encode import Engine, encode_corpus, encode_here
    from data.readers import read_documents
    from data.report import ReadReport
    from encoders.encoder import load_encoder

    chosen: Engine = partial(encode_here, num_splitters=_count_splitters(encoder))
    if engine == "ray":
        from data.ray_engine import RayEngine

        chosen = RayEngine(
            address=address, num_actors=actors, cpus_per_actor=cpus_per_actor, gpus_per_actor=gpus_per_actor
        )
    elif (address, actors, cpus_per_actor, gpus_per_actor) != (None, None, 1, 0.0):
        raise ValueError("--address, --actors, --cpus-per-actor and --gpus-per-actor go with --engine ray")
    report = ReadReport()
    cleaning = Cleaning(not keep_boilerplate, not keep_control_characters, near_duplicates)
    documents = read_documents(corpus, cut=cut, language=language, cleaning=cleaning, report=report)
    try:
        store = encode_corpus(
            documents, load_encoder(encoder), out, max_chars=max_chars, splitter=splitter, engine=chosen
        )
    finally:
        say(report.lines())
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


def fit() -> None:
    """Train a model or a decoder from yaml files; "lcm fit --help" shows Lightning's options."""


def validate() -> None:
    """Measure the validation loss of a checkpoint."""


def test() -> None:
    """Measure the test loss of a checkpoint."""


def predict() -> None:
    """Write the concept that a checkpoint puts behind each window of the test documents."""


def _count_splitters(encoder: str) -> int:
    """Return how many processes split text: some beside a GPU, which a thread could not keep busy; else none."""
    import torch

    if encoder.startswith("hashing") or not torch.cuda.is_available():
        return 0
    return max(0, min(6, len(os.sched_getaffinity(0)) - 2))


TOOLS: dict[str, Any] = {
    **{function.__name__: function for function in (corpus, encode, info)},
    **STORE_TOOLS,
    **{function.__name__: function for function in (fit, validate, test, predict, generate, plot, evaluate, probe)},
}
