import sys
from collections.abc import Iterable


def say(lines: Iterable[str]) -> None:
    """Tells the user on stderr."""
    for line in lines:
        sys.stderr.write(f"{line}\n")
