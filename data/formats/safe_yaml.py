"""Read YAML from strangers: what it would unfold to is counted before anything is built."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import yaml

MAX_BYTES = 1 << 20
MAX_NODES = 200_000
MAX_DEPTH = 50
MAX_ALIASES = 1_000
_NODE_CHARS = 64  # a long string counts as a node more for each that many characters
_TOO_MUCH = f"more than {MAX_NODES:,} values, {MAX_ALIASES:,} aliases or {MAX_DEPTH} levels"

_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast
_TAGS = (None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map", "null")))
_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


class _TextLoader(_SAFE_LOADER):
    """The safe loader, but each scalar is a string: "no", "12:30" and "1.10" are what somebody said."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (_NULL, _MERGE)]
        for first, resolvers in _SAFE_LOADER.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping; one that has a key twice is refused, for the first value would be lost."""
        seen = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE):
            if key in seen:
                problem = f'the key "{key}" stands twice in one mapping; make it a list'
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_yaml(text: str, name: str) -> Iterator[Any]:
    """Yields the documents of a YAML file, of dicts, lists, strings and None; keys and values are as they are written.

    Raises:
        ValueError: it is no YAML, has tags, a key twice, or is (or unfolds to) more than the limits.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES >> 20} MiB, more than is read as YAML; cut it into files")
    try:
        _check(yaml.parse(text, Loader=_SAFE_LOADER), name)
        yield from yaml.load_all(text, Loader=_TextLoader)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{name} is no YAML that can be read: {said}") from error


def _check(events: Iterable[yaml.Event], name: str) -> None:
    """Refuses what is too much: an alias counts for all that it stands for, and is as deep."""
    named: dict[str, tuple[int, int]] = {}  # anchor -> nodes, levels
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count where it began
    heights = [0]  # levels within each open collection, so far
    num_nodes = num_aliases = 0
    for event in events:
        added = (0, 0)
        if isinstance(event, yaml.AliasEvent):
            num_aliases += 1
            if event.anchor not in named:
                raise ValueError(f'{name} is refused: the alias "*{event.anchor}" stands for itself or for nothing')
            added = named[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            _check_tag(event.tag, name)
            added = (1 + len(event.value) // _NODE_CHARS, 0)
            if event.anchor:
                named[event.anchor] = added
        elif isinstance(event, yaml.CollectionStartEvent):
            _check_tag(event.tag, name)
            named.pop(event.anchor or "", None)
            open_nodes.append((event.anchor, num_nodes))
            heights.append(0)
            added = (1, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            added = (0, heights.pop() + 1)
            if anchor:
                named[anchor] = (num_nodes - before, added[1])
        num_nodes += added[0]
        heights[-1] = max(heights[-1], added[1])
        if num_nodes > MAX_NODES or num_aliases > MAX_ALIASES or len(open_nodes) + heights[-1] > MAX_DEPTH:
            raise ValueError(f"{name} is refused: it unfolds to {_TOO_MUCH}")


def _check_tag(tag: str | None, name: str) -> None:
    if tag not in _TAGS:
        raise ValueError(f'{name} is refused: the tag "{tag}" is not read, only lists, mappings and text are')
