"""The verb and what it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data.store import ConceptStore
from decoders.module import SentenceBatch
from encoders.hashing import HashingEncoder
from lcm.arguments import listed
from lcm.cli import main
from lcm.probe_report import cell
from lcm.probing import BINS, Budget, chance_cosine, draw_by_length, folder_name, probe_encoder

Fails = Callable[..., str]
STEMS, ENDS = ("ba", "ke", "mi", "lo", "su", "fy"), ("ra", "te", "di", "vo", "gu", "zy", "pa", "he", "ji", "xo")
NOUNS = [stem + end for stem in STEMS for end in ENDS]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty chapters of twelve sentences of all lengths, words in many combinations."""
    chapters = []
    for i in range(20):
        texts = []
        for j in range(12):
            nouns = [NOUNS[(i * 5 + j * 11 + k * (j + 1)) % 60] for k in range((1, 2, 4, 7)[j % 4])]
            texts.append(f"In year {i} " + " and then ".join(f"the {noun}" for noun in nouns) + " went away.")
        chapters.append(f"## Chapter {i}\n\n" + " ".join(texts))
    path = tmp_path_factory.mktemp("text") / "book.md"
    path.write_text("# The book\n\n" + "\n\n".join(chapters))
    return path


def test_a_probe_without_a_decoder_writes_table_numbers_and_figure(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main(["probe", "hashing:32", "hashing:16", "--text", str(book), "--steps", "0", "--out", str(out)])
    shown = capsys.readouterr().out
    assert shown == (out / "probe.md").read_text()
    rows = [line for line in shown.splitlines() if line.startswith("| hashing")]
    assert [row.split("|")[1].strip() for row in rows] == ["hashing:32", "hashing:16"]
    assert "BLEU" not in shown
    found = json.loads((out / "probe.json").read_text())["encoders"]
    for one, dim in zip(found, (32, 16), strict=True):
        assert 1 < one["spectrum"]["effective_rank"] <= dim == one["dim"]
        assert one["spectrum"]["dims_90"] <= one["spectrum"]["dims_99"] <= dim
        assert one["words"]["by_frequency"][0] < one["words"]["levels"][0]["average_precision"][0] <= 1
        assert "decoder" not in one
    assert found[0]["words"]["by_frequency"] == found[1]["words"]["by_frequency"]  # the same text for both
    assert (out / "probe.png").stat().st_size > 20_000
    stores = {path: path.stat().st_mtime_ns for path in out.rglob("*.arrow")}
    assert len({path.parent for path in stores}) == 2
    main(["probe", "hashing:32", "--text", str(book), "--steps", "0", "--out", str(out)])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.arrow")} == stores


def test_a_probe_with_a_decoder_fills_every_cell(book: Path, llm: str, tmp_path: Path) -> None:
    found = probe_encoder(HashingEncoder(32), Budget(str(book), steps=2, num_sentences=8, llm=llm), tmp_path)
    decoder: dict[str, Any] = found["decoder"]
    assert decoder["num_sentences"] == 8
    assert decoder["levels"][0]["bleu_fall"] == decoder["levels"][0]["cosine_fall"] == [0.0, 0.0, 0.0]
    assert [part["words"] for part in decoder["lengths"]] == [f"{low}-{high}" for low, high in BINS]
    assert len(decoder["nats_carried"]["against no concept"]) == 3
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (tmp_path / "decoders" / folder_name(HashingEncoder(32)) / "best.ckpt").is_file()


def test_sentences_are_drawn_evenly_by_length(book: Path, tmp_path: Path) -> None:
    from lcm.probing import open_store

    store: ConceptStore = open_store(HashingEncoder(16), str(book), tmp_path)
    pairs = draw_by_length(store, Budget(str(book), 0, 12))
    lengths = [len(sentence.split()) for sentence in pairs.sentences]
    assert [sum(low <= length <= high for length in lengths) for low, high in BINS] == [3, 3, 3, 3]


def test_chance_is_the_mean_cosine_of_different_sentences() -> None:
    concepts = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    assert chance_cosine(SentenceBatch(concepts, ["a"] * 3, [""] * 3)) == pytest.approx(1 / 3)


def test_a_cell_shows_half_the_width_of_the_interval() -> None:
    assert cell([0.5, 0.4, 0.7]) == "0.500 ± 0.150"
    assert cell([3.21, None, None], 1) == "3.2"


def test_folders_of_encoders_differ() -> None:
    one, other = folder_name(HashingEncoder(16)), folder_name(HashingEncoder(32))
    assert one != other and one.startswith("hashing-16-")


def test_encoders_are_a_list_as_the_stores_of_merge_are() -> None:
    assert listed(["probe", "minilm", "hashing:8", "--seed", "1"]) == [
        "probe",
        '["minilm", "hashing:8"]',
        "--seed",
        "1",
    ]


def test_mistakes_are_one_sentence(fails: Fails, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCM_HOME", str(tmp_path / "home"))
    short = tmp_path / "short.txt"
    short.write_text("One fox came. Two kings left. " * 3)
    checks = {
        ("probe", "hashing:x"): "'x' is not a width",
        ("probe", "hashing:8", "hashing:8"): "named twice",
        ("probe", "hashing:8", tmp_path / "no-encoder"): "no-encoder",
        ("probe", "hashing:8", "--text", tmp_path / "none.txt"): "there is no file or folder",
        ("probe", "hashing:8", "--text", book, "--corpus", "grimm"): "give one",
        ("probe", "hashing:8", "--steps", "-1"): "--steps 0 or more",
    }
    for command, expected in checks.items():
        said = fails(*command)
        assert expected in said and len(said.strip().splitlines()) == 1, (command, said)
    assert not (tmp_path / "home").exists()
    with pytest.warns(UserWarning, match="nothing is held out"):
        said = fails("probe", "hashing:8", "--steps", "0", "--text", short)
    assert "no test document" in said


def test_help_shows_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["probe", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--steps" in shown and "default: 60" in shown
