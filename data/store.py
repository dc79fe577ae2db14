from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.catalog import CATALOG, Catalog, DocumentInfo
from data.end_of_text import read_end
from data.manifest import read_manifest
from data.shards import open_shard, shard_path, view_concepts
from data.split import SPLITS
from data.verify import end_faults, find_faults, size_faults

__all__ = ["ConceptStore", "DocumentInfo", "check_encoder"]

_OPEN_SHARDS = 512  # memory maps and files that are kept open


class ConceptStore:
    """The sentences of a corpus and their concepts, on disk: documents by number, rows memory-mapped.

    Opening reads descriptions only, and what is read of the rows is the page cache's, not the process's: memory does
    not grow with the store. A store crosses to another process by its path. `encode_corpus` makes one.

    Attributes:
        path: folder of the store.
        manifest: what `manifest.json` holds.
        dim: width D of a concept.
        encoder: fingerprint of the encoder.
        encoder_name: what `load_encoder` takes to make it again.
        documents: one description a document, in order; its columns are arrays.
        lengths: rows of each document, int32 (N,).
        end_of_text: the encoder's concept of "End of text.", float32 (D,); None in a store that older code wrote.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.dim: int = manifest["dim"]
        self.encoder: str = manifest["encoder"]
        self.encoder_name: str = manifest["encoder_name"]
        self.documents = Catalog(path / CATALOG)
        self.lengths = self.documents.lengths
        self.end_of_text = read_end(manifest)
        self._shards: OrderedDict[int, tuple[pa.RecordBatch, np.ndarray]] = OrderedDict()

    @classmethod
    def open(cls, path: str | Path) -> "ConceptStore":
        """Opens a store, after comparing the sizes of its files with the manifest.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: it is no store, half-written, damaged, or of another format version.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if not (path / CATALOG).is_file():
            raise ValueError(f"{path / CATALOG} is missing; run the command that wrote it again")
        for _, fault in size_faults(path, manifest):
            raise ValueError(f"{fault}; run the command that wrote it again")
        for fault in end_faults(path, manifest):
            raise ValueError(f"{fault}; run the command that wrote it again")
        try:
            return cls(path, manifest)
        except (pa.ArrowException, OSError) as error:
            said = str(error).splitlines()[0]
            raise ValueError(f"{path / CATALOG} is damaged ({said}); run the command that wrote it again") from error

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, document: int) -> np.ndarray:
        """Returns the concepts of a document, float16 (S, D), a read-only view of the file."""
        return self.window(document, 0, int(self.lengths[document]))

    def window(self, document: int, start: int, stop: int) -> np.ndarray:
        """Returns the concepts of rows `start` to `stop` of a document, float16 (stop - start, D), no copy."""
        first = self._first_row(document, start, stop)
        return self._shard(int(self.documents.shards[document]))[1][first + start : first + stop]

    def sentences(self, document: int) -> list[str]:
        """Returns the text of a document, sentence by sentence."""
        return self._column(document, "text").to_pylist()

    def text(self, document: int, row: int) -> str:
        """Returns one sentence."""
        first = self._first_row(document, row, row + 1)
        return self._shard(int(self.documents.shards[document]))[0].column("text")[first + row].as_py()

    def text_lengths(self, document: int) -> np.ndarray:
        """Returns the bytes of each row's text, int32 (S,), without reading the text."""
        return pc.call_function("binary_length", [self._column(document, "text")]).to_numpy()

    def levels(self, document: int) -> np.ndarray:
        """Returns the level of each row of a document, int8 (S,)."""
        return self._column(document, "level").to_numpy()

    def roles(self, document: int) -> list[str]:
        """Returns the role of each row of a document: "sentence", "heading", "summary" or a speaker."""
        return self._column(document, "role").to_pylist()

    def rows(self, document: int) -> pa.RecordBatch:
        """Returns all columns of a document, a view of the file."""
        batch = self._shard(int(self.documents.shards[document]))[0]
        return batch.slice(int(self.documents.rows[document]), int(self.lengths[document]))

    def split(self, name: str) -> np.ndarray:
        """Returns the numbers of the documents of a split, int64: "train", "validation" or "test"."""
        if name not in SPLITS:
            raise ValueError(f'there is no split "{name}"; the splits are {", ".join(SPLITS)}')
        return np.flatnonzero(self.documents.splits == SPLITS.index(name))

    @property
    def heading_levels(self) -> list[int]:
        """The levels above 0 that occur, rising."""
        return sorted({int(level) for level in self.manifest["levels"]} - {0})

    def verify(self) -> None:
        """Reads the whole store and checks checksums, widths, row order and that every concept is finite.

        Raises:
            ValueError: names shard and row of everything that is wrong.
        """
        faults = list(find_faults(self.path))
        if faults:
            raise ValueError("; ".join(faults) + "; the command that wrote the store mends it when it is run again")

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return type(self).open, (self.path,)

    def _first_row(self, document: int, start: int, stop: int) -> int:
        assert 0 <= start <= stop <= self.lengths[document], (document, start, stop, self.lengths[document])
        return int(self.documents.rows[document])

    def _shard(self, index: int) -> tuple[pa.RecordBatch, np.ndarray]:
        """Returns a shard's rows and concepts; the ones used last stay open."""
        found = self._shards.get(index)
        if found is None:
            batch = open_shard(shard_path(self.path, index))
            found = self._shards[index] = batch, view_concepts(batch)
            if len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        else:
            self._shards.move_to_end(index)
        return found

    def _column(self, document: int, name: str) -> pa.Array:
        return self.rows(document).column(name)


def check_encoder(known: str, found: str, whose: str) -> None:
    """Raises ValueError if two parts that meet were made with different encoders.

    Args:
        known: fingerprint that `whose` was made with; "" if it has none yet.
        found: fingerprint of the concepts at hand.
        whose: what the user knows the first part as.
    """
    if known and known != found:
        raise ValueError(
            f"{whose} knows concepts of encoder {known[:20]}, these are of encoder {found[:20]}; "
            f"encode and train with one encoder"
        )
