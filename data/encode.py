"""Text to store: documents stream in, shards are committed one by one."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from data.document import Document
from data.durable import read_json
from data.languages import language_of
from data.manifest import MANIFEST, VERSION, finish_store, opened_for_writing
from data.plan import SHARD_CHARS, ShardPlan, count_chars, plan_shards
from data.progress import EncodingBar
from data.rows import Row, split_document
from data.sentences import MAX_CHARS
from data.shards import Shard, is_committed, write_shard
from data.splitters import Splitter, make_splitter
from data.spool import Spool
from data.store import ConceptStore
from encoders.encoder import SentenceEncoder
from encoders.text import clean_text

SAMPLE_CHARS = 20_000_000  # of a corpus, from its beginning: what the splitter learns from
_MADE_BY = "encode"
_STEP = 512  # sentences an encoder call: it sorts them by length, and the bar moves

Advance = Callable[[int, int], None]  # is told how many sentences and characters were done


@dataclass(frozen=True)
class Recipe:
    """All that makes a shard out of its documents.

    Attributes:
        splitter: text to sentences.
        encoder: sentences to concepts.
        max_chars: longer sentences are cut at their best boundary.
    """

    splitter: Splitter
    encoder: SentenceEncoder
    max_chars: int = MAX_CHARS

    @cached_property
    def digest(self) -> str:
        """Hash of all that decides a shard's bytes beside its documents."""
        parts = [VERSION, self.encoder.fingerprint, self.splitter.to_json(), self.max_chars]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Engine(Protocol):
    """Makes shards, here or on many machines; one that is killed leaves whole shards and nothing else."""

    def __call__(self, plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance) -> None:
        """Commits a shard for each plan, in any order."""
        ...


def encode_here(plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance) -> None:
    """Makes the shards one after the other in this process."""
    for plan in plans:
        embed_shard(plan, recipe, folder, advance)


def encode_corpus(
    documents: Iterable[Document],
    encoder: SentenceEncoder,
    path: str | Path,
    *,
    max_chars: int = MAX_CHARS,
    splitter: str = "punkt",
    shard_chars: int = SHARD_CHARS,
    engine: Engine = encode_here,
    progress: bool = True,
) -> ConceptStore:
    """Splits documents into sentences, encodes them and returns the store; safe to kill at any moment and to run again.

    Documents stream through: memory holds a shard of them, and the beginning of the corpus, which the splitter learns
    from. A run that was cut short continues behind its finished shards and ends with the same bytes as one that was
    not. A store whose documents and settings did not change stays as it is; of one whose documents did, only the
    shards with other content are made anew.

    Args:
        documents: what to encode, in this order.
        encoder: sentences to concepts.
        path: folder of the store.
        max_chars: longer sentences are cut at their best boundary.
        splitter: "punkt", or "wtpsplit:MODEL".
        shard_chars: a shard ends with the document that reaches this many characters, in a large corpus with more.
        engine: what makes the shards.
        progress: show a bar on stderr.

    Raises:
        ValueError: no documents, a store of another encoder, NaN or infinity out of the encoder.
        BlockingIOError: another process is writing there.
        OSError: the disk is full; what was finished stays.
    """
    path = Path(path)
    stream = iter(documents)
    sample = list(_take(stream, SAMPLE_CHARS))
    if not sample:
        raise ValueError("there are no documents to encode")
    rest = list(_take(stream, 1))
    with opened_for_writing(path, encoder.fingerprint, encoder.name):
        Spool(path).remove()  # of a run with Ray that was killed
        _refuse_gathered(path)
        recipe = Recipe(make_splitter(splitter, sample), encoder, max_chars)
        with EncodingBar(None if rest else sum(map(count_chars, sample)), visible=progress) as bar:
            undone = _Undone(plan_shards(chain(sample, rest, stream), shard_chars), recipe, path, bar.advance)
            del sample
            engine(undone, recipe, path, bar.advance)
        settings = {"made_by": _MADE_BY, "splitter": recipe.splitter.describe(), "max_chars": max_chars}
        finish_store(path, undone.num_shards, encoder.name, settings)
    store = ConceptStore.open(path)
    if not store.documents.splits.any():
        warnings.warn(
            "fewer than three different documents: all are training data and nothing is held out", stacklevel=2
        )
    return store


def embed_shard(plan: ShardPlan, recipe: Recipe, folder: Path, advance: Advance) -> None:
    """Splits the documents of one shard into sentences, encodes them and commits the shard.

    What the encoder is given at a time depends on the shard alone: any engine writes the same bytes.
    """
    rows = [split_document(document, recipe.splitter, recipe.max_chars) for document in plan.documents]
    flat = list(chain.from_iterable(rows))
    concepts = np.zeros((len(flat), recipe.encoder.dim), dtype=np.float16)
    advance(0, plan.num_chars - sum(len(row.text) for row in flat))  # white space
    for start in range(0, len(flat), _STEP):
        texts = [row.text for row in flat[start : start + _STEP]]
        with np.errstate(over="ignore"):  # infinity is refused below, by name
            concepts[start : start + len(texts)] = recipe.encoder.encode(texts)
        advance(len(texts), sum(map(len, texts)))
    _refuse_nan(concepts, plan, rows)
    shard = Shard(
        plan.index,
        plan.first,
        [_describe(document, len(own)) for document, own in zip(plan.documents, rows, strict=True)],
        pa.array([row.text for row in flat], pa.string()),
        concepts,
        np.array([row.level for row in flat], dtype=np.int8),
        pa.array([row.role for row in flat], pa.string()),
    )
    write_shard(folder, shard, recipe.encoder.fingerprint, plan.digest(recipe.digest))


class _Undone:
    """The shards of a corpus that are not committed yet; it counts them, and all, while it is iterated."""

    def __init__(self, plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance) -> None:
        self.plans, self.recipe, self.folder, self.advance = plans, recipe, folder, advance
        self.num_shards = self.num_made = 0

    def __iter__(self) -> Iterator[ShardPlan]:
        for plan in self.plans:
            self.num_shards += 1
            if is_committed(self.folder, plan.index, plan.digest(self.recipe.digest)):
                self.advance(0, plan.num_chars)
                continue
            self.num_made += 1
            (self.folder / MANIFEST).unlink(missing_ok=True)  # from here on the folder may disagree with it
            yield plan


def _refuse_gathered(path: Path) -> None:
    """Refuses to write over a store that was merged, filtered or imported: its documents may be nowhere else."""
    if (path / MANIFEST).is_file():
        manifest = read_json(path / MANIFEST)
        if manifest["version"] == VERSION and manifest.get("made_by") != _MADE_BY:
            raise ValueError(f'the store at {path} was not written by "lcm encode"; choose another folder or delete it')


def _take(documents: Iterator[Document], chars: int) -> Iterator[Document]:
    """Yields documents until they have this many characters."""
    for document in documents:
        yield document
        chars -= count_chars(document)
        if chars <= 0:
            return


def _refuse_nan(concepts: np.ndarray, plan: ShardPlan, rows: list[list[Row]]) -> None:
    finite = np.isfinite(concepts).all(axis=1)
    if finite.all():
        return
    row = int(np.argmin(finite))
    for document, own in zip(plan.documents, rows, strict=True):
        if row < len(own):
            raise ValueError(
                f'the encoder gave NaN or infinity for sentence {row} of "{document.title}": {own[row].text[:80]!r}'
            )
        row -= len(own)


def _describe(document: Document, num_sentences: int) -> dict[str, str | int]:
    fields = ("title", "source", "licence", "key")
    described: dict[str, str | int] = {field: clean_text(getattr(document, field)) for field in fields}
    return described | {"language": language_of(document), "num_sentences": num_sentences}
