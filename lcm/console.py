import sys
from collections.abc import Iterable


def say(lines: Iterable[str]) -> None:
    """Tells the user on stderr."""
    for line in lines:
        sys.stderr.write(f"{line}\n")


def one_sentence(error: Exception) -> str:
    """Return what an error says, without what omegaconf wraps around it."""
    text = str(error).split("while resolving interpolation: ")[-1]
    return text.split("\n    full_key:")[0].strip()
