"""How much of a sentence has been said before."""

import re

SIZE = 3  # words of what counts as said again


def repeated_share(text: str, before: str) -> float:
    """Return the share of a sentence's runs of three words that stand in the text before it, or earlier in itself.

    Letters count in lower case, punctuation does not. A sentence of fewer words is one run. One without a word repeats
    nothing.
    """
    words, said_words = _words(text), _words(before)
    size = min(SIZE, len(words))
    if not size:
        return 0.0
    said, num = set(_runs(said_words, size)), 0
    runs = _runs(words, size)
    for run in runs:
        num += run in said
        said.add(run)
    return num / len(runs)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(words: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
