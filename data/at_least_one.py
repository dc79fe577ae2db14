from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def at_least_one(items: Iterable[Item], error: str) -> Iterator[Item]:
    """Yields the items, and raises ValueError with this message where there are none."""
    found = False
    for item in items:
        found = True
        yield item
    if not found:
        raise ValueError(error)
