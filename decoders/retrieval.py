"""The nearest training sentence: what a decoder has to beat."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from data.store import ConceptStore
from decoders.sentences import read_sentences

if TYPE_CHECKING:
    from faiss import IndexFlatIP


class RetrievalDecoder:
    """Decodes a concept to the stored sentence with the nearest concept, by cosine; exact search.

    Args:
        concepts: raw concepts (N, D) of the stored sentences.
        sentences: the N sentences.
        encoder: fingerprint of the encoder that made the concepts.
        encoder_name: name that makes that encoder again.

    Raises:
        ValueError: no sentences, or not as many as concepts.
        ImportError: faiss is not installed.
    """

    def __init__(
        self, concepts: Tensor | np.ndarray, sentences: Sequence[str], encoder: str = "", encoder_name: str = ""
    ) -> None:
        if not len(sentences) or len(concepts) != len(sentences):
            raise ValueError(
                f"need a sentence for each concept, found {len(concepts)} concepts, {len(sentences)} sentences"
            )
        table = _unit(concepts)
        self.sentences = list(sentences)
        self.dim, self.encoder, self.encoder_name = table.shape[1], encoder, encoder_name
        self.index = _flat_index(self.dim)
        self.index.add(table)

    @classmethod
    def from_store(cls, store: ConceptStore, split: str = "train") -> "RetrievalDecoder":
        """Return a decoder over the sentences (level 0) of a split of a store."""
        concepts: list[np.ndarray] = []
        sentences: list[str] = []
        for i in store.split(split).tolist():
            own, texts = read_sentences(store, i)
            concepts.append(own)
            sentences += texts
        if not sentences:
            raise ValueError(f"the store {store.path} has no {split} sentences; encode more documents")
        return cls(np.concatenate(concepts), sentences, store.encoder, store.encoder_name)

    def nearest(self, concepts: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return cosine (N,) and row (N,) of the stored sentence nearest to each raw concept (N, D)."""
        cosine, row = self.index.search(_unit(concepts), 1)
        return cosine[:, 0], row[:, 0]

    def decode(
        self, concepts: Tensor, context: Sequence[str] | None = None, *, generator: Generator | None = None
    ) -> list[str]:
        """Return the nearest stored sentence of each raw concept (N, D); context and generator change nothing."""
        return [self.sentences[row] for row in self.nearest(concepts)[1]]


def _unit(concepts: Tensor | np.ndarray) -> np.ndarray:
    """Return the concepts as contiguous float32 rows of length 1."""
    table = torch.as_tensor(concepts).detach().float().cpu()
    return torch.nn.functional.normalize(table, dim=-1).contiguous().numpy()


def _flat_index(dim: int) -> "IndexFlatIP":
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            'retrieval needs faiss: install the extra "cpu", or "gpu" on a machine with a GPU: pip install -e ".[cpu]"'
        ) from error
    return faiss.IndexFlatIP(dim)
