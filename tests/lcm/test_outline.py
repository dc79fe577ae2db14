from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm.outline import MAX_BYTES, MAX_DEPTH, Outline, Point, read_outline

MARKDOWN = """\
# The Fox and the Hen

A **short** tale,
told twice.

## Departure (10 sentences)

The fox leaves home.

1. She meets the hen [4]
   - who is wary
     of foxes (60 words)

   They had met before.
2. She goes on
- [ ] She rests

Return
------
<!-- not sure
- about this -->
* home \\(4 sentences)
* [120 words]supper [3 sentences]
"""

YAML = """\
title: The Fox
sentences: 30
description: |
  A short tale,
  told twice.

  Or once.
points:
  - Departure:
      - She meets the hen
      - 1984
  - point: "Return: late"
    words: 100
    points: [home, {supper: with hens}]
  - Map: {a: [b, c], d: , e: {sentences: 2, points: [f]}}
"""


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_markdown_headings_bullets_lengths_and_descriptions(tmp_path: Path) -> None:
    outline = read_outline(write(tmp_path, "fox.md", MARKDOWN))
    assert outline == Outline(
        "The Fox and the Hen",
        description="A short tale, told twice.",
        children=(
            Point(
                "Departure",
                "The fox leaves home.",
                num_sentences=10,
                children=(
                    Point(
                        "She meets the hen",
                        "They had met before.",
                        num_sentences=4,
                        children=(Point("who is wary of foxes", num_words=60),),
                    ),
                    Point("She goes on"),
                    Point("She rests"),
                ),
            ),
            Point("Return", children=(Point("home (4 sentences)"), Point("[120 words]supper", num_sentences=3))),
        ),
    )


def test_yaml_lists_maps_and_records(tmp_path: Path) -> None:
    outline = read_outline(write(tmp_path, "fox.yaml", YAML))
    assert outline == Outline(
        "The Fox",
        num_sentences=30,
        description="A short tale, told twice.\n\nOr once.",
        children=(
            Point("Departure", children=(Point("She meets the hen"), Point("1984"))),
            Point("Return: late", num_words=100, children=(Point("home"), Point("supper", "with hens"))),
            Point(
                "Map",
                children=(
                    Point("a", children=(Point("b"), Point("c"))),
                    Point("d"),
                    Point("e", num_sentences=2, children=(Point("f"),)),
                ),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("my_first-novel.md", "- a\n- b\n"),
        ("my_first-novel.txt", "\ufeff# a\r\n# b\r\n"),
        ("my_first-novel.yaml", "- a\n- b\n"),
        ("my_first-novel.yml", "{a: , b: ~}"),
        ("x.md", "---\ntitle: 'my first novel'\nauthor: me\n---\n# a\n# b\n"),
        ("x.md", "my first novel\n===\n\n+ a\n+ b\n"),
        ("x.yaml", "title: my first novel\npoints: {a: , b: }"),
    ],
)
def test_title_falls_back_to_the_name_of_the_file(tmp_path: Path, name: str, text: str) -> None:
    assert read_outline(write(tmp_path, name, text)) == Outline("my first novel", (Point("a"), Point("b")))


def test_points_are_depth_first_with_parents_and_levels(tmp_path: Path) -> None:
    outline = read_outline(write(tmp_path, "fox.md", MARKDOWN))
    points = outline.points()
    assert [(p.text.split()[0], p.depth, p.level, p.parent, p.is_leaf) for p in points] == [
        ("Departure", 0, 3, None, False),
        ("She", 1, 2, 0, False),
        ("who", 2, 1, 1, True),
        ("She", 1, 2, 0, True),
        ("She", 1, 2, 0, True),
        ("Return", 0, 3, None, False),
        ("home", 1, 2, 5, True),
        ("[120", 1, 2, 5, True),
    ]
    assert [p.num_sentences for p in points] == [10, 4, 3, None, None, None, None, 3]  # 60 words are 3 sentences
    assert points[2].num_sentences == 3 and outline.points(words_per_sentence=60)[2].num_sentences == 1


@pytest.mark.parametrize(
    ("depth", "levels", "expected"),
    [
        (1, (3, 2, 1), [1]),
        (2, (3, 2, 1), [2, 1]),
        (3, (3, 2, 1), [3, 2, 1]),
        (5, (3, 2, 1), [3, 2, 1, 1, 1]),
        (3, (2, 1), [2, 1, 1]),
        (2, (2,), [2, 2]),
    ],
)
def test_levels_are_the_innermost_that_the_tree_needs(depth: int, levels: tuple[int, ...], expected: list[int]) -> None:
    point = Point("leaf")
    for _ in range(depth - 1):
        point = Point("inner", children=(point,))
    assert [placed.level for placed in Outline("t", (point,)).points(levels=levels)] == expected


def test_sentence_counts_share_the_length_of_an_inner_point(tmp_path: Path) -> None:
    text = "# T\n## A (10 sentences)\n- a (4 sentences)\n- b\n- c\n## B\n- d\n- e (40 words)\n## C\n"
    outline = read_outline(write(tmp_path, "t.md", text))
    assert outline.sentence_counts(default=5) == [0, 4, 3, 3, 0, 5, 2, 5]
    whole = read_outline(write(tmp_path, "t.md", text.replace("# T", "# T (20 sentences)", 1)))
    assert whole.sentence_counts() == [0, 4, 3, 3, 0, 4, 2, 4]


@pytest.mark.parametrize(
    "text", ["# T\n## A (3 sentences)\n- a (4 sentences)\n- b\n", "# T (9 sentences)\n- a [4]\n- b [4]\n"]
)
def test_lengths_that_contradict_each_other_are_an_error(tmp_path: Path, text: str) -> None:
    outline = read_outline(write(tmp_path, "t.md", text))
    with pytest.raises(ValueError, match=r"asks for \d sentences, the points below it for .*; make them agree$"):
        outline.sentence_counts()


lines = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
    .map(lambda text: " ".join(text.split()))
    .filter(bool)
)
TRICKY = r"""- a
1. b
# c
d #
e (4 sentences)
f [3]
[3]
**g** __h__
a_b * c
<!-- i -->
\
\#
---
===
> j
[ ] k
(1 word)
2) l
+
a\
#
7
12.
- - -
\\*
<!--
title: n
..."""
tricky = st.sampled_from(TRICKY.splitlines())
texts = lines | tricky
descriptions = st.lists(texts, max_size=2).map("\n\n".join)
lengths = st.sampled_from([{}, {"num_sentences": 1}, {"num_sentences": 40}, {"num_words": 1}, {"num_words": 250}])


def point_of(below: st.SearchStrategy[tuple[Point, ...]]) -> st.SearchStrategy[Point]:
    return st.builds(
        lambda text, about, length, below: Point(text, about, children=below, **length),
        texts,
        descriptions,
        lengths,
        below,
    )


points = st.recursive(
    point_of(st.just(())), lambda children: point_of(st.lists(children, max_size=3).map(tuple)), max_leaves=8
)


@settings(max_examples=300, deadline=None)
@given(texts, descriptions, lengths, st.lists(points, min_size=1, max_size=3).map(tuple))
def test_markdown_round_trip(tmp_path_factory: pytest.TempPathFactory, title, about, length, children) -> None:
    outline = Outline(title, children, about, **length)
    path = tmp_path_factory.getbasetemp() / "round-trip.md"
    path.write_text(outline.to_markdown(), encoding="utf-8", newline="\n")
    assert read_outline(path) == outline


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("#-*1. \n\tab()[]4sentc:{}&!|>'\"\\~=")), st.sampled_from([".md", ".yaml"]))
def test_any_text_is_an_outline_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        outline = read_outline(path)
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert outline.points() and read_outline_again(path, outline) == outline


def read_outline_again(path: Path, outline: Outline) -> Outline:
    again = path.with_suffix(".again.md")
    again.write_text(outline.to_markdown(), encoding="utf-8", newline="\n")
    return read_outline(again)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.md", "", "is empty"),
        ("a.yaml", " \n", "is empty"),
        ("a.yaml", "# only a comment\n", "is empty"),
        ("a.yaml", "~", "is empty"),
        ("a.md", "# Only a title\n\nand prose", "has no points"),
        ("a.md", "just prose", "has no points"),
        ("a.yaml", "title: x", "has no points"),
        ("a.yaml", "title: x\npoints: []", "has no points"),
        ("a.md", "- a\n-\n", "line 2 has no text"),
        ("a.md", "---\ntitle: x\n---\n- (4 sentences)\n", "line 4 has no text"),
        ("a.md", "- a (0 sentences)", "at least 1"),
        ("a.md", "".join(" " * 2 * i + "- a\n" for i in range(99)), f"line {MAX_DEPTH + 1} is nested more than"),
        ("a.yaml", "a: [b\nc: d", "line 2 is not valid YAML"),
        ("a.yaml", "- a\n b: c", "line 2 is not valid YAML"),
        ("a.yaml", "a: b\x01", "not valid YAML"),
        ("a.yaml", "just prose", "write one '- point' a line"),
        ("a.yaml", "title: x\nChapter 1: [a]", "line 2: unknown key 'Chapter 1'"),
        ("a.yaml", "- point: x\n  sentence: 4", "line 2: unknown key 'sentence'"),
        ("a.yaml", "- point: x\n  sentences: four", "'four'; write a whole number"),
        ("a.yaml", "- point: x\n  sentences: [4]", "'a list'; write a whole number"),
        ("a.yaml", "- point: x\n  sentences: -4", "'-4'; write a whole number"),
        ("a.yaml", "- point: x\n  sentences: 0", "at least 1"),
        ("a.yaml", "- point: x\n  sentences: 4\n  words: 80", "keep one of them"),
        ("a.yaml", "- point: [x]", "line 1: a point is plain text, found a list"),
        ("a.yaml", "- point:", "found nothing"),
        ("a.yaml", "- ''", "found nothing"),
        ("a.yaml", "title: {a: b}\npoints: [x]", "line 1: a title is plain text, found a map"),
        ("a.yaml", "- a\n- - b", "line 2 is a list right inside a list"),
        ("a.yaml", "- a: 4", "write 'sentences: 4' below it"),
        ("a.yaml", "- sentences: 4", "has no point to belong to"),
        ("a.yaml", "a: b\na: c", "line 2 repeats the key 'a'"),
        ("a.yaml", "? [a]\n: b", "line 1 has a list or map as a key"),
        ("a.yaml", "- a\n---\n- b", "second YAML document"),
        ("a.yaml", BOMB, "line 1 has the YAML anchor or alias 'a'"),
        ("a.yaml", "- *x", "line 1 has the YAML anchor or alias 'x'"),
        ("a.yaml", "- !!python/object/apply:os.system [ls]", "YAML tag"),
        ("a.yaml", "[" * 100_000, "is nested more than"),
        ("a.md", "- a\n" * (MAX_BYTES // 4 + 1), "at most 1048576"),
        ("a.docx", "- a", "name it .md, .txt, .yaml or .yml"),
    ],
)
def test_bad_outline_is_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(ValueError) as caught:
        read_outline(path)
    error = str(caught.value)
    assert message in error and str(path) in error and "\n" not in error and len(error) < 120 + len(str(path))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no outline at"):
        read_outline(tmp_path / "none.md")
    with pytest.raises(FileNotFoundError, match="no outline at"):
        read_outline(tmp_path)
    (tmp_path / "latin.md").write_bytes("- Gänse".encode("latin-1"))
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 3\); save it as UTF-8"):
        read_outline(tmp_path / "latin.md")


def test_a_large_outline_reads_in_linear_time(tmp_path: Path) -> None:
    text = "".join(f"- chapter {i}\n" + "".join(f"  - scene {j}\n" for j in range(9)) for i in range(1000))
    outline = read_outline(write(tmp_path, "large.md", text))
    assert len(outline.points()) == len(outline.sentence_counts()) == 10_000
    yaml = "".join(f"- chapter {i}:\n" + "".join(f"  - scene {j}\n" for j in range(9)) for i in range(1000))
    assert read_outline(write(tmp_path, "large.yaml", yaml)) == outline
