"""Drawing the way of a text or of a store's document through the plane of a store."""

import sys
from pathlib import Path

import numpy as np

from data.store import ConceptStore
from lcm.checkpoint import open_encoder
from lcm.trajectory import fit_basis, trajectory_figure

Rows = tuple[str, list[str], np.ndarray, np.ndarray]  # title, texts, levels (S,), concepts (S, D)


def draw(document: str, store_path: Path, out: Path, title: str | None) -> None:
    """Draw a text file or a document of a store in the plane of the store."""
    store = ConceptStore.open(store_path)
    if document.isdecimal():
        name, texts, levels, concepts = document_of(store, int(document))
    else:
        from rich.console import Console

        with Console(stderr=True).status(f"encoding {document}"):
            name, texts, levels, concepts = text_of(Path(document), store)
    corpus = np.concatenate([store[i] for i in store.split("train")])
    basis = fit_basis(corpus, encoder=store.encoder)
    sentence = levels == 0
    before = np.concatenate([[0], np.cumsum(sentence)])  # sentences before each row
    headings = np.flatnonzero(~sentence).tolist()
    points: list[int] = [i for i in headings if levels[i] < levels.max()] or headings  # the title is no point
    spans = [(int(before[i]), int(before[j])) for i, j in zip(points, [*points[1:], len(levels)], strict=True)]
    sample = np.random.default_rng(0).choice(len(corpus), min(3000, len(corpus)), replace=False)
    figure = trajectory_figure(
        concepts[sentence],
        basis=basis,
        anchors=concepts[points] if points else None,
        anchor_labels=[texts[i] for i in points] if points else None,
        spans=spans if points else None,
        background=corpus[np.sort(sample)],
        title=title or name,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    sys.stderr.write(f"wrote {out}\n")


def document_of(store: ConceptStore, index: int) -> Rows:
    """Return a document of a store."""
    if index >= len(store):
        raise ValueError(f"the store {store.path} has documents 0 to {len(store) - 1}, not {index}")
    concepts = store[index].astype(np.float32)
    return store.documents[index].title, store.sentences(index), store.levels(index), concepts


def text_of(path: Path, store: ConceptStore) -> Rows:
    """Return a text file as rows, encoded with the encoder of a store."""
    from data.readers import read_documents
    from data.report import ReadReport
    from data.rows import split_document
    from data.splitters import make_splitter

    document = next(iter(read_documents(str(path), cut="never", report=ReadReport())))
    rows = split_document(document, make_splitter("punkt", [document]))
    encoder = open_encoder(store.encoder_name, store.encoder, f"the store {store.path}")
    texts = [row.text for row in rows]
    return document.title, texts, np.array([row.level for row in rows]), encoder.encode(texts)
