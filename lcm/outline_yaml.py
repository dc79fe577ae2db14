"""Outlines in YAML, read from the parser's events: nothing is constructed, so a stranger's file can do no harm.

Three shapes, freely nested: a list of strings; `heading: [points below]`; and records
`{point: text, description: text, sentences: 4, points: [...]}`. At the top: `title`, `description`, `sentences` or
`words`, and `points`; or just the points. Below a heading, a plain string is its description.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import shorten

import yaml

from lcm.outline import MAX_DEPTH, Outline, Point, check_length

_ATTRIBUTES = ("description", "sentences", "words", "points")


@dataclass
class _Node:
    """A YAML node with its line: a scalar (as text, whatever it looks like), a list, or a map, its keys in order."""

    line: int
    text: str | None = None
    items: list[_Node] | None = None
    entries: dict[str, _Node] | None = None
    keys: list[_Node] = field(default_factory=list)  # a map's keys; one more than its entries while a value is due

    @property
    def is_empty(self) -> bool:
        return self.text is not None and self.text in ("", "~", "null")


def parse_yaml(text: str, default_title: str) -> Outline:
    """Read an outline from YAML.

    Raises:
        ValueError: not YAML, no points, an unknown key or a wrong type; one sentence with the line.
    """
    try:
        root = _load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line} is not valid YAML ({error.problem}); mind the indentation") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML ({' '.join(str(error).split())})") from error
    if root is None or root.is_empty:
        raise ValueError("the outline is empty; write a title and points below it")
    title, record = default_title, root
    if root.entries is not None and root.entries.keys() & {"title", *_ATTRIBUTES}:
        _check_keys(root, ("title", *_ATTRIBUTES))
        title = _scalar(root.entries["title"], "title") if "title" in root.entries else default_title
    else:
        record = _Node(root.line, entries={"points": root})
    description, num_sentences, num_words, children = _attributes(record, title)
    return Outline(title, children, description, num_sentences, num_words)


def _load(text: str) -> _Node | None:
    """Build the tree of nodes; aliases (which can unfold without end), tags and a second document are refused."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    root: _Node | None = None
    stack: list[_Node] = []
    for event in yaml.parse(text, Loader=loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise ValueError(f"line {line} starts a second YAML document; keep one outline a file")
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event, line)
            if stack:
                _attach(stack[-1], node)
            root = root or node
            if node.text is None:
                stack.append(node)
            if len(stack) > 2 * MAX_DEPTH:  # a record and its list: two collections a layer
                raise ValueError(f"line {line} is nested more than {MAX_DEPTH} deep; flatten the outline")
    return root


def _node(event: yaml.NodeEvent, line: int) -> _Node:
    if event.anchor is not None:  # an alias has one, too
        raise ValueError(f"line {line} has the YAML anchor or alias {event.anchor!r}; write the text out")
    if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
        raise ValueError(f"line {line} has the YAML tag {event.tag!r}; an outline is plain text")
    if isinstance(event, yaml.ScalarEvent):
        return _Node(line, text=event.value)
    if isinstance(event, yaml.SequenceStartEvent):
        return _Node(line, items=[])
    return _Node(line, entries={})


def _attach(parent: _Node, node: _Node) -> None:
    """Put a node into the list or map that is open: in a map, key and value come in turn."""
    if parent.items is not None:
        parent.items.append(node)
        return
    assert parent.entries is not None
    if len(parent.keys) > len(parent.entries):
        parent.entries[parent.keys[-1].text or ""] = node
        return
    if node.text is None:
        raise ValueError(f"line {node.line} has a list or map as a key; a point's text is one line")
    if node.text in parent.entries:
        raise ValueError(f"line {node.line} repeats the key {node.text!r}; give each point its own text")
    parent.keys.append(node)


def _points(node: _Node, owner: str) -> tuple[Point, ...]:
    """The points below `owner`: a list of strings, records and maps, or a map from a point to what is below it."""
    if node.text is not None:
        raise ValueError(
            f"line {node.line}: the points of {owner!r} are {shorten(node.text, 40)!r}; write one '- point' a line"
        )
    return tuple(_each_point(node))


def _each_point(node: _Node) -> Iterator[Point]:
    if node.entries is not None and "point" in node.entries:
        yield _record(node)
    elif node.entries is not None:
        for key in node.keys:
            yield _named(key, node.entries[key.text or ""])
    for item in node.items or []:
        if item.items is not None:
            raise ValueError(f"line {item.line} is a list right inside a list; give it a point to belong to")
        if item.text is None:
            yield from _each_point(item)
        else:
            yield Point(_scalar(item, "point"))


def _record(node: _Node) -> Point:
    """`{point: text, sentences: 4, points: [...]}`."""
    assert node.entries is not None
    _check_keys(node, ("point", *_ATTRIBUTES))
    text = _scalar(node.entries["point"], "point")
    return Point(text, *_attributes(node, text))


def _named(key: _Node, value: _Node) -> Point:
    """`text: value`, where the value is nothing, a description, points, or a map of attributes."""
    text = _scalar(key, "point")
    if key.text in _ATTRIBUTES:
        raise ValueError(
            f"line {key.line}: {key.text!r} has no point to belong to; write 'point:' or the heading above it"
        )
    if value.text is not None:
        if value.text.strip().isdecimal():
            raise ValueError(
                f"line {value.line}: {text!r} holds {value.text}; write 'sentences: {value.text}' below it"
            )
        return Point(text, "" if value.is_empty else _paragraphs(value.text))
    if value.entries is not None and value.entries.keys() & set(_ATTRIBUTES):
        _check_keys(value, _ATTRIBUTES)
        return Point(text, *_attributes(value, text))
    return Point(text, children=_points(value, text))


def _attributes(node: _Node, owner: str) -> tuple[str, int | None, int | None, tuple[Point, ...]]:
    """Description, sentences, words and points of a record."""
    entries = node.entries or {}
    description = _paragraphs(_scalar(entries["description"], "description")) if "description" in entries else ""
    num_sentences, num_words = (_count(entries.get(key), key, owner) for key in ("sentences", "words"))
    check_length(num_sentences, num_words, f"line {node.line}: {owner!r}")
    below = entries.get("points")
    return description, num_sentences, num_words, () if below is None or below.is_empty else _points(below, owner)


def _check_keys(node: _Node, known: tuple[str, ...]) -> None:
    for key in node.keys:
        if key.text not in known:
            raise ValueError(
                f"line {key.line}: unknown key {key.text!r} beside {', '.join(known)}; put points below 'points:'"
            )


def _scalar(node: _Node, key: str) -> str:
    if node.text is None or node.is_empty or not node.text.strip():
        raise ValueError(
            f"line {node.line}: a {key} is plain text, found {'nothing' if node.is_empty else _kind(node)}"
        )
    return node.text.strip() if key == "description" else " ".join(node.text.split())


def _count(node: _Node | None, key: str, owner: str) -> int | None:
    if node is None:
        return None
    if node.text is None or not node.text.isdecimal() or len(node.text) > 7:
        raise ValueError(f"line {node.line}: {key} of {owner!r} is {node.text or _kind(node)!r}; write a whole number")
    return int(node.text)


def _kind(node: _Node) -> str:
    return "a list" if node.items is not None else "a map" if node.entries is not None else "nothing"


def _paragraphs(text: str) -> str:
    """Text with one line a paragraph and a blank line between two."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(part for part in paragraphs if part)
