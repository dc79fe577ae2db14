from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from data.store import ConceptStore
from decoders.loading import load_decoder
from decoders.module import SentenceDataModule
from decoders.prefix import PrefixDecoder
from decoders.task import DecoderTask

NUM_STEPS, STOP = 24, 10  # seven batches an epoch: the stop lies within the second
CONTEXT = ["", "The old king had three sons."]
Fit = Callable[..., tuple[DecoderTask, Path]]


@pytest.fixture
def fit(llm: str, make_trainer: Callable[..., Trainer], store: ConceptStore, tmp_path: Path) -> Fit:
    """Trains a new task, up to some step, perhaps on from a checkpoint; returns it and its last checkpoint."""

    def run(name: str, stop: int = NUM_STEPS, ckpt_path: Path | None = None) -> tuple[DecoderTask, Path]:
        torch.manual_seed(len(name))  # must not matter
        decoder = PrefixDecoder(
            store.dim,
            store.encoder,
            store.encoder_name,
            llm=llm,
            num_tokens=3,
            word_tokens=2,
            hidden_dim=24,
            num_words=40,
            lora_rank=2,
        )
        task = DecoderTask(decoder, adapter_lr=1e-2, lora_lr=1e-2, adapter_steps=4, warmup_steps=3)
        trainer = make_trainer(tmp_path / name, NUM_STEPS, stop)
        trainer.fit(task, SentenceDataModule(str(store.path), batch_size=4), ckpt_path=ckpt_path, weights_only=True)
        return task, tmp_path / name / "last.ckpt"

    return run


def test_a_resumed_run_equals_an_uninterrupted_one(fit: Fit) -> None:
    whole, _ = fit("whole")
    _, path = fit("cut", STOP)
    resumed, _ = fit("resumed", ckpt_path=path)
    assert whole.global_step == resumed.global_step == NUM_STEPS
    for (name, left), right in zip(
        whole.decoder.state_dict().items(), resumed.decoder.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right), name


def test_a_checkpoint_rebuilds_the_decoder_and_holds_only_what_learns(
    fit: Fit, store: ConceptStore, concepts: torch.Tensor
) -> None:
    task, path = fit("run")
    content = torch.load(path, weights_only=True)
    learnt = {f"decoder.{name}" for name, _ in task.decoder.named_parameters() if not task.decoder.is_base(name)}
    buffers = {f"decoder.adapter.{name}" for name, _ in task.decoder.adapter.named_buffers()}
    assert set(content["state_dict"]) == learnt | buffers | {"decoder.predicted_level"}
    assert content["hyper_parameters"]["decoder"]["init_args"]["encoder"] == store.encoder

    again = DecoderTask.load_from_checkpoint(path, weights_only=True).decoder
    for (name, left), right in zip(task.decoder.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


def test_a_loaded_decoder_has_its_lora_merged_and_writes_the_same(
    fit: Fit, store: ConceptStore, concepts: torch.Tensor
) -> None:
    task, path = fit("run")
    decoder = load_decoder(path, store.encoder)
    assert not decoder.training and (decoder.encoder_name, decoder.dim) == (store.encoder_name, store.dim)
    assert not decoder.lora_parameters()
    task.decoder.eval()
    assert task.decoder.decode(concepts[:2], CONTEXT) == decoder.decode(concepts[:2], CONTEXT)
    nll = [d.nll(concepts[:2], ["A fox.", "The king ran."], CONTEXT).total for d in (task.decoder, decoder)]
    torch.testing.assert_close(*nll)


def test_the_adapter_learns_alone_at_first(fit: Fit) -> None:
    task, _ = fit("early", stop=4)
    fresh = PrefixDecoder(**task.decoder.arguments)
    for name, parameter in task.decoder.named_parameters():
        if "lora_" in name:
            assert torch.equal(parameter, fresh.get_parameter(name)), name
    assert not torch.equal(task.decoder.adapter.outer.weight, fresh.adapter.outer.weight)


def test_bad_files_are_one_clear_sentence(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no decoder at"):
        load_decoder(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="no checkpoint of"):
        load_decoder(tmp_path / "text.ckpt")
    torch.save({"hyper_parameters": {"_class_path": "lcm.task.LCMTask"}}, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="holds a LCMTask, expected a DecoderTask"):
        load_decoder(tmp_path / "model.ckpt")
    _, path = fit("run", stop=1)
    with pytest.raises(ValueError, match="knows concepts of encoder"):
        load_decoder(path, "another fingerprint")
    content = torch.load(path, weights_only=True)

    def altered(said: str, **changes: Any) -> None:
        torch.save(content | changes, tmp_path / "altered.ckpt")
        with pytest.raises(ValueError, match=said):
            load_decoder(tmp_path / "altered.ckpt")

    state, settings = content["state_dict"], content["hyper_parameters"]
    recipe = settings["decoder"]
    name = "decoder.adapter.outer.weight"
    altered(
        "does not hold the weights .*adapter.outer.weight", state_dict={k: v for k, v in state.items() if k != name}
    )
    altered(r"holds adapter.outer.weight of shape \(2,\)", state_dict=state | {name: torch.zeros(2)})
    for said, change in {
        "names the class decoders.prefix.Other, which is no decoder": {"class_path": "decoders.prefix.Other"},
        "names the class elsewhere.Other, which is not here": {"class_path": "elsewhere.Other"},
        "takes other arguments": {"init_args": recipe["init_args"] | {"newer": 1}},
    }.items():
        altered(said, hyper_parameters=settings | {"decoder": recipe | change})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_decoder(path)


def test_a_training_starts_from_an_earlier_one(fit: Fit, store: ConceptStore) -> None:
    task, path = fit("first", stop=5)
    fresh = PrefixDecoder(**task.decoder.arguments | {"before": 1})
    second = DecoderTask(fresh, start=str(path))
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(max_steps=1, limit_train_batches=0, limit_val_batches=0, **options)
    trainer.fit(second, SentenceDataModule(str(store.path), batch_size=4, before=1))
    for name, value in task.decoder.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_a_batch_without_the_neighbours_that_a_decoder_reads_is_an_error(fit: Fit, store: ConceptStore) -> None:
    task, _ = fit("first", stop=1)
    reader = DecoderTask(PrefixDecoder(**task.decoder.arguments | {"before": 1}))
    (dataset,) = SentenceDataModule(str(store.path)).datasets("train")
    with pytest.raises(ValueError, match="set before and after of the data"):
        reader.training_step(dataset.batch([0, 1]), 0)


def test_each_kind_of_weight_has_its_rate_and_a_checkpoint_of_all_rebuilds_itself(
    fit: Fit, store: ConceptStore, tmp_path: Path
) -> None:
    task, _ = fit("first", stop=1)
    decoder = PrefixDecoder(**task.decoder.arguments | {"tuning": "full", "lora_rank": None})
    full = DecoderTask(decoder, adapter_lr=1e-3, llm_lr=2e-3, adapter_steps=1)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "limit_val_batches": 0}
    trainer = Trainer(max_steps=3, enable_checkpointing=False, **options)
    before = decoder.llm.embedding.weight.clone()
    trainer.fit(full, SentenceDataModule(str(store.path), batch_size=4))
    groups = trainer.optimizers[0].param_groups
    assert [group["initial_lr"] for group in groups] == [1e-3, 2e-3]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in decoder.llm_parameters()]
    assert not torch.equal(decoder.llm.embedding.weight, before)
    trainer.save_checkpoint(tmp_path / "full.ckpt")
    again = DecoderTask.load_from_checkpoint(tmp_path / "full.ckpt", weights_only=True).decoder
    for (name, left), right in zip(decoder.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_a_checkpoint_holds_what_learnt_and_is_completed(
    wide_llm: str, store: ConceptStore, tmp_path: Path, tuning: str
) -> None:
    if tuning == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra")
    sizes = {"num_tokens": 3, "word_tokens": 2, "hidden_dim": 24, "num_words": 40, "lora_rank": 2}
    task = DecoderTask(
        PrefixDecoder(store.dim, store.encoder, store.encoder_name, llm=wide_llm, tuning=tuning, **sizes)
    )
    batch = SentenceDataModule(str(store.path), batch_size=4).sample(4)
    task.decoder.fit(batch.concepts, batch.sentences)
    for parameter in task.decoder.lora_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    checkpoint = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(checkpoint)
    assert not any(task.decoder.is_base(key.removeprefix("decoder.")) for key in checkpoint["state_dict"])
    path = tmp_path / "some.ckpt"
    torch.save({**checkpoint, "pytorch-lightning_version": "2.6.0"}, path)
    again = load_decoder(path, store.encoder)
    arguments = (batch.concepts, batch.sentences, batch.context)
    torch.testing.assert_close(again.nll(*arguments).total, task.decoder.eval().nll(*arguments).total)
