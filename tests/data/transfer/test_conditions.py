from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.document import Block, Document
from data.encode import encode_corpus
from data.report import ReadReport
from data.split import SPLITS, split_of
from data.store import ConceptStore
from data.transfer.rewrite import filter_store
from encoders.hashing import HashingEncoder

DIM = 8
SMALL = 3000  # bytes: some twenty rows a shard


def tale(number: int, **more: str) -> Document:
    sentences = " ".join(f"The fox saw {number} stones and {m} wells." for m in range(number % 7))
    blocks = (Block(f"Tale {number}", 2, "heading"), Block(sentences), Block("I am here.", role="FROG"))
    return Document(
        f"Tale {number}", blocks, more.get("source", f"corpus {number % 3}"), more.get("licence", "CC0"), "english"
    )


def encode(documents: Sequence[Document], path: Path, *, dim: int = DIM, shard_chars: int = 400) -> ConceptStore:
    return encode_corpus(documents, HashingEncoder(dim), path, progress=False, shard_chars=shard_chars)


def content(store: ConceptStore, *, splits: bool = True) -> list[tuple[Any, ...]]:
    """All that a store says of each document and its rows."""
    return [
        (
            (info.title, info.source, info.licence, info.language, info.key, info.split if splits else ""),
            store.sentences(number),
            store[number].tobytes(),
            store.levels(number).tolist(),
            store.roles(number),
        )
        for number, info in enumerate(store.documents)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    return encode([tale(n) for n in range(40)], tmp_path_factory.mktemp("stores") / "store")


def keep(path: Path, out: Path, **conditions: Any) -> ConceptStore:
    return filter_store(path, out, progress=False, shard_bytes=SMALL, **conditions)


@pytest.mark.parametrize(
    ("conditions", "numbers", "said"),
    [
        ({"sources": ["corpus 1", "corpus 2"]}, [n for n in range(40) if n % 3], "of another source"),
        ({"sources": ["*1"]}, range(1, 40, 3), "of another source"),
        ({"titles": r"\b1\d?$"}, [1, *range(10, 20)], "of another title"),
        ({"languages": ["english"], "licences": ["CC0"], "titles": "7"}, [7, 17, 27, 37], "of another title"),
        ({"min_sentences": 7}, [n for n in range(40) if n % 7 >= 5], "of fewer than 7 rows"),
        ({"max_sentences": 2}, range(0, 40, 7), "of more than 2 rows"),
    ],
)
def test_documents_that_fit_are_kept(
    tmp_path: Path, store: ConceptStore, conditions: dict[str, Any], numbers: Sequence[int], said: str
) -> None:
    report = ReadReport()
    kept = keep(store.path, tmp_path / "kept", report=report, **conditions)
    every = content(store, splits=False)
    assert content(kept, splits=False) == [every[n] for n in numbers]
    assert [info.split for info in kept.documents if info.title not in kept.manifest["moved"]] == [
        split_of(tale(n)) for n in numbers if f"Tale {n}" not in kept.manifest["moved"]
    ]
    gone = sum(len(store.sentences(n)) for n in set(range(40)) - set(numbers))
    assert report.lines() == [f"{40 - len(numbers)} documents {said} ({gone} rows) left out"]
    kept.verify()


def test_rows_of_a_role_or_level_are_left_out(tmp_path: Path, store: ConceptStore) -> None:
    report = ReadReport()
    out = tmp_path / "kept"
    kept = keep(store.path, out, roles_out=["FROG", "WOLF"], levels_out=[2], min_sentences=1, report=report)
    for number, info in enumerate(kept.documents):
        source = next(n for n in range(40) if store.documents[n].key == info.key)
        stays = [
            row
            for row, (role, level) in enumerate(zip(store.roles(source), store.levels(source), strict=True))
            if role != "FROG" and level != 2
        ]
        np.testing.assert_array_equal(kept[number], store[source][stays])
        assert kept.sentences(number) == [store.sentences(source)[row] for row in stays]
    assert len(kept) == 34 and kept.heading_levels == []
    assert report.lines() == [
        'no row has the role "WOLF"',
        "40 rows of level 2 left out",
        "40 rows of role FROG left out",
        "6 documents left out that lost all rows",
    ]
    kept.verify()


def test_documents_of_one_split_stay_there(tmp_path: Path, store: ConceptStore) -> None:
    for name in SPLITS:
        kept = keep(store.path, tmp_path / name, split=name)
        assert {info.split for info in kept.documents} == {name}
        assert len(kept) == store.manifest["splits"][name]["documents"]
        fewer = keep(kept.path, tmp_path / f"{name} again", titles="Tale")
        assert {info.split for info in fewer.documents} == {name}


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "nothing to filter by"),
        ({"sources": ["corpus 9"]}, 'no document of .* has the source "corpus 9"; there are "corpus 0", "corpus 1"'),
        ({"licences": ["MIT"]}, 'has the licence "MIT"'),
        ({"titles": "("}, "is no regular expression"),
        ({"levels_out": [4]}, "no row is of level 4"),
        ({"min_sentences": 5, "max_sentences": 4}, "nothing is left"),
        ({"titles": "nowhere"}, "nothing is left"),
        ({"split": "dev"}, "there is no split"),
    ],
)
def test_a_filter_that_leaves_nothing_writes_nothing(
    tmp_path: Path, store: ConceptStore, conditions: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        keep(store.path, tmp_path / "kept", **conditions)
    assert not (tmp_path / "kept").exists()
