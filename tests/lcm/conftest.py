"""A tiny fitted concept model of each head, and a store of a few small documents."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.batch import ConceptBatch
from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from encoders.hashing import HashingEncoder
from lcm.backbone import CausalTransformer
from lcm.cli import main
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.model import ConceptModel
from lcm.one_tower import OneTowerModel

B, S, D, H = 2, 6, 7, 16
CONFIGS = Path(__file__).parents[2] / "configs"
NOUNS = ["fox", "miller", "king", "stone", "river", "crown", "raven", "well", "horse", "tower", "bell", "ring"]


def make_model(kind: str, dim: int = D) -> ConceptModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(
        width=H, num_layers=2, num_heads=2, dropout=0.0, decays=None if kind == "one_tower" else (0.5, 1.0)
    )
    model: ConceptModel = {
        "regression": lambda: ConceptModel(dim, backbone, RegressionHead(dim, H)),
        "two_tower": lambda: ConceptModel(
            dim, backbone, TwoTowerHead(dim, H, num_layers=2, num_heads=2, dropout=0.0, first_guess=True)
        ),
        "one_tower": lambda: OneTowerModel(dim, backbone),
    }[kind]()
    for parameter in model.parameters():  # AdaLN-zero and the level table start at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    model.normalizer.fit(torch.randn(50, dim) * 0.1 + 1)
    return model.eval()


@pytest.fixture(params=["regression", "two_tower", "one_tower"])
def model(request: pytest.FixtureRequest) -> ConceptModel:
    return make_model(request.param)


@pytest.fixture
def batch() -> ConceptBatch:
    concepts = torch.randn(B, S, D, generator=torch.Generator().manual_seed(1)) * 0.1 + 1
    level = torch.zeros(B, S, dtype=torch.long)
    level[:, 0] = 2
    return ConceptBatch(concepts, torch.ones(B, S, dtype=torch.bool), level)


def tale(number: int) -> Document:
    heading = Block(f"Tale {number}", level=4, role="heading")
    text = " ".join(f"The {NOUNS[(number + 5 * i) % 12]} saw the {NOUNS[(3 * number + i) % 12]}." for i in range(40))
    return Document(f"Tale {number}", (heading, Block(text)), source="test")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    """Thirty tales of forty sentences, by a hashing encoder of width 16."""
    path = tmp_path_factory.mktemp("stores") / "tales"
    return encode_corpus([tale(i) for i in range(30)], HashingEncoder(16), path, progress=False)


TINY = {
    "model.model.backbone.width": "16",
    "model.model.backbone.num_layers": "1",
    "model.model.backbone.num_heads": "2",
    "data.length": "16",
    "data.stride": "8",
    "data.batch_size": "4",
    "trainer.enable_progress_bar": "false",
    "trainer.callbacks": "[]",
    "trainer.val_check_interval": "2",
}


@pytest.fixture
def fit(store: ConceptStore, tmp_path: Path) -> Callable[..., Path]:
    """Runs "lcm fit" in this process on a tiny model and returns the folder that it filled."""

    def run(*more: str, head: str = "two_tower", steps: int = 6, folder: str = "run") -> Path:
        keep = (
            "[{class_path: AveragedWeights, init_args: {decay: 0.9}}, "
            f"{{class_path: ModelCheckpoint, init_args: {{dirpath: '{tmp_path / folder}', filename: '{{step}}', "
            "save_top_k: -1, every_n_train_steps: 1, save_last: true, enable_version_counter: false}}]"
        )
        options = TINY | {
            "trainer.callbacks": keep,
            "trainer.max_steps": str(steps),
            "trainer.default_root_dir": str(tmp_path / folder),
            "data.store": str(store.path),
        }
        configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", head, "tiny")]
        main(["fit", *configs, *(f"--{key}={value}" for key, value in options.items()), *more])
        return tmp_path / folder

    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with exit code 2 and no traceback, and returns what it said."""

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        said = capsys.readouterr().err
        assert stop.value.code == 2, said
        assert "Traceback" not in said
        return said

    return run
