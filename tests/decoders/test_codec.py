from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from sentence_transformers import SentenceTransformer

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from decoders.codec import CodecTask
from decoders.codec_encoder import TrainableEncoder, structure_error
from decoders.codec_export import CodecExport, export_codec
from decoders.evaluation import score_texts
from decoders.loading import load_decoder
from decoders.module import SentenceBatch, SentenceDataModule
from decoders.prefix import PrefixDecoder
from encoders.encoder import load_encoder
from encoders.hashing import HashingEncoder

NUM_STEPS, STOP = 16, 9  # seven batches an epoch: the stop lies within the second
Fit = Callable[..., tuple[CodecTask, Path]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> str:
    """A sentence-transformers folder with a random one-layer BERT, mean pooling and normalisation, D = 16."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(sentences, vocab_size=200, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=64)
    tokenizer.save_pretrained(folder / "plain")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder / "plain")
    modules = [Transformer(str(folder / "plain"), max_seq_length=64), Pooling(16, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "st"), create_model_card=False)
    return str(folder / "st")


@pytest.fixture(scope="module")
def bert_store(bert: str, sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    """Six documents of seven sentences."""
    documents = [
        Document(f"Tale {i}", (Block(" ".join(sentences[i:] + sentences[:i]) + f" That was tale number {i}."),), "test")
        for i in range(6)
    ]
    return encode_corpus(documents, load_encoder(bert), tmp_path_factory.mktemp("stores") / "tales", progress=False)


@pytest.fixture
def make_task(llm: str, bert_store: ConceptStore) -> Callable[..., CodecTask]:
    """Makes a task that has not learnt; its decoder is small."""

    def make(**options: object) -> CodecTask:
        decoder = PrefixDecoder(
            bert_store.dim,
            bert_store.encoder,
            bert_store.encoder_name,
            llm=llm,
            num_tokens=3,
            word_tokens=2,
            hidden_dim=24,
            num_words=40,
            lora_rank=2,
        )
        rates = {"adapter_lr": 1e-2, "lora_lr": 1e-2, "encoder_lr": 1e-3, "warmup_steps": 3}
        return CodecTask(decoder, **(rates | {"encoder_steps": 3} | options))

    return make


@pytest.fixture
def fit(
    make_task: Callable[..., CodecTask], make_trainer: Callable[..., Trainer], bert_store: ConceptStore, tmp_path: Path
) -> Fit:
    """Trains a new task, up to some step, perhaps on from a checkpoint; returns it and its folder."""

    def run(name: str, stop: int = NUM_STEPS, ckpt_path: Path | None = None) -> tuple[CodecTask, Path]:
        torch.manual_seed(len(name))  # must not matter
        task, folder = make_task(), tmp_path / name
        trainer = make_trainer(folder, NUM_STEPS, stop, CodecExport(str(folder)))
        data = SentenceDataModule(str(bert_store.path), batch_size=4)
        trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
        return task, folder

    return run


def test_structure_of_the_same_or_a_turned_space_is_whole(generator: torch.Generator) -> None:
    old = torch.randn(5, 7, generator=generator)
    turn = torch.linalg.qr(torch.randn(7, 7, generator=generator)).Q
    assert structure_error(old, old) == 0
    torch.testing.assert_close(structure_error(old @ turn, old), torch.zeros(()), atol=1e-10, rtol=0.0)
    assert structure_error(old.roll(1, 0), old) > 0.01
    assert structure_error(3 * old, old) > 1  # a longer concept would drown the noise
    unit = [torch.nn.functional.normalize(v, dim=-1) for v in (old.roll(1, 0), old)]
    cosines = [v @ v.T for v in unit]
    i, j = torch.tril_indices(5, 5, -1)
    expected = torch.nn.functional.mse_loss(cosines[0][i, j], cosines[1][i, j])
    torch.testing.assert_close(structure_error(*unit), expected)
    assert structure_error(old[:1], old[:1]) == 0


def test_it_encodes_as_the_encoder_that_made_the_store(bert: str, bert_store: ConceptStore) -> None:
    encoder = TrainableEncoder(bert, dtype="float32")
    assert encoder.fingerprint == bert_store.encoder
    concepts = torch.from_numpy(bert_store[0].astype("float32"))
    encoder.train()
    torch.testing.assert_close(encoder(bert_store.sentences(0)), concepts, atol=1e-2, rtol=0.0)  # float16 on the disk
    assert structure_error(encoder(bert_store.sentences(0)), concepts) < 1e-4


@pytest.mark.parametrize("options", ["?prompt=query: ", "?truncate_dim=6"])
def test_prompt_and_width_go_into_the_folder(bert: str, options: str, sentences: list[str], tmp_path: Path) -> None:
    encoder = TrainableEncoder(bert + options, dtype="float32")
    concepts = encoder(sentences)
    encoder.save(tmp_path / "saved")
    torch.testing.assert_close(
        concepts, torch.from_numpy(load_encoder(bert + options).encode(sentences)), atol=1e-2, rtol=0
    )
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(sentences)
    torch.testing.assert_close(concepts, torch.from_numpy(again), atol=1e-5, rtol=0)


def test_gradients_reach_encoder_adapter_and_lora(
    make_task: Callable[..., CodecTask], bert_store: ConceptStore, concepts: torch.Tensor, sentences: list[str]
) -> None:
    task = make_task(structure_weight=0.0)
    task.decoder.fit(concepts.repeat(3, 1), sentences * 3)
    for parameter in task.decoder.lora_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    loss = task.decoder.loss(task.encoder(sentences), sentences, None, torch.Generator().manual_seed(0))["loss"]
    loss.backward()
    still = {name for name, p in task.named_parameters() if not task.decoder.is_base(name.removeprefix("decoder."))}
    still -= {name for name, p in task.named_parameters() if p.grad is not None and p.grad.any()}
    assert all("pooler" in name for name in still if name.startswith("encoder.")), (
        still
    )  # mean pooling has no use for it
    assert {"decoder.adapter.outer.weight", "decoder.adapter.word_gain"}.isdisjoint(still)
    assert not any("lora_" in name for name in still)


def test_a_resumed_run_equals_an_uninterrupted_one(fit: Fit) -> None:
    whole, _ = fit("whole")
    _, folder = fit("cut", STOP)
    resumed, _ = fit("resumed", ckpt_path=folder / "last.ckpt")
    assert whole.global_step == resumed.global_step == NUM_STEPS
    for (name, left), right in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


def test_the_encoder_learns_behind_its_first_steps(fit: Fit, bert: str, sentences: list[str]) -> None:
    first = TrainableEncoder(bert)(sentences)
    still, _ = fit("still", stop=3)
    assert torch.equal(still.encoder(sentences), first)
    moved, _ = fit("moved")
    assert not torch.allclose(moved.encoder(sentences), first, atol=1e-3)


def test_what_is_left_behind_opens_as_encoder_and_decoder(
    fit: Fit, bert: str, bert_store: ConceptStore, sentences: list[str], tmp_path: Path
) -> None:
    task, folder = fit("run")
    export_codec(task, folder)  # a second time, over the first
    task.eval()
    task.encoder.dtype = "float32"
    concepts = task.encoder(sentences).detach()
    again = SentenceTransformer(str(folder / "encoder"), device="cpu").encode(sentences)
    torch.testing.assert_close(concepts, torch.from_numpy(again), atol=1e-5, rtol=0.0)

    encoder = load_encoder(str(folder / "encoder"))
    assert encoder.fingerprint not in ("", bert_store.encoder, load_encoder(bert).fingerprint)
    decoder = load_decoder(folder / "decoder.ckpt", encoder.fingerprint)
    assert load_encoder(decoder.encoder_name).fingerprint == decoder.encoder == encoder.fingerprint
    task.decoder.llm.merge_lora()
    assert decoder.decode(concepts, max_new_tokens=8) == task.decoder.decode(concepts, max_new_tokens=8)
    with pytest.raises(ValueError, match="knows concepts of encoder"):
        load_decoder(folder / "decoder.ckpt", bert_store.encoder)
    assert {path.name for path in folder.iterdir()} == {"encoder", "decoder.ckpt", "last.ckpt"}  # nothing half-written

    rebuilt = CodecTask.load_from_checkpoint(folder / "last.ckpt", weights_only=True).eval()
    rebuilt.encoder.dtype = "float32"
    assert torch.equal(rebuilt.encoder(sentences), concepts)


def test_what_does_not_fit_is_refused(
    make_task: Callable[..., CodecTask], store: ConceptStore, bert_store: ConceptStore, llm: str
) -> None:
    with pytest.raises(ValueError, match='encoder "hashing:16" has no weights'):
        CodecTask(PrefixDecoder(16, store.encoder, store.encoder_name, llm=llm))
    with pytest.raises(ValueError, match="the decoder knows concepts of encoder"):
        CodecTask(PrefixDecoder(16, store.encoder, bert_store.encoder_name, llm=llm))
    with pytest.raises(ValueError, match="encoder_lr > 0"):
        make_task(encoder_lr=0.0)
    task = make_task()
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="the decoder knows concepts of encoder"):
        trainer.fit(task, SentenceDataModule(str(store.path)))
    batch = SentenceBatch(torch.zeros(1, 16), ["A fox."], [""])
    with pytest.raises(ValueError, match="neighbours or predictions"):
        task.training_step(replace(batch, level=torch.zeros(1)), 0)


def test_exact_counts_short_sentences_written_to_the_letter(sentences: list[str]) -> None:
    encoder = HashingEncoder(16)
    pairs = SentenceBatch(torch.from_numpy(encoder.encode(sentences)), sentences, [""] * len(sentences))
    texts = [*sentences[:2], "She took the golden apple.", *sentences[3:]]
    found = score_texts(texts, pairs, encoder, np.random.default_rng(0))["exact"]
    assert found[0] == pytest.approx(5 / 6) and found[1] <= found[0] <= found[2]
    long = [" ".join(sentences)] * 2
    pairs = SentenceBatch(torch.from_numpy(encoder.encode(long)), long, ["", ""])
    assert "exact" not in score_texts(long, pairs, encoder, np.random.default_rng(0))
