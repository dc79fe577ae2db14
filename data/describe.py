"""What is in a corpus or a store, as text for people: `lcm corpus` and `lcm info`."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from itertools import islice

from data.corpora import CORPORA
from data.document import Document
from data.languages import language_of
from data.plan import count_chars
from data.report import ReadReport
from data.rows import split_document
from data.split import SPLITS
from data.splitters import Splitter, make_splitter
from data.store import ConceptStore

_LINE = 100  # characters of a row that are shown
_SAMPLE_CHARS = 2_000_000  # what the splitter learns from here
_COUNTED_CHARS = 300_000  # what the number of sentences is told by


def list_corpora() -> str:
    """Returns the named corpora, a line each: name, title, licence, the client that carries it."""
    width = max(map(len, CORPORA))
    return "\n".join(
        f"{corpus.name:{width}}  {corpus.title}; {corpus.licence}; {corpus.kind}" for corpus in CORPORA.values()
    )


def describe_documents(
    documents: Iterable[Document], report: ReadReport, *, peek: bool = False, num_headings: int = 40, num_rows: int = 12
) -> str:
    """Returns what documents hold, from one pass over them: counts, levels, roles, languages, licences, sources.

    Args:
        documents: from `read_documents`.
        report: of that reading; what it says at the end is shown.
        peek: show also the tree of the first document, its first rows as they would be stored, and the report.
        num_headings: of the first document's tree.
        num_rows: of the first document.
    """
    seen = _Seen()
    for document in documents:
        seen.add(document)
    if seen.first is None:
        return "no documents"
    lines = _table(
        {
            "documents": f"{seen.number:,}",
            "sentences": f"about {seen.num_sentences:,}",
            "characters": f"{seen.num_chars:,}",
            "levels": _levels(seen.levels),
            "roles": _common(seen.roles),
            "language": _common(seen.languages),
            "licence": _join(seen.licences),
            "source": _join(seen.sources),
        }
    )
    if peek:
        lines += _peek(seen, num_headings, num_rows)
        lines += ["", "left out, repaired or guessed:", *(f"  {line}" for line in report.lines() or ["nothing"])]
    return "\n".join(lines)


class _Seen:
    """Counts documents as they stream by, and keeps the beginning of the corpus."""

    def __init__(self) -> None:
        self.number = self.num_chars = 0
        self.levels: Counter[int] = Counter()
        self.roles: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.licences: dict[str, None] = {}
        self.sources: dict[str, None] = {}
        self.sample: list[Document] = []
        self._sample_chars = 0

    def add(self, document: Document) -> None:
        self.number += 1
        chars = count_chars(document)
        self.num_chars += chars
        self.levels.update(block.level for block in document.blocks)
        self.roles.update(block.role for block in document.blocks)
        self.languages[language_of(document)] += 1
        self.licences[document.licence] = self.sources[document.source] = None
        if self._sample_chars < _SAMPLE_CHARS:
            self.sample.append(document)
            self._sample_chars += chars

    @property
    def first(self) -> Document | None:
        return self.sample[0] if self.sample else None

    @cached_property
    def splitter(self) -> Splitter:
        return make_splitter("punkt", self.sample)

    @property
    def num_sentences(self) -> int:
        """About how many, by the beginning of the corpus."""
        found = chars = 0
        for document in self.sample:
            found += len(split_document(document, self.splitter))
            chars += count_chars(document)
            if chars > _COUNTED_CHARS:
                break
        return self.num_chars * found // max(1, chars)


def _peek(seen: _Seen, num_headings: int, num_rows: int) -> list[str]:
    """Returns the tree of the first document, with the number of rows beneath each heading, and its first rows."""
    assert seen.first is not None
    rows = split_document(seen.first, seen.splitter)
    starts = [index for index, row in enumerate(rows) if row.role == "heading"]
    ends = [*starts[1:], len(rows)][: len(starts)]
    tree = [
        f"{'  ' * (5 - rows[start].level)}{rows[start].text[:_LINE]}  ({end - start - 1} rows)"
        for start, end in zip(starts, ends, strict=True)
    ]
    shown = [_row(row.level, row.role, row.text) for row in rows[:num_rows]]
    return [
        "",
        f"tree of the first document, {seen.first.title}, {len(rows):,} rows:",
        *(tree[:num_headings] or ["  no headings"]),
        *([f"  ... and {len(tree) - num_headings} more headings"] if len(tree) > num_headings else []),
        "",
        "its first rows, with level and role:",
        *shown,
    ]


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
    levels = Counter({int(level): count for level, count in manifest["levels"].items()})
    lines = [
        *_table(
            {
                "store": str(store.path),
                "encoder": f"{store.encoder_name} ({store.encoder})",
                "concepts": f"{manifest['num_sentences']:,} of width {store.dim}, {manifest['dtype']}",
                "documents": f"{len(store):,}",
                **splits,
                **({"splits": "kept from where the documents came from"} if manifest.get("keep_splits") else {}),
                **({"moved": f"{moved}, so that no split is empty"} if moved else {}),
                "splitter": f"{manifest['splitter']}, at most {manifest['max_chars']} characters",
                "levels": _levels(levels),
                "language": _join(store.documents.different("language")),
                "licence": _join(store.documents.different("licence")),
                "source": _join(store.documents.different("source")),
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


def _common(counts: Counter[str]) -> str:
    """Returns the most frequent values with their counts, the first six of them by name."""
    more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
    return ", ".join(f"{value} {count:,}" for value, count in counts.most_common(6)) + more


def _join(values: Iterable[str]) -> str:
    """Returns the different values, the first three of them by name."""
    different = list(dict.fromkeys(values))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more
