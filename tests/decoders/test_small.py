import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from decoders.loading import load_decoder
from decoders.module import SentenceDataModule
from decoders.small import SmallDecoder
from decoders.task import DecoderTask
from encoders.hashing import HashingEncoder

D = 64
SIZES = {"vocab_size": 420, "width": 64, "num_layers": 2, "num_heads": 2, "block_dim": 128, "hidden_dim": 48}
SIZES |= {"num_tokens": 5, "word_tokens": 4, "num_words": 80}
QUIET = {"noise_share": 0.0, "concept_drop": 0.0, "context_drop": 0.0}
ENGLISH = """
The ferry left before the rain began. | My sister keeps her letters in a tin box.
We counted nine lamps along the quay. | The baker sleeps while the town wakes up.
Nobody had repaired the bridge since spring. | He sold the violin to pay the rent.
A grey cat watched us from the roof. | The second train was warmer than the first.
She writes slowly and never crosses out a word. | Our teacher drew a map of the river.
The snow stayed in the valley until May. | I found the key under a broken pot. | They argued about the price of salt.
The old clock loses four minutes a day. | Two boys carried the ladder across the yard.
The doctor came on foot through the mud. | Her answer surprised everyone at the table.
The window faces a wall of red brick. | He reads the paper backwards, sports first.
The garden needs water more than advice. | We waited an hour for the last bus. | The captain spoke softly to his dog.
Every shop in the street sells bread. | The child asked why the moon follows us.
Someone had painted the door bright green. | The soup was cold, but we ate it. | She learnt to swim in a frozen lake.
My uncle repairs radios in his kitchen. | The wind took the hat of the mayor. | Three pears were left in the bowl.
The letter arrived a year too late. | He whistles when he is afraid. | The museum closes early on Mondays.
We slept in the hay and woke at dawn. | The judge laughed at her own mistake. | A stranger paid for our tickets.
The road ends where the forest starts. | She planted beans between the stones. | The twins disagree about everything.
He built a boat too large for the door. | The market smells of fish and oranges. | I have never seen the sea at night.
The piano is missing its highest note. | Her coat was heavier than her suitcase. | The guide forgot which way we came.
They painted the ceiling with stars. | The dog buried my left shoe. | A bell rings when the tide turns.
The soldier mended his own boots. | We drank tea from jam jars. | The farmer trusts his knees more than the radio.
The lift stopped between two floors. | He grew tomatoes on the balcony. | She speaks four languages and lies in none.
The candle went out before the story ended. | Our neighbour collects empty bottles. | The fog hid the whole harbour.
The actor forgot his only line. | Bees had moved into the letter box. | We crossed the border on a Sunday.
The tailor measured the bride twice. | His shadow was longer than the street. | The well behind the church is dry.
Nothing grows under that tree.
"""
RUSSIAN = """
Старый мост скрипел под ногами. | Мы ждали поезда до самого вечера. | Бабушка пекла пироги по воскресеньям.
Кошка спала на тёплой печке. | В саду пахло мокрой травой. | Он продал скрипку и купил лодку.
Дети нарисовали жёлтое солнце. | Никто не знал, куда ушёл сторож. | Снег лежал в долине до мая.
Она пишет письма зелёными чернилами. | Доктор пришёл пешком по грязи. | Река замёрзла за одну ночь.
Мой брат чинит часы и радио. | На рынке продавали мёд и рыбу. | Учитель забыл очки дома.
Дорога кончилась у самого леса. | Ветер унёс шляпу капитана. | Мы пили чай из старых кружек.
Соседка собирает пустые бутылки. | Колокол звонит, когда начинается прилив. | Собака закопала мой ботинок.
Письмо пришло на год позже. | Окно выходит на кирпичную стену. | Щенок съел половину ужина.
"""
Make = Callable[..., SmallDecoder]


def split(text: str) -> list[str]:
    return [part.strip() for line in text.strip().splitlines() for part in line.split("|")]


@pytest.fixture(scope="module")
def reader() -> HashingEncoder:
    return HashingEncoder(D)


@pytest.fixture
def make_small(reader: HashingEncoder) -> Make:
    """Makes a decoder fitted on some sentences."""

    def make(sentences: list[str], **options: Any) -> SmallDecoder:
        decoder = SmallDecoder(D, reader.fingerprint, reader.name, **(SIZES | options))
        decoder.fit(torch.from_numpy(reader.encode(sentences)), sentences)
        return decoder

    return make


def train(decoder: SmallDecoder, concepts: torch.Tensor, sentences: list[str], steps: int, batch: int) -> list[float]:
    """Return the losses of some steps, epoch after epoch in a seeded order."""
    generator, losses, rows = torch.Generator().manual_seed(0), [], []
    optimizer = torch.optim.AdamW(decoder.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.2e-2, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        rows = rows[batch:] or torch.randperm(len(sentences), generator=generator).tolist()
        some = rows[:batch]
        loss = decoder.loss(concepts[some], [sentences[i] for i in some], None, generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    return losses


def test_it_writes_64_sentences_by_heart(make_small: Make, reader: HashingEncoder) -> None:
    sentences = split(ENGLISH)
    assert len(set(sentences)) == 64
    concepts = torch.from_numpy(reader.encode(sentences))
    decoder = make_small(sentences, **QUIET)
    train(decoder, concepts, sentences, steps=130, batch=32)
    written = decoder.eval().decode(concepts, max_new_tokens=30)
    assert sum(a == b for a, b in zip(written, sentences, strict=True)) >= 58  # 90 %
    decoder.llm.merge_lora()  # rounds the weights to bfloat16
    again = decoder.decode(concepts, max_new_tokens=30)
    assert sum(a == b for a, b in zip(again, sentences, strict=True)) >= 58


def test_it_learns_russian(make_small: Make, reader: HashingEncoder) -> None:
    sentences = split(RUSSIAN)
    concepts = torch.from_numpy(reader.encode(sentences))
    decoder = make_small(sentences, **QUIET)
    losses = train(decoder, concepts, sentences, steps=60, batch=12)
    assert losses[0] == pytest.approx(torch.tensor(420.0).log().item(), abs=1.5)  # no opinion at first
    assert losses[-1] < losses[0] / 2
    written = decoder.eval().decode(concepts, max_new_tokens=30)
    letters = [letter for text in written for letter in text if letter.isalpha()]
    assert len(letters) > 100 and all("а" <= letter.lower() <= "я" or letter in "ёЁ" for letter in letters)
    words = {word for sentence in sentences for word in sentence.split()}
    assert sum(word in words for text in written for word in text.split()) > 20


def test_it_counts_its_weights() -> None:
    def weights(v: int, w: int, blocks: int, b: int, h: int, k: int) -> int:
        network = v * w + blocks * (4 * w * w + 3 * w * b + 2 * w) + w
        return network + (D + 2) * h + (h + 1) * k * w + k * w + k + 1

    decoder = SmallDecoder(D, **SIZES)
    assert sum(p.numel() for p in decoder.parameters()) == weights(420, 64, 2, 128, 48, 5)
    learning = [*decoder.adapter_parameters(), *decoder.lora_parameters(), *decoder.llm_parameters()]
    assert {id(p) for p in learning} == {id(p) for p in decoder.parameters()} and len(set(learning)) == len(learning)
    assert not any(decoder.is_base(name) for name in decoder.state_dict())
    with torch.device("meta"):
        whole = SmallDecoder(384)
    assert sum(p.numel() for p in whole.parameters()) <= 30_000_000


def test_every_weight_learns_and_soft_tokens_are_of_unit_size(make_small: Make, reader: HashingEncoder) -> None:
    sentences = split(ENGLISH)[:12]
    concepts = torch.from_numpy(reader.encode(sentences))
    decoder = make_small(sentences * 3, before=1, concept_drop=0.5).train()
    neighbours, generator = concepts[:, None].roll(1, 0), torch.Generator().manual_seed(0)
    decoder.loss(concepts, sentences, ["", *sentences[:-1]], generator, neighbours=neighbours)["loss"].backward()
    still = {name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert not still
    entered: list[torch.Tensor] = []
    decoder.llm.model.model.layers[0].register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    decoder.eval().decode(concepts[:2], max_new_tokens=2)
    assert len(entered) == 2  # the prompt, and a token after it
    for hidden in entered:
        torch.testing.assert_close(hidden.square().mean(-1).sqrt(), torch.ones(hidden.shape[:2]), rtol=0.3, atol=0.0)


def test_a_checkpoint_rebuilds_it_to_the_bit(make_small: Make, tmp_path: Path) -> None:
    sentences = split(RUSSIAN)
    reader = HashingEncoder(D)
    documents = [
        Document(f"Сказка {i}", (Block(" ".join(sentences[i:] + sentences[:i])),), source="test") for i in range(6)
    ]
    store: ConceptStore = encode_corpus(documents, reader, tmp_path / "store", progress=False)
    task = DecoderTask(SmallDecoder(D, store.encoder, store.encoder_name, **SIZES), llm_lr=1e-2, warmup_steps=1)
    keep = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_top_k=0)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=3, accelerator="cpu", limit_val_batches=1, callbacks=[keep], **options)
    first = task.decoder.llm.embedding.weight.detach().clone()
    trainer.fit(task, SentenceDataModule(str(store.path), batch_size=4))
    trained = task.decoder.eval()
    assert not torch.equal(first, trained.llm.embedding.weight)

    again = DecoderTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True).decoder.eval()
    assert isinstance(again, SmallDecoder) and again.arguments == trained.arguments
    for (name, left), right in zip(trained.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(left, right), name
    concepts = torch.from_numpy(reader.encode(sentences[:3]))
    assert again.llm.tokenize(sentences) == trained.llm.tokenize(sentences)
    assert torch.equal(again.nll(concepts, sentences[:3]).total, trained.nll(concepts, sentences[:3]).total)
    assert again.decode(concepts, max_new_tokens=8) == trained.decode(concepts, max_new_tokens=8)

    ready = load_decoder(tmp_path / "last.ckpt", store.encoder)
    assert isinstance(ready, SmallDecoder) and ready.llm.embedding.weight.dtype == torch.bfloat16
    assert len(ready.decode(concepts, sentences[:3], max_new_tokens=8)) == 3
    left, right = (d.nll(concepts, sentences[:3]).total for d in (ready, trained))
    torch.testing.assert_close(left, right, rtol=2e-2, atol=0.0)

    alone = f"import sys; from decoders.loading import load_decoder; load_decoder({str(tmp_path / 'last.ckpt')!r})"
    subprocess.run([sys.executable, "-c", f"{alone}; assert 'lightning' not in sys.modules"], check=True)


def test_it_keeps_its_vocabulary_when_fitted_again(make_small: Make, reader: HashingEncoder) -> None:
    decoder = make_small(split(ENGLISH))
    merges = decoder.llm.merges.clone()
    decoder.fit(torch.from_numpy(reader.encode(split(RUSSIAN))), split(RUSSIAN))
    assert torch.equal(decoder.llm.merges, merges)


def test_what_cannot_work_is_one_clear_sentence() -> None:
    decoder = SmallDecoder(D, **SIZES)
    for use in (lambda: decoder.decode(torch.ones(1, D)), lambda: decoder.nll(torch.ones(1, D), ["A fox."])):
        with pytest.raises(ValueError, match='no vocabulary yet; train it with "lcm fit"'):
            use()
    for wrong, named in (({"vocab_size": 258}, "vocab_size"), ({"width": 66, "num_heads": 4}, "width")):
        with pytest.raises(ValueError, match=named):
            SmallDecoder(D, **(SIZES | wrong))
