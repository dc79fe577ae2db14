"""Every yaml of configs/ runs, on a store of a few sentences."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from encoders.encoder import load_encoder
from encoders.hashing import HashingEncoder
from lcm.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
COMBINATIONS = [
    ("base", "tiny"),
    ("base", "two_tower", "tiny"),
    ("base", "one_tower", "tiny"),
    ("base", "one_tower_contrastive", "tiny"),
    ("base", "regression", "tiny"),
    ("base", "contrastive", "tiny"),
    ("base", "regression", "retention"),
    ("base", "energy", "tiny"),
    ("base", "energy_contrastive", "tiny"),
    ("base", "flow", "tiny"),
    ("base", "flow", "tiny", "whitened"),
    ("base", "flow_two_tower", "tiny"),
    ("base", "quantised", "tiny"),
    ("base", "quantised_continuous", "tiny"),
    ("base", "two_tower", "smoke"),
    ("base", "two_tower", "smoke", "ddp"),
    ("base", "two_tower", "smoke", "fsdp"),
    ("token_loss",),
    ("decoder",),
    ("decoder", "decoder_smoke"),
    ("decoder", "decoder_full"),
    ("decoder", "decoder_qlora"),
    ("decoder", "decoder_smoke", "predicted"),
    ("decoder", "decoder_smoke", "correction"),
    ("small_decoder",),
    ("small_decoder", "decoder_smoke"),
    ("codec",),
    ("codec", "codec_smoke"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    documents = [
        Document(f"Tale {i}", (Block(" ".join(f"The king saw {i * j + j} ravens." for j in range(30))),), source="test")
        for i in range(20)
    ]
    return encode_corpus(documents, HashingEncoder(16), tmp_path_factory.mktemp("stores") / "s", progress=False)


@pytest.fixture(scope="module")
def learning_store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    """A store whose encoder has weights."""
    documents = [
        Document(f"Tale {i}", (Block(" ".join(f"The king saw {i * j + j} ravens." for j in range(5))),), source="test")
        for i in range(20)
    ]
    return encode_corpus(documents, load_encoder(), tmp_path_factory.mktemp("stores") / "m", progress=False)


@pytest.fixture(scope="module")
def first_stage(store: ConceptStore, llm: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a second stage is given: configuration and weights of a first, and a decoder."""
    folders = []
    for names, more in ((("base", "regression", "smoke"), []), (("decoder",), [f"--model.decoder.llm={llm}"])):
        folders.append(tmp_path_factory.mktemp(names[0]))
        options = [f"--trainer.default_root_dir={folders[-1]}", f"--data.store={store.path}", "--trainer.max_steps=2"]
        main(["fit", *(f"--config={CONFIGS / name}.yaml" for name in names), *options, *more])
    first, decoder = folders
    weights = [f"--model.from_checkpoint={first}/best.ckpt", f"--model.decoder={decoder}/best.ckpt"]
    return [f"--config={first}/config.yaml", *weights]


@pytest.fixture(scope="module")
def second_stage(store: ConceptStore, first_stage: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a decoder's second stage is given: the first, and predictions."""
    model, decoder = (option.partition("=")[2] for option in first_stage[1:])
    out = tmp_path_factory.mktemp("predicted") / "p"
    main(["foretell", str(store.path), "--model", model, "--out", str(out)])
    return [f"--model.start={decoder}", f"--data.predicted={out}"]


@pytest.fixture
def alone() -> Iterator[None]:
    """Takes back what a distributed strategy leaves in this process, so that later tests are not distributed."""
    yield
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_a_combination_of_configs_runs(
    names: tuple[str, ...], store: ConceptStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = [f"--trainer.default_root_dir={tmp_path}", f"--data.store={store.path}", "--trainer.fast_dev_run=true"]
    if names[0] == "codec":
        options.append(f"--data.store={request.getfixturevalue('learning_store').path}")
    if names[0] in ("decoder", "codec"):
        options.append(f"--model.decoder.llm={request.getfixturevalue('llm')}")
    if names[-1] == "decoder_qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra")
        options[-1] = f"--model.decoder.llm={request.getfixturevalue('wide_llm')}"
    if names[-1] == "predicted":
        options += request.getfixturevalue("second_stage")
    if names[-1] == "correction":
        options.append(request.getfixturevalue("second_stage")[0])
    if names[-1] in ("ddp", "fsdp"):  # with two processes in lcm/test_distributed.py
        request.getfixturevalue("alone")
        options.append("--trainer.devices=1")
    earlier = request.getfixturevalue("first_stage") if names == ("token_loss",) else []
    main(["fit", *earlier[:1], *(f"--config={CONFIGS / name}.yaml" for name in names), *earlier[1:], *options])


def test_every_config_is_in_a_combination() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {name for names in COMBINATIONS for name in names}


def test_a_mistyped_key_is_an_error_that_names_it(store: ConceptStore, capsys: pytest.CaptureFixture[str]) -> None:
    configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", "two_tower", "tiny")]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *configs, f"--data.store={store.path}", "--model.model.backbone.num_layer=3"])
    assert stop.value.code == 2
    assert "num_layer" in capsys.readouterr().err
