import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.store import ConceptStore
from lcm.arguments import spelt
from lcm.cli import main
from lcm.tools import TOOLS

Fails = Callable[..., str]
OUTLINE = "# A tale\n\n- The fox comes\n- The king leaves\n"


@pytest.mark.parametrize("verb", ["", "generate"])
def test_help_answers_before_the_heavy_imports(verb: str) -> None:
    code = "import sys; from lcm.cli import main\ntry: main(sys.argv[1:])\nfinally: print(sorted(sys.modules))"
    command = [sys.executable, "-c", code, *verb.split(), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    assert all(name in shown for name in ([verb, "--anchor"] if verb else TOOLS))
    assert not {"'torch'", "'lightning'", "'transformers'", "'datasets'"} & set(shown.split("[")[-1][:-2].split(", "))


@pytest.mark.parametrize("verb", ["corpus", "encode", "info", "generate", "plot", "evaluate"])
def test_each_verbs_help_shows_types_and_defaults(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "type: " in shown
    assert "default: " in shown


def test_options_may_be_written_with_hyphens() -> None:
    assert spelt("--sentences-per-point=a-b") == "--sentences_per_point=a-b"
    assert spelt("a-b.md") == "a-b.md"
    assert (spelt("--verify"), spelt("--verify=false")) == ("--verify=true", "--verify=false")


def test_an_unknown_verb_or_option_names_what_was_wrong(fails: Fails) -> None:
    assert "'genrate'" in fails("genrate")
    assert "--sed" in fails("generate", "outline.md", "--model", "m", "--decoder", "d", "--sed", "3")


def test_encode_info_and_plot_work_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n\n".join(
        f"# Chapter {i}\n\n" + " ".join(f"The fox saw {i + j} stones." for j in range(40)) for i in range(9)
    )
    book = tmp_path / "book.md"
    book.write_text("# The book\n\n" + text.replace("# Ch", "## Ch"))
    store = tmp_path / "store"
    main(["encode", str(book), "--out", str(store), "--encoder", "hashing:16"])
    main(["info", str(store), "--verify"])
    shown = capsys.readouterr().out
    assert "hashing:16" in shown
    assert "verified" in shown
    for document, name in (("0", "a.png"), (str(book), "b.svg")):
        main(["plot", document, "--store", str(store), "--out", str(tmp_path / name)])
        assert (tmp_path / name).stat().st_size > 5000


def test_corpus_shows_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = tmp_path / "book.md"
    book.write_text("# A book\n\n## One\n\nIt began. It went on.\n")
    main(["corpus", str(book), "--peek"])
    shown = capsys.readouterr().out
    assert "It began." in shown
    assert "One" in shown


def test_the_corpora_are_listed_with_their_licences(capsys: pytest.CaptureFixture[str]) -> None:
    main(["corpus", "list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("shakespeare", "austen", "sotu", "moby-dick", "grimm", "public domain"))


def test_bad_input_is_one_sentence(fails: Fails, store: ConceptStore, tmp_path: Path) -> None:
    outline, empty, bare, half = (tmp_path / name for name in ("o.md", "empty.txt", "bare.md", "half"))
    outline.write_text(OUTLINE)
    empty.write_text("")
    bare.write_text("# Only a title\n")
    (half).mkdir()
    (half / "00000.json").write_text("{}")
    junk = tmp_path / "junk.ckpt"
    junk.write_bytes(b"not a checkpoint")
    both = ("--model", junk, "--decoder", junk)
    checks = {
        ("encode", tmp_path / "none.txt", "--out", tmp_path / "s"): "none.txt",
        ("encode", empty, "--out", tmp_path / "s"): "empty",
        ("encode", "shakespear", "--out", tmp_path / "s"): 'did you mean "shakespeare"',
        ("info", tmp_path / "nothing"): "no store at",
        ("info", half): "half-written",
        ("generate", bare, "--model", junk, "--decoder", junk): "no points",
        ("generate", tmp_path / "no.md", "--model", junk, "--decoder", junk): "no outline at",
        ("generate", outline, "--model", junk, "--decoder", junk): "no checkpoint of",
        ("generate", outline, "--model", tmp_path / "no.ckpt", "--decoder", junk): "no concept model at",
        ("evaluate", store.path, "--model", junk): "no checkpoint of",
        (
            "generate",
            outline,
            *both,
            "--candidates",
            "1",
            "--decoder-temperature",
            "1",
        ): "leave the decoder temperature",
        ("evaluate", store.path, *both, "--decoder-temperature", "0"): "give --candidates 1",
        ("plot", "99", "--store", store.path, "--out", tmp_path / "p.png"): "documents 0 to 29",
    }
    for command, expected in checks.items():
        said = fails(*command)
        assert expected in said, (command, said)
        assert len(said.strip().splitlines()) == 1, said
    assert not (tmp_path / "s").exists()


def test_a_training_without_a_store_says_so(fails: Fails) -> None:
    configs = Path(__file__).parents[2] / "configs"
    said = fails("fit", *(f"--config={configs / name}.yaml" for name in ("base", "two_tower", "tiny")))
    assert "name the store" in said


def test_a_store_of_another_encoder_is_refused(fails: Fails, store: ConceptStore, tmp_path: Path) -> None:
    book = tmp_path / "b.txt"
    book.write_text("One thing. Another thing. A third thing.")
    said = fails("encode", book, "--out", store.path, "--encoder", "hashing:32")
    assert "was encoded by hashing-1-16, not by hashing:32" in said
