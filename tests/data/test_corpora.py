"""The readers of the named corpora, each on a small sample in the corpus' own format."""

import bz2
import json
import struct
import zlib
from pathlib import Path

import pytest

from data.corpora import CORPORA, find_corpus
from data.document import Block
from data.named.novels import read_novel
from data.named.packages import FetchError
from data.named.plays import read_play
from data.named.rdata import read_lazy_data
from data.named.stdlib import read_chapters, read_speeches
from data.named.tales import read_tales
from data.readers import read_documents
from data.report import ReadReport

PLAY = """# The Frog

## ACT I

### SCENE I. A pond.

_Enter FROG and
a Servant_

**FROG**@
\\--I am here,@
Said _\\[Aside]_ the frog.

_Exit Servant_

And *[Weeps.]* alone.

**First Servant**@
__\\[Awaking]_@
[To him]_@
Away! &amp; c.

1\\. A flourish of Trumpets. 2\\. Two Judges.

# EPILOGUE

**ALL**@
...
""".replace("@", "  ")  # the two spaces of a Markdown line break


def test_a_play_has_acts_scenes_and_speakers() -> None:
    play, num_directions = read_play(PLAY, "shakespeare", "public domain")
    assert play.title == "The Frog" and play.licence == "public domain"
    assert play.blocks == (
        Block("The Frog", 4, "heading"),
        Block("ACT I", 2, "heading"),
        Block("SCENE I. A pond.", 1, "heading"),
        Block("--I am here, Said the frog.", 0, "FROG"),
        Block("And alone.", 0, "FROG"),
        Block("Away! &c.", 0, "First Servant"),
        Block("EPILOGUE", 1, "heading"),
    )
    assert num_directions == 7


def test_a_novel_has_volumes_and_chapters() -> None:
    lines = [
        "EMMA",
        "",
        "By Jane Austen",
        "",
        "VOLUME I",
        "",
        "CHAPTER I",
        "",
        "chapter of accidents",
        "was _it_,* then.",
        None,
        "",
    ]
    lines += ["Chapter 2", "", "The end", "was near.", "", "THE END", "", "A NOTE ON THE TEXT", "", "Typed in."]
    assert read_novel(lines, "Emma", "austen", "public domain").blocks == (
        Block("Emma", 4, "heading"),
        Block("VOLUME I", 3, "heading"),
        Block("CHAPTER I", 2, "heading"),
        Block("chapter of accidents was it, then."),
        Block("Chapter 2", 2, "heading"),
        Block("The end was near."),
    )


def test_a_tale_has_a_summary() -> None:
    header = "Topic\tTitle\tAbstract\tContent\r\ndiscrete\tstring\tstring\tstring\r\n\t\t\tinclude=True\r\n\r\n"
    table = header + 'Magic\tThe Frog\tIt speaks.\t"He said ""I.""  Then[*] he went."\r\n'
    (tale,) = read_tales(table, "grimm", "public domain")
    assert tale.title == "The Frog"
    assert tale.blocks == (
        Block("The Frog", 2, "heading"),
        Block("It speaks.", 2, "summary"),
        Block('He said "I."'),
        Block("Then he went."),
    )
    with pytest.raises(ValueError, match='expected the columns "Title" and "Content", found a, b'):
        read_tales("a\tb\n", "grimm", "")


def test_speeches_lose_the_audience(tmp_path: Path) -> None:
    for year, text in ((1999, "So-[laughter]-here. [Applause] Yes.[1]"), (1790, "Fellow-Citizens.")):
        speech = {"year": year, "name": "A. B.", "party": "none", "text": text}
        (tmp_path / f"{year}_a_b.json").write_text(json.dumps(speech))
    report = ReadReport()
    first, second = read_speeches(tmp_path.glob("*.json"), "sotu", "CC0", report)
    assert first.title == "State of the Union 1790, A. B."
    assert " ".join(second.blocks[1].text.split()) == "So here. Yes."
    assert report.lines() == ["3 marks of audience, page or footnote left out"]


def test_chapters_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2):
        chapter = {"chapter": str(number), "title": f"T{number}.", "text": f"One,* {number}.\n\n     *Two."}
        (tmp_path / f"chapter_{number}.json").write_text(json.dumps(chapter))
    epilogue = {"chapter": "Epilogue", "title": '"ALONE" Job.', "text": 'Epilogue "ALONE" Job.\n\nThe end.'}
    (tmp_path / "epilogue.json").write_text(json.dumps(epilogue))
    novel = read_chapters(tmp_path.glob("*.json"), "Moby-Dick", "moby-dick", "CC0")
    assert [block.text.strip() for block in novel.blocks] == [
        "Moby-Dick",
        "Chapter 2. T2.",
        "One, 2.",
        "Two.",
        "Chapter 10. T10.",
        "One, 10.",
        "Two.",
        'Epilogue. "ALONE" Job.',
        "The end.",
    ]


class XdrWriter:
    """Writes as much of R's serialisation, version 2, as a lazy-load database needs."""

    def __init__(self) -> None:
        self.symbols: list[str] = []

    def item(self, value: object) -> bytes:
        if value is None:
            return struct.pack(">iI", 9, 0xFFFFFFFF)
        if isinstance(value, str):
            return struct.pack(">ii", 9 | 0x8000, len(value.encode())) + value.encode()
        if isinstance(value, dict):
            values = b"".join(map(self.item, value.values()))
            names = (
                struct.pack(">i", 2 | 0x400) + self.symbol("names") + self.strings(list(value)) + struct.pack(">i", 254)
            )
            return struct.pack(">ii", 19 | 0x200, len(value)) + values + names
        assert isinstance(value, list)
        if all(isinstance(one, int) for one in value):
            return struct.pack(f">ii{len(value)}i", 13, len(value), *value)
        return self.strings(value)

    def strings(self, values: list[str | None]) -> bytes:
        return struct.pack(">ii", 16, len(values)) + b"".join(map(self.item, values))

    def symbol(self, name: str) -> bytes:
        if name in self.symbols:
            return struct.pack(">i", (self.symbols.index(name) + 1) << 8 | 255)
        self.symbols.append(name)
        return struct.pack(">i", 1) + self.item(name)


def serialise(value: object) -> bytes:
    return b"X\n" + struct.pack(">iii", 2, 0x40000, 0x20300) + XdrWriter().item(value)


def write_lazy_data(folder: Path, variables: dict[str, list[str | None]]) -> Path:
    database, places = b"", {}
    for number, (name, lines) in enumerate(variables.items()):
        raw = serialise(lines)
        packed = b"2" + bz2.compress(raw) if number % 2 else zlib.compress(raw)
        places[name] = [len(database), len(packed) + 4]
        database += struct.pack(">i", len(raw)) + packed
    (folder / "Rdata.rdb").write_bytes(database)
    index = folder / "Rdata.rdx"
    index.write_bytes(zlib.compress(serialise({"variables": places, "references": {}, "compressed": [2]})))
    return index


def test_lazy_load_data_of_r(tmp_path: Path) -> None:
    variables: dict[str, list[str | None]] = {"emma": ["EMMA", "", "Zoë"], "persuasion": ["Persuasion", None]}
    index = write_lazy_data(tmp_path, variables)
    assert read_lazy_data(index) == variables
    content = index.read_bytes()
    for damaged in (content[: len(content) // 2], b"", zlib.compress(b"X\nshort"), zlib.compress(b"B\n")):
        index.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_lazy_data(index)


def test_an_unknown_corpus_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r'no corpus "shakespear"; did you mean "shakespeare"[?] the named ones are grimm, '
    ):
        find_corpus("shakespear")
    with pytest.raises(ValueError, match=r'no corpus "zzz"; the named ones'):
        next(read_documents("zzz"))


EXPECTED = {"grimm": 54, "shakespeare": 38, "austen": 6, "sotu": 233, "moby-dick": 1, "anarchism": 137}


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_a_named_corpus_is_fetched_and_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCM_HOME", str(tmp_path))
    try:
        documents = list(read_documents(name, cut="never"))
    except FetchError as error:
        if any(why in str(error) for why in ("there is no network", "not installed", 'run "apt-get update"')):
            pytest.skip(str(error))
        raise
    assert len(documents) == EXPECTED[name]
    assert all(document.licence and document.source == name for document in documents)
    assert all(len(document.blocks) > 1 for document in documents)
    assert name == "anarchism" or all(document.blocks[0].role == "heading" for document in documents)
