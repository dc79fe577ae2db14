"""Windows of documents, and the rows of a batch that are made of them."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from data.batch import Piece
from data.packing import pack
from data.store import ConceptStore


def cut_windows(documents: np.ndarray, lengths: np.ndarray, length: int, stride: int) -> np.ndarray:
    """Cuts documents into windows of up to `length` rows that start every `stride` rows: int64 (num, 3).

    A window is (document, start, stop). Every row is in at least one. The last window of a document ends with it; where
    windows do not overlap (stride = length) it is what is left, so that no row counts twice.

    Args:
        documents: numbers of the documents.
        lengths: their numbers of rows, of any integer type.
        length: longest window.
        stride: from one window's start to the next one's.
    """
    lengths = lengths.astype(np.int64)
    last = np.maximum(lengths - length, 0)
    num_windows = -(-lengths // length) if stride == length else -(-last // stride) + 1
    which = np.repeat(np.arange(len(documents)), num_windows)
    number = np.arange(len(which)) - np.repeat(num_windows.cumsum() - num_windows, num_windows)
    start = number * stride if stride == length else np.minimum(number * stride, last[which])
    return np.stack((documents[which], start, np.minimum(start + length, lengths[which])), axis=1)


class WindowRows(Dataset[list[Piece]]):
    """Rows for a batch, each one window of a store or several one behind the other.

    Attributes:
        store: the store.
        end: concept (D,) that is a row of level 0 behind each document's last; None if there is none. Windows count it.
        windows: int64 (P, 3), those of a row together.
        starts: number of the first window of each row, and the end, int64 (rows + 1,).
        lengths: concepts in each row, int64 (rows,).
    """

    def __init__(
        self,
        store: ConceptStore,
        windows: np.ndarray,
        starts: np.ndarray | None = None,
        *,
        end: np.ndarray | None = None,
    ) -> None:
        self.store, self.windows = store, windows
        self.end = None if end is None else end.astype(np.float16)[None]  # as the rows, so that they go in one array
        self.starts = np.arange(len(windows) + 1) if starts is None else starts
        total = np.concatenate(([0], (windows[:, 2] - windows[:, 1]).cumsum()))
        self.lengths = np.diff(total[self.starts])

    @classmethod
    def packed(
        cls, store: ConceptStore, windows: np.ndarray, length: int, seed: int, *, end: np.ndarray | None = None
    ) -> "WindowRows":
        """Returns rows of up to `length` concepts with as many windows as fit."""
        order, starts = pack(windows[:, 2] - windows[:, 1], length, seed)
        return cls(store, windows[order], starts, end=end)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> list[Piece]:
        """Returns the windows of a row: views of the store, or a copy where a document ends."""
        return [self._read(*window) for window in self.windows[self.starts[index] : self.starts[index + 1]].tolist()]

    def _read(self, document: int, start: int, stop: int) -> Piece:
        last = min(stop, int(self.store.lengths[document]))
        concepts, levels = self.store.window(document, start, last), self.store.levels(document)[start:last]
        if stop == last:
            return concepts, levels
        assert self.end is not None, (document, start, stop, last)
        return np.concatenate((concepts, self.end)), np.append(levels, np.int8(0))


def row_lengths(datasets: Sequence[WindowRows]) -> np.ndarray:
    """Returns the number of concepts in each row of several data sets, one after the other, int64."""
    return np.concatenate([dataset.lengths for dataset in datasets])
