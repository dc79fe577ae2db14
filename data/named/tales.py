"""Read Orange's tables of tales: tab-separated, three header rows (names, types, flags), then a row for each tale."""

import csv
import io
import re

from data.document import CHAPTER, Block, Document

_HEADER_ROWS = 3


def read_tales(text: str, source: str, licence: str) -> list[Document]:
    """Returns a document for each tale: its title, its abstract as a summary, its paragraphs.

    Title and summary both have level 2: a tale is as long as a chapter, and a plan may stand at either.

    Raises:
        ValueError: the table has no columns "Title" and "Content".
    """
    table = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    names = table[0] if table else []
    if "Title" not in names or "Content" not in names:
        raise ValueError(f'{source}: expected the columns "Title" and "Content", found {", ".join(names) or "nothing"}')
    documents = []
    for cells in table[_HEADER_ROWS:]:
        tale = dict(zip(names, cells, strict=False))
        if not tale.get("Content", "").strip():
            continue  # a blank line below the header
        blocks = [Block(tale["Title"], CHAPTER, "heading")]
        if tale.get("Abstract"):
            blocks.append(Block(tale["Abstract"], CHAPTER, "summary"))
        blocks += [
            Block(paragraph) for paragraph in re.split(r"\s{2,}", tale["Content"].replace("[*]", "")) if paragraph
        ]
        documents.append(Document(tale["Title"], tuple(blocks), source, licence))
    return documents
