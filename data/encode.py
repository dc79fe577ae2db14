"""Text to store: documents stream in, shards are committed one by one."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from data.document import Document
from data.durable import read_json
from data.embed import Advance, Recipe, SplitShard, encode_shard, splitting_of
from data.end_of_text import END_OF_TEXT, KEY, describe_end, end_of
from data.manifest import MANIFEST, VERSION, finish_store, opened_for_writing
from data.pipeline import Behind, run_ahead
from data.plan import SHARD_CHARS, ShardPlan, count_chars, plan_shards
from data.processes import Processes
from data.progress import EncodingBar
from data.sentences import MAX_CHARS
from data.shards import Shard, is_committed, write_shard
from data.splitters import make_splitter
from data.spool import Spool
from data.store import ConceptStore
from encoders.encoder import SentenceEncoder

SAMPLE_CHARS = 20_000_000  # of a corpus, from its beginning: what the splitter learns from
_MADE_BY = "encode"


class Engine(Protocol):
    """Makes shards, here or on many machines; one that is killed leaves whole shards and nothing else."""

    def __call__(self, plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance) -> None:
        """Commits a shard for each plan, in any order."""
        ...


def encode_here(
    plans: Iterable[ShardPlan], recipe: Recipe, folder: Path, advance: Advance, *, num_splitters: int = 0
) -> None:
    """Makes the shards on this machine, one after the other.

    While one is encoded a thread reads and splits the next ones, and another thread writes those before it. An error
    stops all three; what was encoded until then is written first.

    Args:
        plans: of the shards, in order.
        recipe: what is done to them.
        folder: of the store.
        advance: is told what was done.
        num_splitters: processes that split, for an encoder that is faster than a thread splits, which is some 50,000
            sentences a second; one more process writes then.
    """
    with _writing(num_splitters > 0) as write, Behind() as behind, _splitting(plans, recipe, num_splitters) as splits:

        def tell(sentences: int, chars: int) -> None:
            behind.check()
            advance(sentences, chars)

        for split in splits:
            shard = encode_shard(split, recipe.encoder, tell)
            behind.run(write, folder, shard, recipe.encoder.fingerprint, split.inputs)


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

    Documents stream through: memory holds a few shards of them, and the beginning of the corpus, which the splitter
    learns from. A run that was cut short continues behind its finished shards and ends with the same bytes as one that
    was not. A store whose documents and settings did not change stays as it is; of one whose documents did, only the
    shards with other content are made anew. The sentence that ends a text is encoded too, also for a store that older
    code finished without it.

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
        settings |= _end_of_text(path, encoder)
        finish_store(path, undone.num_shards, encoder.name, settings)
    store = ConceptStore.open(path)
    if not store.documents.splits.any():
        warnings.warn(
            "fewer than three different documents: all are training data and nothing is held out", stacklevel=2
        )
    return store


@contextmanager
def _splitting(plans: Iterable[ShardPlan], recipe: Recipe, num_processes: int) -> Iterator[Iterator[SplitShard]]:
    """Gives the shards of the plans in order, split, while a thread or processes split the next ones."""
    split = splitting_of(recipe)
    if not num_processes:
        with closing(run_ahead(split, plans)) as splits:
            yield splits
        return
    with (
        Processes(split, num_processes) as processes,
        closing(run_ahead(processes.submit, plans, depth=2 * num_processes)) as futures,
    ):
        yield (future.result() for future in futures)


@contextmanager
def _writing(in_process: bool) -> Iterator[Callable[[Path, Shard, str, str], object]]:
    """Gives what writes a shard: checksums of rows are Python, and would keep the encoder's thread waiting."""
    if not in_process:
        yield write_shard
        return
    with Processes(_write, 1) as processes:
        yield lambda *arguments: processes.submit(arguments).result()


def _write(arguments: tuple[Path, Shard, str, str]) -> None:
    write_shard(*arguments)


def _end_of_text(path: Path, encoder: SentenceEncoder) -> dict[str, Any]:
    """Returns the manifest's entry for the end of text; nothing is encoded if the manifest has it."""
    found = end_of(read_json(path / MANIFEST)) if (path / MANIFEST).is_file() else {}
    return found or {KEY: describe_end(encoder.encode([END_OF_TEXT])[0])}


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
