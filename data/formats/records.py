"""Records to documents: a line of JSON, a row of Parquet or of a data set is one document, of whatever kind it is.

A record is of the first kind in this table whose fields it has; a null or empty field is none.

| kind | fields | read by |
|---|---|---|
| LongPage | `book_chapters`; or `full_text` with a field of its plan | `data.formats.longpage` |
| dialogue | `conversations`, `conversation`, `messages`, `dialogue` or `dialog` | `data.formats.dialogues` |
| alpaca | `instruction` with `output` or `input`, and no `thought_process` or `response` | `data.formats.dialogues` |
| reasoning | a question with `thought_process`, `rationale` or `solution` | `data.formats.reasoning` |
| prompt, response | a question with `response`, `output`, `completion` or `answer` | `data.formats.reasoning` |
| text | `text` or `content` | `data.prose` |

A question is `instruction`, `prompt`, `question` or `problem`. All kinds may have `title`, `licence` or `license`, and
`language`. A book of LongPage may be wrapped as JSON in one field of the text kind.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.document import BOOK, Block, Document
from data.formats import dialogues, longpage, reasoning
from data.formats.values import bullets_of, count_first, first_text, is_absent, load_value, note_unused, text_of
from data.languages import PUNKT_NAMES
from data.prose import read_prose
from data.report import ReadReport

TEXT_FIELDS = ("text", "content")
WANTED = (
    'record with a text ("text", "messages", "question" and "answer", "book_chapters" ...; see data/formats/records.py)'
)
_TITLE = ("title", "book_title")
_LICENCE = ("licence", "license")
_COMMON = frozenset({*_TITLE, *_LICENCE, "language"})


@dataclass(frozen=True)
class Kind:
    """A kind of record.

    Attributes:
        fields: that it uses, beside those that all have.
        read: record, report -> blocks.
        licence: where the record does not say.
        language: where the record does not say.
    """

    fields: frozenset[str]
    read: Callable[[Mapping[str, Any], ReadReport], list[Block]]
    licence: str = "unknown"
    language: str = "auto"


def _read_text(record: Mapping[str, Any], report: ReadReport) -> list[Block]:
    return read_prose(first_text(record, TEXT_FIELDS), report)


LONGPAGE = Kind(longpage.FIELDS, longpage.read_book, longpage.LICENCE, longpage.LANGUAGE)
DIALOGUE = Kind(dialogues.DIALOGUE_FIELDS, dialogues.read_dialogue)
ALPACA = Kind(dialogues.ALPACA_FIELDS, dialogues.read_alpaca)
REASONING = Kind(reasoning.FIELDS, reasoning.read_reasoning)
TEXT = Kind(frozenset(TEXT_FIELDS), _read_text)

# What a table is read for: its other columns stay on the disk.
FIELDS = _COMMON.union(*(kind.fields for kind in (LONGPAGE, DIALOGUE, ALPACA, REASONING, TEXT)))


def kind_of(record: Mapping[str, Any]) -> Kind | None:
    """Returns the kind of a record, or None if it is none that is known."""
    fields = {field for field, value in record.items() if not is_absent(value)}
    if longpage.is_book(fields):
        return LONGPAGE
    if fields & {*dialogues.TURNS}:
        return DIALOGUE
    if "instruction" in fields and fields & {"output", "input"} and not fields & {"thought_process", "response"}:
        return ALPACA
    if fields & {*reasoning.QUESTIONS} and fields & {*reasoning.THOUGHTS, *reasoning.RESPONSES, "answer"}:
        return REASONING
    return TEXT if fields & {*TEXT_FIELDS} else None


def read_records(records: Iterable[Mapping[str, Any]], name: str, report: ReadReport) -> Iterator[Document]:
    """Yields a document for each record of a known kind that holds a text.

    The others are counted, the first of them by its number, and each field that is not used is noted once.

    Args:
        records: one at a time, so that they need not fit into memory.
        name: of the corpus or the file.
        report: takes what was left out.
    """
    stem = Path(name.removesuffix(".gz")).stem
    noted: set[str] = set()
    for number, record in enumerate(records, start=1):
        record = _unwrap(record)
        try:
            kind = kind_of(record)
            blocks = kind.read(record, report) if kind else []
        except RecursionError:
            count_first("records that nest too deeply left out", f"number {number} of {name}", report)
            continue
        if not kind or not blocks:
            count_first("records without a text left out", f"number {number} of {name}", report)
            continue
        if unused := {field for field in record.keys() - kind.fields - _COMMON - noted if not is_absent(record[field])}:
            note_unused(unused, (), report)
            noted |= unused
        heading = next((block.text for block in blocks if block.level == BOOK and block.role == "heading"), "")
        title = first_text(record, _TITLE) or heading or f"{stem} {number}"
        licence = next((", ".join(bullets_of(record[key])) for key in _LICENCE if key in record), "") or kind.licence
        language = punkt_language(record.get("language")) or kind.language
        yield Document(title, tuple(blocks), name, licence, language)


def punkt_language(name: Any) -> str:
    """Returns a language as nltk's Punkt names it, from a code ("ru", "en-GB"), a name or a list of either; or ""."""
    if isinstance(name, list):
        name = name[0] if name else ""
    lower = text_of(name).lower()
    return PUNKT_NAMES.get(lower.replace("_", "-").partition("-")[0], lower)


def _unwrap(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a record with the book that one of its fields holds as JSON, or the record itself."""
    for field in TEXT_FIELDS:
        value = record.get(field)
        if isinstance(value, Mapping) or (isinstance(value, str) and '"book_chapters"' in value):
            inside = load_value(value)
            if isinstance(inside, Mapping) and longpage.is_book(set(inside)):
                return {**{key: value for key, value in record.items() if key != field}, **inside}
    return record
