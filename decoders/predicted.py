"""What a concept model predicted for the sentences of a store, as files beside it, and how far it is off."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.durable import read_json
from data.store import ConceptStore, check_encoder
from data.transfer.gather import hash_json
from data.transfer.taken import identify

MANIFEST, CONCEPTS, KNOWN = "predicted.json", "concepts.npy", "known.npy"
FORMAT, VERSION = "predicted-concepts", 1


class PredictedConcepts:
    """Teacher-forced predictions of the sentences of a store, memory-mapped; `lcm foretell` writes them.

    Each row was predicted from the true rows before it in its document. Rows are those of the store, all of them;
    headings, first rows of documents and what was not asked for have no prediction.

    Attributes:
        path: the folder.
        manifest: what was predicted, by which model, and how.
        store: the store that they are of.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], store: ConceptStore) -> None:
        self.path, self.manifest, self.store = path, manifest, store
        self.offsets = first_rows(store)
        self._concepts = np.load(path / CONCEPTS, mmap_mode="r", allow_pickle=False)
        self._known = np.load(path / KNOWN, mmap_mode="r", allow_pickle=False)

    @classmethod
    def open(cls, path: str | Path, store: ConceptStore) -> "PredictedConcepts":
        """Open what was predicted of a store.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: it is something else, damaged, or of another store, be it this one as it was before.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise FileNotFoundError(
                f'there are no predictions at {path}; make them with "lcm foretell {store.path} --model CKPT --out '
                f'{path}"'
            )
        manifest = read_json(path / MANIFEST)
        if (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"{path} holds no predictions that this code reads; run lcm foretell again")
        check_encoder(manifest["encoder"], store.encoder, f"the model that predicted {path}")
        if manifest["of"] != hash_json(identify(store)):
            raise ValueError(
                f"the predictions at {path} are of {manifest['store']} as it was then, not of {store.path} as it is "
                "now; run lcm foretell on it, into another folder"
            )
        try:
            found = cls(path, manifest, store)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and run lcm foretell again") from error
        num_rows = int(store.lengths.sum(dtype=np.int64))
        if found._concepts.shape != (num_rows, store.dim) or found._known.shape != (num_rows,):
            raise ValueError(f"{path} is damaged: it has not the {num_rows} rows of its store; run lcm foretell again")
        return found

    def __reduce__(self) -> tuple[Any, tuple[Path, ConceptStore]]:
        return type(self).open, (self.path, self.store)  # a memory map would cross to another process as a copy

    def known(self, documents: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return which rows (N,) of documents (N,) have a prediction, bool (N,)."""
        return self._known[self.offsets[documents] + rows]

    def concepts(self, documents: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the predictions of rows (N,) of documents (N,), raw, float32 (N, D)."""
        return self._concepts[self.offsets[documents] + rows].astype(np.float32)


def first_rows(store: ConceptStore) -> np.ndarray:
    """Return the number of rows of a store before each document, int64 (documents,)."""
    lengths = store.lengths.astype(np.int64)
    return lengths.cumsum() - lengths


def noise_level(predicted: Tensor, true: Tensor) -> float:
    """Return the share of the variance of predictions that is noise, in [0, 1).

    It is 1 - cos^2, in the mean over N predictions, with cos the cosine of a prediction and its truth seen from the
    mean of the true concepts. A decoder in training noises x to sqrt(1 - level) x + sqrt(level) noise, where the noise
    stands at right angles to x and is as long: the cosine of that with x is sqrt(1 - level), so a level of 1 - cos^2
    is the one at which a noised concept is as far off as a predicted one. Lengths do not enter.

    Args:
        predicted: raw predictions (N, D).
        true: raw concepts (N, D) that they are of.
    """
    centre = true.float().mean(0)
    cosine = torch.cosine_similarity(predicted.float() - centre, true.float() - centre, dim=-1)
    return min(float(1 - cosine.square().mean()), 0.999)
