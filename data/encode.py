import fcntl
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.document import Document
from data.rows import SplitDocument, split_documents
from data.sentences import MAX_CHARS, describe_splitter
from data.shards import (
    ShardPlan,
    hash_file,
    list_sidecars,
    read_json,
    read_sidecar,
    shard_path,
    sweep_shards,
    write_json,
    write_shard,
)
from data.split import MIN_DOCUMENTS, SPLITS, assign_splits
from data.store import FORMAT, MANIFEST, VERSION, ConceptStore
from encoders.encoder import SentenceEncoder
from encoders.text import clean_text

if TYPE_CHECKING:
    from rich.progress import Progress

SHARD_SENTENCES = 4096  # half a minute of MiniLM on two cores: what a killed run may lose
_STEP = 512  # sentences an encoder call: it sorts them by length, and the bar moves


def encode_corpus(
    documents: Iterable[Document],
    encoder: SentenceEncoder,
    path: str | Path,
    *,
    max_chars: int = MAX_CHARS,
    shard_sentences: int = SHARD_SENTENCES,
    progress: bool = True,
) -> ConceptStore:
    """Splits documents into sentences, encodes them and returns the store; safe to kill at any moment and to run again.

    A run that was cut short continues behind its last finished shard and ends with the same bytes as one that was not.
    A store whose documents and settings did not change is returned at once; of one whose documents did, only the shards
    with other rows are encoded anew.

    Args:
        documents: what to encode, in this order.
        encoder: sentences to concepts.
        path: folder of the store.
        max_chars: longer sentences are cut at their best boundary.
        shard_sentences: a shard ends with the document that reaches this many rows.
        progress: show a bar on stderr.

    Raises:
        ValueError: no documents, a store of another encoder, NaN or infinity out of the encoder.
        BlockingIOError: another process is writing there.
    """
    path = Path(path)
    corpus = list(documents)
    if not corpus:
        raise ValueError("there are no documents to encode")
    splitter = describe_splitter(document.language for document in corpus)
    inputs = _hash_inputs(corpus, [VERSION, encoder.fingerprint, splitter, max_chars, shard_sentences])
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; a store is a folder")
    path.mkdir(parents=True, exist_ok=True)
    with _lock(path), _bar(progress) as bar:
        _refuse_other_content(path, encoder)
        if _is_finished(path, inputs):
            return ConceptStore.open(path)
        if len({document.key for document in corpus}) < MIN_DOCUMENTS:
            warnings.warn(
                f"fewer than {MIN_DOCUMENTS} different documents: all are training data and nothing is held out",
                stacklevel=2,
            )
        track = bar.track(split_documents(corpus, max_chars), total=len(corpus), description="splitting")
        split = list(track)
        plans = list(_plan_shards(split, shard_sentences))
        (path / MANIFEST).unlink(missing_ok=True)  # from here on the folder may disagree with it
        shards = _encode_shards(plans, encoder, path, bar)
        sweep_shards(path, len(plans))
        settings = {"splitter": splitter, "max_chars": max_chars, "inputs": inputs}
        write_json(path / MANIFEST, _make_manifest(split, encoder, shards) | settings)
    return ConceptStore.open(path)


def _hash_inputs(corpus: Sequence[Document], settings: list[str | int]) -> str:
    """Returns the hash of all that decides a store's content, before anything is split."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for document in corpus:
        blocks = [(block.text, block.level, block.role) for block in document.blocks]
        fields = [document.title, document.source, document.licence, document.language, blocks]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def _is_finished(path: Path, inputs: str) -> bool:
    """Says whether the store is whole, by the sizes of its shards, and was made from these inputs."""
    if not (path / MANIFEST).is_file():
        return False
    manifest = read_json(path / MANIFEST)
    if manifest["version"] != VERSION or manifest["inputs"] != inputs:
        return False
    paths = [shard_path(path, index) for index in range(len(manifest["shards"]))]
    return all(
        file.is_file() and file.stat().st_size == shard["bytes"] and file.with_suffix(".json").is_file()
        for file, shard in zip(paths, manifest["shards"], strict=True)
    )


def _refuse_other_content(path: Path, encoder: SentenceEncoder) -> None:
    """Refuses a folder of other files, and a store, whole or begun, of another encoder."""
    described = [file for file in (path / MANIFEST, *list_sidecars(path)) if file.is_file()]
    if not described and any(not file.name.startswith(".") and file.suffix != ".arrow" for file in path.iterdir()):
        raise ValueError(f"{path} holds other files and no store; choose an empty or a new folder")
    for file in described:
        found = read_json(file).get("encoder")
        if found is None:
            raise ValueError(f"{path} holds a {file.name} that is not of a store; choose an empty or a new folder")
        if found != encoder.fingerprint:
            raise ValueError(
                f"the store at {path} was encoded by {found}, not by {encoder.name} ({encoder.fingerprint}); choose "
                "another folder or delete this one"
            )


def _plan_shards(split: Sequence[SplitDocument], shard_sentences: int) -> Iterator[ShardPlan]:
    index = first = num_rows = 0
    for end, document in enumerate(split, start=1):
        num_rows += len(document.rows)
        if num_rows >= shard_sentences or end == len(split):
            yield ShardPlan(index, first, tuple(split[first:end]))
            index, first, num_rows = index + 1, end, 0


def _encode_shards(
    plans: Sequence[ShardPlan], encoder: SentenceEncoder, path: Path, bar: "Progress"
) -> list[dict[str, Any]]:
    """Writes the shards that are not there yet, and returns what the manifest says of each."""
    shards = []
    task = bar.add_task("encoding", total=sum(len(plan.texts) for plan in plans))
    for plan in plans:
        sidecar = read_sidecar(path, plan.index)
        file = shard_path(path, plan.index)
        done = sidecar is not None and sidecar["inputs"] == plan.digest(encoder.fingerprint) and file.is_file()
        if sidecar is None or not done or hash_file(file) != sidecar["sha256"]:
            blocks = [np.zeros((0, encoder.dim), dtype=np.float16)]
            for start in range(0, len(plan.texts), _STEP):
                texts = plan.texts[start : start + _STEP]
                blocks.append(encoder.encode(texts).astype(np.float16))  # (N, D)
                bar.advance(task, len(texts))
            concepts = np.concatenate(blocks)
            _refuse_nan(concepts, plan)
            sidecar = write_shard(path, plan, concepts, encoder.fingerprint)
        else:
            bar.advance(task, len(plan.texts))
        shards.append({key: sidecar[key] for key in ("rows", "bytes", "sha256")} | {"documents": len(plan.documents)})
    return shards


def _refuse_nan(concepts: np.ndarray, plan: ShardPlan) -> None:
    finite = np.isfinite(concepts).all(axis=1)
    if not finite.all():
        bad = row = int(np.argmin(finite))
        for split in plan.documents:
            if row < len(split.rows):
                break
            row -= len(split.rows)
        raise ValueError(
            f'the encoder gave NaN or infinity for sentence {row} of "{split.document.title}": {plan.texts[bad][:80]!r}'
        )


def _make_manifest(
    split: Sequence[SplitDocument], encoder: SentenceEncoder, shards: list[dict[str, Any]]
) -> dict[str, Any]:
    documents = [document.document for document in split]
    names, moved = assign_splits([document.key for document in documents])
    return {
        "format": FORMAT,
        "version": VERSION,
        "dim": encoder.dim,
        "dtype": "float16",
        "encoder": encoder.fingerprint,
        "encoder_name": encoder.name,
        "num_documents": len(split),
        "num_sentences": sum(len(document.rows) for document in split),
        "splits": {
            name: {
                "documents": names.count(name),
                "sentences": sum(len(document.rows) for document, own in zip(split, names, strict=True) if own == name),
            }
            for name in SPLITS
        },
        "held_out": {name: [index for index, own in enumerate(names) if own == name] for name in SPLITS[1:]},
        "moved": {clean_text(one.title): moved[one.key] for one in documents if one.key in moved},
        "shards": shards,
    }


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process is writing to {path}; wait for it, or choose another folder"
            ) from None
        yield


def _bar(visible: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        SpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )
