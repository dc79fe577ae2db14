"""What is in a corpus or a store, as text for people: `lcm corpus` and `lcm info`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from data.corpora import CORPORA
from data.document import Document
from data.sentences import split_sentences
from data.split import SPLITS
from data.store import ConceptStore

_LINE = 100  # characters of a row that are shown


def list_corpora() -> str:
    """Returns the named corpora, a line each: name, title, licence, the client that carries it."""
    width = max(map(len, CORPORA))
    return "\n".join(
        f"{corpus.name:{width}}  {corpus.title}; {corpus.licence}; {corpus.kind}" for corpus in CORPORA.values()
    )


def describe_documents(documents: Sequence[Document], *, num_headings: int = 12, num_rows: int = 8) -> str:
    """Returns what documents hold: how many, about how many sentences, licence, source, the headings of the first.

    Args:
        documents: from `read_documents`.
        num_headings: headings of the first document to show.
        num_rows: rows of the first document to show.
    """
    first = documents[0]
    num_chars = sum(len(block.text) for document in documents for block in document.blocks)
    blocks = [block for document in documents for block in document.blocks]
    sample = "\n\n".join(block.text for block in blocks[:: 1 + len(blocks) // 200])
    num_sentences = num_chars * len(split_sentences(sample, first.language)) // max(1, len(sample))
    headings = [block for block in first.blocks if block.role == "heading"]
    lines = [
        *_table(
            {
                "documents": f"{len(documents):,}",
                "sentences": f"about {num_sentences:,}",
                "characters": f"{num_chars:,}",
                "licence": _join(document.licence for document in documents),
                "source": _join(document.source for document in documents),
                "levels": _levels(Counter(block.level for document in documents for block in document.blocks)),
            }
        ),
        "",
        f"headings of the first, {first.title}:",
        *(f"{'  ' * (5 - block.level)}{block.text[:_LINE]}" for block in headings[:num_headings]),
        *([f"  ... and {len(headings) - num_headings} more"] if len(headings) > num_headings else []),
        "",
        "its first blocks:",
        *(_row(block.level, block.role, block.text) for block in first.blocks[:num_rows]),
    ]
    return "\n".join(lines)


def describe_store(store: ConceptStore, *, num_rows: int = 8) -> str:
    """Returns what a store holds: encoder, splitter, counts by split and level, size on disk, the first rows.

    Args:
        store: an open store.
        num_rows: rows of the first document to show.
    """
    manifest = store.manifest
    num_bytes = sum(shard["bytes"] for shard in manifest["shards"])
    splits = {
        split: f"{counts['documents']:,} documents, {counts['sentences']:,} sentences"
        for split, counts in ((split, manifest["splits"][split]) for split in SPLITS)
    }
    moved = ", ".join(f'"{title}" to {split}' for title, split in manifest["moved"].items())
    levels: Counter[int] = Counter()
    for index in range(len(store)):
        levels.update(store.levels(index).tolist())
    lines = [
        *_table(
            {
                "store": str(store.path),
                "encoder": f"{store.encoder_name} ({store.encoder})",
                "concepts": f"{manifest['num_sentences']:,} of width {store.dim}, {manifest['dtype']}",
                "documents": f"{len(store):,}",
                **splits,
                **({"moved": f"{moved}, so that no split is empty"} if moved else {}),
                "splitter": f"{manifest['splitter']}, at most {manifest['max_chars']} characters",
                "levels": _levels(levels),
                "licence": _join(document.licence for document in store.documents),
                "source": _join(document.source for document in store.documents),
                "on disk": f"{num_bytes / 1e6:.1f} MB in {len(manifest['shards'])} shards",
            }
        ),
        "",
        f"first rows of {store.documents[0].title}:",
    ]
    rows = zip(store.levels(0).tolist(), store.roles(0), store.sentences(0), strict=True)
    return "\n".join(lines + [_row(level, role, text) for level, role, text in islice(rows, num_rows)])


def _table(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"{name:{width}}  {value}" for name, value in rows.items()]


def _row(level: int, role: str, text: str) -> str:
    shown = text if len(text) <= _LINE else text[: _LINE - 1] + "…"
    return f"  {level}  {role[:16]:16}  {shown}"


def _levels(counts: Counter[int]) -> str:
    names = ("text", "scene", "chapter", "part", "book")
    return ", ".join(f"{names[level]} {counts[level]:,}" for level in sorted(counts))


def _join(values: Iterable[str]) -> str:
    """Returns the different values, the first three of them by name."""
    different = list(dict.fromkeys(values))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more
