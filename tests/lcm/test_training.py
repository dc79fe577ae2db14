from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from encoders.hashing import HashingEncoder
from lcm.training import read_from_store

Fit = Callable[..., Path]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    """A store of the same encoder with headings of another level."""

    def essay(i: int) -> Document:
        text = " ".join(f"Number {i} is not {j}." for j in range(12))
        return Document(f"Essay {i}", (Block(f"Essay {i}", level=2, role="heading"), Block(text)), source="test")

    path = tmp_path_factory.mktemp("stores") / "essays"
    return encode_corpus([essay(i) for i in range(10)], HashingEncoder(16), path, progress=False)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    documents = [Document(f"T{i}", (Block(f"One thing {i}. Two things."),), source="test") for i in range(4)]
    return encode_corpus(documents, HashingEncoder(24), tmp_path_factory.mktemp("stores") / "wide", progress=False)


def test_a_yaml_asks_one_store_or_several(store: ConceptStore, other: ConceptStore) -> None:
    one, both = str(store.path), OmegaConf.create([str(store.path), str(other.path)])
    assert (read_from_store("dim", one), read_from_store("encoder", one)) == (16, store.encoder)
    assert read_from_store("heading_levels", one) == [4]
    assert read_from_store("heading_levels", both) == [2, 4]
    assert read_from_store("encoder_name", both) == "hashing:16"
    with pytest.raises(ValueError, match="not 'path'"):
        read_from_store("path", one)
    with pytest.raises(ValueError, match="name the store"):
        read_from_store("dim", "")


def config(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_one_store_stays_a_plain_string(fit: Fit, store: ConceptStore) -> None:
    found = config(fit(steps=1))
    assert found["data"]["init_args"]["store"] == str(store.path)
    assert found["model"]["init_args"]["levels"] == [4]


@pytest.mark.parametrize("form", ["append", "list", "yaml"])
def test_several_stores_are_named_in_three_ways(
    fit: Fit, store: ConceptStore, other: ConceptStore, form: str, tmp_path: Path
) -> None:
    named = tmp_path / "mixed.yaml"
    named.write_text(yaml.safe_dump({"data": {"init_args": {"store": [str(store.path), str(other.path)]}}}))
    options = {
        "append": [f"--data.store+={other.path}"],
        "list": [f"--data.store=[{store.path},{other.path}]"],
        "yaml": [f"--config={named}"],
    }
    found = config(fit(*options[form], "--data.weights=[1, 0.5]", steps=1))
    assert found["data"]["init_args"]["store"] == [str(store.path), str(other.path)]
    assert found["data"]["init_args"]["weights"] == [1.0, 0.5]
    assert found["model"]["init_args"]["levels"] == [2, 4]
    assert found["model"]["init_args"]["model"]["init_args"]["dim"] == 16


def test_a_mixed_training_runs_for_show(fit: Fit, other: ConceptStore) -> None:
    fit(f"--data.store+={other.path}", "--trainer.fast_dev_run=true")


def test_stores_of_different_encoders_end_in_one_sentence(
    fit: Fit, store: ConceptStore, wide: ConceptStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        fit(f"--data.store+={wide.path}")
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in said
    assert f"{store.path} holds concepts of" in said and f"{wide.path} of" in said
