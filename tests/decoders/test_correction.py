from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data.store import ConceptStore
from decoders.correction import CorrectionTask
from decoders.cycle import CycleDecoder
from decoders.loading import load_decoder
from decoders.module import SentenceBatch, SentenceDataModule
from decoders.prefix import PrefixDecoder
from encoders.hashing import HashingEncoder

Make = Callable[..., PrefixDecoder]
SENTENCES = ["The old king had three sons.", "One day a fox came to the gate."]


@pytest.fixture
def batch(concepts: torch.Tensor) -> SentenceBatch:
    return SentenceBatch(concepts[:2], SENTENCES, ["", SENTENCES[0]])


def test_a_hypothesis_is_what_the_decoder_writes(
    make_decoder: Make, batch: SentenceBatch, encoder: HashingEncoder
) -> None:
    decoder = make_decoder(corrects=True)
    task = CorrectionTask(decoder, max_hypothesis_tokens=9)
    task.train()
    found = task.hypothesis(batch, 0.0, None)
    assert decoder.training  # as it was
    assert found.texts == decoder.eval().decode(batch.concepts, batch.context, max_new_tokens=9)
    torch.testing.assert_close(found.concepts, torch.from_numpy(encoder.encode(found.texts)))
    drawn = [task.hypothesis(batch, 1.5, torch.Generator().manual_seed(seed)).texts for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert not any("encoder" in name for name in task.state_dict())


def test_it_learns_to_correct(make_decoder: Make, batch: SentenceBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    drops = {"noise_share": 0.0, "concept_drop": 0.0, "context_drop": 0.0}
    task = CorrectionTask(make_decoder(corrects=True, trained=False, **drops), share=1.0, max_hypothesis_tokens=9)
    logged: dict[str, list[float]] = {}
    monkeypatch.setattr(task, "log", lambda name, value, **_: logged.setdefault(name, []).append(float(value)))
    task.train()
    decoder = task.decoder
    optimizer = torch.optim.AdamW([*decoder.adapter_parameters(), *decoder.lora_parameters()], lr=2e-2)
    for index in range(30):
        optimizer.zero_grad()
        task.training_step(batch, index).backward()
        optimizer.step()
    losses = logged["train_loss_corrected"]
    assert len(losses) == 30 and losses[-1] < losses[0] / 3
    assert decoder.adapter.difference is not None and decoder.adapter.difference.weight.any()


def test_a_checkpoint_of_it_is_a_decoder_that_corrects(
    make_decoder: Make, store: ConceptStore, encoder: HashingEncoder, concepts: torch.Tensor, tmp_path: Path
) -> None:
    task = CorrectionTask(make_decoder(corrects=True), share=0.5, warmup_steps=1, max_hypothesis_tokens=6)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    checkpoint = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_top_k=0)
    trainer = Trainer(
        max_steps=4, accelerator="cpu", num_sanity_val_steps=0, limit_val_batches=1, callbacks=[checkpoint], **options
    )
    trainer.fit(task, SentenceDataModule(str(store.path), batch_size=4))
    names = trainer.callback_metrics.keys()
    assert {"train_loss", "train_loss_corrected"} <= names
    trainer.validate(task, SentenceDataModule(str(store.path), batch_size=4), verbose=False)
    assert {"validation_loss", "validation_loss_corrected"} <= trainer.callback_metrics.keys()
    decoder = load_decoder(tmp_path / "last.ckpt", store.encoder)
    cycle = CycleDecoder(decoder, encoder, candidates=2, corrections=2)
    assert len(cycle.decode(concepts, max_new_tokens=6)) == len(concepts)


def test_settings_that_cannot_be_are_named(make_decoder: Make) -> None:
    with pytest.raises(ValueError, match="corrects: true"):
        CorrectionTask(make_decoder())
    with pytest.raises(ValueError, match="0 < share <= 1"):
        CorrectionTask(make_decoder(corrects=True), share=0.0)
