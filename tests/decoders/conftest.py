"""A decoder around a one-layer random Llama, and a store of six small documents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from decoders.prefix import PrefixDecoder
from encoders.hashing import HashingEncoder

D = 16


class StopAt(Callback):
    """Ends a run early, as a user would, in the middle of its learning rate schedule."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        trainer.should_stop = trainer.global_step >= self.step


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    """Makes a silent trainer of a number of steps that ends at `stop` and leaves last.ckpt in the folder."""

    def make(folder: Path, num_steps: int, stop: int, *callbacks: Callback) -> Trainer:
        return Trainer(
            max_steps=num_steps,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1,
            gradient_clip_val=1.0,
            callbacks=[
                StopAt(stop),
                *callbacks,
                ModelCheckpoint(folder, save_last=True, every_n_train_steps=1, save_top_k=0),
            ],
        )

    return make


@pytest.fixture(scope="session")
def encoder() -> HashingEncoder:
    return HashingEncoder(D)


@pytest.fixture
def concepts(encoder: HashingEncoder, sentences: list[str]) -> torch.Tensor:
    return torch.from_numpy(encoder.encode(sentences))


@pytest.fixture
def make_decoder(
    llm: str, concepts: torch.Tensor, encoder: HashingEncoder, sentences: list[str]
) -> Callable[..., PrefixDecoder]:
    """Makes a fitted decoder whose LoRA matrices and MLP are not zero, which would hide errors."""

    def make(*, trained: bool = True, **options: Any) -> PrefixDecoder:
        sizes = {"num_tokens": 3, "word_tokens": 2, "hidden_dim": 24, "num_words": 40, "lora_rank": 2}
        decoder = PrefixDecoder(D, encoder.fingerprint, encoder.name, llm=llm, **(sizes | options))
        decoder.fit(concepts.repeat(3, 1), sentences * 3)
        if trained:
            torch.manual_seed(1)
            for parameter in [*decoder.adapter_parameters(), *decoder.lora_parameters()]:
                torch.nn.init.normal_(parameter, std=0.3)
        return decoder.eval()

    return make


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, encoder: HashingEncoder, sentences: list[str]) -> ConceptStore:
    """Six documents of a heading and seven sentences."""
    documents = [
        Document(
            f"Tale {i}",
            (
                Block(f"Tale {i}", level=2, role="heading"),
                Block(" ".join(sentences[i:] + sentences[:i]) + f" That was tale number {i}."),
            ),
            source="test",
        )
        for i in range(6)
    ]
    path: Path = tmp_path_factory.mktemp("stores") / "tales"
    return encode_corpus(documents, encoder, path, progress=False)
