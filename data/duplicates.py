"""Near-duplicates among documents, by MinHash (Broder 1997) and locality-sensitive hashing."""

import re
from typing import TYPE_CHECKING

from data.document import Document
from encoders.text import clean_text

if TYPE_CHECKING:
    from rensa import RMinHash

_WORD = re.compile(r"\w+")
_RUN = 5  # words
_NUM_PERMUTATIONS, _SEED = 128, 42  # the standard error of an estimate near .8 is .03
_BANDS = (8, 16, 32, 64, 128)
_RECALL = 0.99
_CHUNK = 100_000  # runs of words in memory at a time


class DuplicateFinder:
    """Knows the documents that it was shown, about five kilobytes of each, and finds one that a new one nearly equals.

    Args:
        threshold: estimated Jaccard similarity of their runs of five words from which on two documents are equal.

    Raises:
        ImportError: rensa is not installed.
    """

    def __init__(self, threshold: float) -> None:
        try:
            from rensa import RMinHash, RMinHashDeduplicator
        except ImportError as error:
            raise ImportError(
                "near-duplicates are found by rensa, which is not installed; run pip install rensa"
            ) from error
        self._sketch = RMinHash
        self._index = RMinHashDeduplicator(
            threshold, _NUM_PERMUTATIONS, use_lsh=True, num_bands=_num_bands(threshold), seed=_SEED
        )
        self._titles: list[str] = []

    def find_or_add(self, document: Document) -> str | None:
        """Returns the title of the earliest document that this one nearly equals, or else None and remembers it."""
        sketch = self._sketch_of(document)
        equal = self._index.get_duplicates(sketch)
        if equal:
            return self._titles[min(map(int, equal))]
        self._index.add(str(len(self._titles)), sketch)
        self._titles.append(document.title)
        return None

    def _sketch_of(self, document: Document) -> "RMinHash":
        sketch = self._sketch(_NUM_PERMUTATIONS, _SEED)
        text = clean_text("\n".join(block.text for block in document.blocks)).casefold()
        words = _WORD.findall(text)
        if len(words) < _RUN:  # compared whole; without a word, by its signs
            sketch.update([" ".join(words or text.split())])
        for start in range(0, len(words) - _RUN + 1, _CHUNK):
            part = words[start : start + _CHUNK + _RUN - 1]
            sketch.update([" ".join(part[at : at + _RUN]) for at in range(len(part) - _RUN + 1)])
        return sketch


def _num_bands(threshold: float) -> int:
    """Returns the least number of bands by which nearly all pairs at the threshold are looked at."""
    return next(
        (bands for bands in _BANDS if 1 - (1 - threshold ** (_NUM_PERMUTATIONS // bands)) ** bands >= _RECALL),
        _BANDS[-1],
    )
