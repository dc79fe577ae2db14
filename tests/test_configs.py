"""Every yaml of configs/ runs, on a store of a few sentences."""

from pathlib import Path

import pytest

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from encoders.hashing import HashingEncoder
from lcm.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
COMBINATIONS = [
    ("base", "two_tower", "tiny"),
    ("base", "regression", "tiny"),
    ("base", "contrastive", "tiny"),
    ("base", "energy", "tiny"),
    ("base", "flow", "tiny"),
    ("base", "quantised", "tiny"),
    ("base", "quantised_continuous", "tiny"),
    ("base", "two_tower", "smoke"),
    ("decoder",),
    ("decoder", "decoder_smoke"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    documents = [
        Document(f"Tale {i}", (Block(" ".join(f"The king saw {i * j + j} ravens." for j in range(30))),), source="test")
        for i in range(20)
    ]
    return encode_corpus(documents, HashingEncoder(16), tmp_path_factory.mktemp("stores") / "s", progress=False)


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_a_combination_of_configs_runs(
    names: tuple[str, ...], store: ConceptStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = [f"--trainer.default_root_dir={tmp_path}", f"--data.store={store.path}", "--trainer.fast_dev_run=true"]
    if names[0] == "decoder":
        options.append(f"--model.decoder.llm={request.getfixturevalue('llm')}")
    main(["fit", *(f"--config={CONFIGS / name}.yaml" for name in names), *options])


def test_every_config_is_in_a_combination() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {name for names in COMBINATIONS for name in names}


def test_a_mistyped_key_is_an_error_that_names_it(store: ConceptStore, capsys: pytest.CaptureFixture[str]) -> None:
    configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", "two_tower", "tiny")]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *configs, f"--data.store={store.path}", "--model.model.backbone.num_layer=3"])
    assert stop.value.code == 2
    assert "num_layer" in capsys.readouterr().err
