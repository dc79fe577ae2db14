"""What a model predicts for every sentence of a store, written beside it for a decoder to learn from."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.batch import ConceptBatch, Piece
from data.durable import hash_file, hidden, lock, read_json, sync_folder, told_when_full, write_json
from data.loader import budgeted, keyed_generator
from data.split import SPLITS
from data.store import ConceptStore
from data.transfer.gather import hash_json, refuse_inside, show_bar
from data.transfer.taken import identify
from data.windows import cut_windows
from decoders.predicted import CONCEPTS, FORMAT, KNOWN, MANIFEST, VERSION, PredictedConcepts, first_rows, noise_level
from lcm.checkpoint import load_model
from lcm.model import ConceptModel
from lcm.sampling import read_sampling

ROWS_TOGETHER = 8192  # rows of a batch, padding included
ROWS_APART = 16_384  # rows between two moments at which a killed run may go on
_MEASURED = 8192  # predictions whose noise is measured


@dataclass(frozen=True)
class Asked:
    """How predictions are made.

    Attributes:
        model: path of a concept model's checkpoint.
        splits: documents that are predicted.
        sampling: options of the model's head, as a user writes them.
        seed: of the draws, where the model draws.
        bfloat16: whether the model computes in bfloat16, as most train.
    """

    model: Path
    splits: Sequence[str] = SPLITS
    sampling: Mapping[str, int | float | str] = field(default_factory=dict)
    seed: int = 0
    bfloat16: bool = True

    def __post_init__(self) -> None:
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise ValueError(f"give one or several of the splits {', '.join(SPLITS)}, found {list(self.splits)}")

    def mark(self, store: ConceptStore) -> dict[str, Any]:
        """Return what decides the predictions of a store."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "store": str(store.path),
            "of": hash_json(identify(store)),
            "encoder": store.encoder,
            "model": str(self.model),
            "model_sha256": hash_file(self.model),
            "splits": [name for name in SPLITS if name in self.splits],
            "sampling": dict(self.sampling),
            "seed": self.seed,
            "bfloat16": self.bfloat16,
        }


def predict_store(
    store: ConceptStore,
    out: Path,
    asked: Asked,
    *,
    rows_apart: int = ROWS_APART,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> PredictedConcepts:
    """Write the model's prediction of every sentence of a store from the true rows before it; return them.

    They are raw and as long as the model makes them, for so generation hands them to a decoder (lcm/writer.py). The
    folder gets its name when it is whole; a run that was killed goes on when it is run again.

    Args:
        store: the store.
        out: folder to write.
        asked: how.
        rows_apart: rows after which what was done is safe.
        device: where the model runs.
        progress: show a bar on stderr.

    Raises:
        ValueError: `out` holds something else; the model has no such option, knows another encoder, or predicts what
            float16 cannot hold.
        BlockingIOError: another process writes the same.
    """
    refuse_inside(out, [store.path])
    trained = load_model(asked.model, store.encoder)
    options, mark = read_sampling(trained.model, asked.sampling), asked.mark(store)
    if out.exists():
        if not (out / MANIFEST).is_file() or not mark.items() <= read_json(out / MANIFEST).items():
            raise ValueError(f"{out} is there already and holds something else; choose another name or delete it")
        return PredictedConcepts.open(out, store)
    documents = np.sort(np.concatenate([store.split(name) for name in mark["splits"]]))
    total = int(store.lengths[documents].sum(dtype=np.int64))
    work = hidden(out)
    work.mkdir(parents=True, exist_ok=True)
    with lock(work), told_when_full(work), show_bar("predicting", total, visible=progress) as advance:
        concepts, known, done = _begin(work, mark, store)
        model, length = trained.model.to(device), trained.length
        for part in _parts(documents, store.lengths, rows_apart):
            if int(part[-1]) >= done:
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=asked.bfloat16):
                    _predict_part(model, store, part, concepts, known, length=length, seed=asked.seed, **options)
                concepts.flush()
                known.flush()
                write_json(work / MANIFEST, mark | {"documents_done": int(part[-1]) + 1})
            advance(int(store.lengths[part].sum(dtype=np.int64)))
        write_json(work / MANIFEST, mark | _count(store, documents, concepts, known))
        del concepts, known
        work.replace(out)
        (out / ".lock").unlink()
        sync_folder(out.parent)
    return PredictedConcepts.open(out, store)


def windows_of(documents: np.ndarray, lengths: np.ndarray, length: int) -> np.ndarray:
    """Return windows of documents and from which row on each counts, int64 (W, 4): document, start, stop, first.

    As in lcm.evaluation.predictor(): windows overlap by half, and a row is predicted from at least length / 2 rows
    before it, or from all there are.

    Args:
        documents: numbers (N,) of documents.
        lengths: their rows (N,).
        length: longest window, in rows.
    """
    windows = cut_windows(documents, lengths, length, max(length // 2, 1))
    first = np.where(windows[:, 1] == 0, 1, np.roll(windows[:, 2], 1))  # a document's first row has nothing before it
    return np.concatenate((windows, first[:, None]), axis=1)


def _begin(work: Path, mark: Mapping[str, Any], store: ConceptStore) -> tuple[np.memmap, np.memmap, int]:
    """Return the files to fill, of all rows of the store, and the first document that is not done yet."""
    begun = read_json(work / MANIFEST) if (work / MANIFEST).is_file() else {}
    num_rows = int(store.lengths.sum(dtype=np.int64))
    if begun and mark.items() <= begun.items() and "documents_done" in begun:
        return np.load(work / CONCEPTS, mmap_mode="r+"), np.load(work / KNOWN, mmap_mode="r+"), begun["documents_done"]
    for file in work.iterdir():  # of a run that was asked for something else
        if file.name != ".lock":
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    make = np.lib.format.open_memmap
    concepts = make(work / CONCEPTS, "w+", np.float16, (num_rows, store.dim))
    return concepts, make(work / KNOWN, "w+", np.bool_, (num_rows,)), 0


def _parts(documents: np.ndarray, lengths: np.ndarray, rows_apart: int) -> Iterator[np.ndarray]:
    """Yield documents in order, some at a time: those whose rows make up `rows_apart`, about."""
    number = lengths[documents].cumsum(dtype=np.int64) // rows_apart
    yield from np.split(documents, np.flatnonzero(np.diff(number)) + 1)


@torch.no_grad()
def _predict_part(
    model: ConceptModel,
    store: ConceptStore,
    documents: np.ndarray,
    concepts: np.ndarray,
    known: np.ndarray,
    *,
    length: int,
    seed: int,
    **sampling: Any,
) -> None:
    """Write the predictions of some documents into the files of all rows."""
    documents = documents[store.lengths[documents] >= 2]  # in others there is nothing to predict
    windows, offsets = windows_of(documents, store.lengths[documents], length), first_rows(store)
    sizes = windows[:, 2] - windows[:, 1]
    device = next(model.parameters()).device
    for batch in budgeted(np.arange(len(windows)), sizes, sizes, ROWS_TOGETHER, seed=0, epoch=0):
        chosen = windows[batch].tolist()
        pieces = [
            (store.window(document, start, stop), store.levels(document)[start:stop])
            for document, start, stop, _ in chosen
        ]
        generator = keyed_generator(seed, *chosen[0][:2], device=device)
        found = model.predict(_pad(pieces).to(device), generator=generator, **sampling)
        for row, (document, start, stop, first) in zip(found.cpu(), chosen, strict=True):
            level = store.levels(document)[first:stop]
            half = row[first - start : stop - start].half()
            if not half.isfinite().all():
                raise ValueError(f"the model predicts numbers that float16 cannot hold in document {document}")
            place = slice(int(offsets[document]) + first, int(offsets[document]) + stop)
            concepts[place] = half.numpy()
            known[place] = level == 0


def _pad(pieces: Sequence[Piece]) -> ConceptBatch:
    """Return windows as a batch, a row each."""
    concepts = [torch.from_numpy(half.astype(np.float32)) for half, _ in pieces]
    return ConceptBatch.pad(concepts, [torch.from_numpy(levels.astype(np.int64)) for _, levels in pieces])


def _count(
    store: ConceptStore, documents: np.ndarray, concepts: np.ndarray, known: np.ndarray
) -> dict[str, int | float]:
    """Return how many sentences of documents have a prediction, how many have none, and how far off they are."""
    sentences = sum(int((store.levels(int(document)) == 0).sum()) for document in documents)
    rows = np.flatnonzero(known)
    if len(rows) < 2:
        raise ValueError(f"there is nothing to predict in {store.path}; give more splits, or encode more documents")
    rows = rows[torch.randperm(len(rows), generator=keyed_generator(0))[:_MEASURED].numpy()]
    offsets = first_rows(store)
    owner = np.searchsorted(offsets, rows, side="right") - 1
    true = np.stack([store[document][row] for document, row in zip(owner.tolist(), rows - offsets[owner], strict=True)])
    level = noise_level(torch.from_numpy(concepts[rows]), torch.from_numpy(true))
    return {"predicted": int(known.sum()), "without": sentences - int(known.sum()), "level": level}
