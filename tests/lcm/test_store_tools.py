from collections.abc import Callable
from pathlib import Path

import pytest

from data.store import ConceptStore
from lcm.arguments import parsed
from lcm.cli import main

Fails = Callable[..., str]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("merge A B --out C", ["merge", '["A", "B"]', "--out", "C"]),
        ("merge --out C A --duplicates=keep B", ["merge", '["A", "B"]', "--out", "C", "--duplicates=keep"]),
        ("merge --out C", ["merge", "--out", "C"]),
        (
            "filter S --sources a 1 --out O --roles-out=x y",
            ["filter", "S", "--out", "O", '--sources=["a", "1"]', '--roles_out=["x", "y"]'],
        ),
        ('filter S --sources=["a"] --min-sentences 3', ["filter", "S", '--sources=["a"]', "--min_sentences", "3"]),
        ("encode S --out O", ["encode", "S", "--out", "O"]),
        ("", []),
    ],
)
def test_lists_are_written_as_on_any_command_line(given: str, expected: list[str]) -> None:
    assert parsed(given.split()) == expected


def test_stores_are_split_merged_filtered_exported_and_imported(
    store: ConceptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, merged, kept = tmp_path / "parts", tmp_path / "merged", tmp_path / "kept"
    main(["split", str(store.path), "--out", str(parts), "--parts", "2"])
    assert capsys.readouterr().out.count("documents   15") == 2
    main(["merge", str(parts / "0"), str(parts / "1"), str(parts / "0"), "--out", str(merged)])
    shown = capsys.readouterr()
    assert "15 documents (615 rows) left out whose title and text came before" in shown.err
    assert "documents   30" in shown.out
    options = ["--titles", "[1-3]", "--levels-out", "4", "3", "--roles-out", "FOX", "heading", "--sources", "te?t"]
    with pytest.raises(SystemExit):
        main(["filter", str(merged), "--out", str(kept), *options])
    assert "no row is of level 3" in capsys.readouterr().err
    options.remove("3")
    main(["filter", str(merged), "--out", str(kept), *options])
    shown = capsys.readouterr()
    assert "rows of role heading left out" in shown.err and 'no row has the role "FOX"' in shown.err
    assert len(ConceptStore.open(kept)) == sum(bool({*"123"} & {*str(number)}) for number in range(30))
    for format in ("parquet", "dataset"):
        out, back = tmp_path / format, tmp_path / f"from {format}"
        main(["export", str(store.path), "--out", str(out), "--format", format])
        assert f"1,230 rows of 30 documents as {format}" in capsys.readouterr().out
        main(["import", str(out), "--out", str(back)])
        assert "documents   30" in capsys.readouterr().out
        assert (back / "00000.arrow").read_bytes() == (store.path / "00000.arrow").read_bytes()


def test_a_mistake_is_told_in_one_sentence(store: ConceptStore, tmp_path: Path, fails: Fails) -> None:
    out = tmp_path / "out"
    mistakes = {
        ("merge", store.path, "--out", store.path): "is what is read",
        ("merge", store.path, tmp_path / "none", "--out", out): "there is no store at",
        ("filter", store.path, "--out", out): "nothing to filter by",
        ("filter", store.path, "--out", out, "--sources", "nowhere"): 'has the source "nowhere"; there are "test"',
        ("split", store.path, "--out", out, "--parts", 99): "cannot be split into 99 parts",
        ("import", store.path, "--out", out): "holds no Parquet file",
        ("import", tmp_path / "none", "--out", out): "there is no file or folder",
    }
    for command, expected in mistakes.items():
        said = fails(*command)
        assert expected in said and len(said.strip().splitlines()) == 1, said
    said = fails("filter", store.path, "--out", out, "--min-sentences", 9999)
    assert said.splitlines()[0] == "30 documents of fewer than 9999 rows (1,230 rows) left out"
    assert "nothing is left" in said.splitlines()[1]
    assert not out.exists()


@pytest.mark.parametrize("verb", ["merge", "filter", "split", "export", "import"])
def test_each_verbs_help_shows_what_it_takes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--out OUT" in shown and "(required, type: " in shown
