import json
import os
import random
import subprocess
import sys

import pytest
import torch

from decoders.prompt import tokenize
from decoders.small import SmallLLM
from decoders.vocabulary import BEGIN, END, NUM_BASIC, build_tokenizer, learn_merges

RUSSIAN = ["Старый король жил в высокой башне.", "Старый мельник и король пошли в лес.", "Король спал, а лес шумел."]
TRICKY = [
    "a",
    "Ünïcödé, Straße; naïve 'quotes' — “dashes”…",
    "Ёжик в тумане: «Кто там?»",
    "価格は１２３円です。",
    "😀👩‍👩‍👧 \u200d\ufeff",
    "x </s> y <s> z",
    "1234567890 3.14 $5,000",
    "\x00\x07 control",
    "doesn't won't I'll",
]


def test_any_text_comes_back(sentences: list[str]) -> None:
    tokenizer = build_tokenizer(learn_merges(sentences + RUSSIAN, 400))
    texts = sentences + RUSSIAN + TRICKY
    ids = tokenize(tokenizer, texts)
    folded = [" ".join(text.split()) for text in texts]
    assert [text[1:] for text in tokenizer.batch_decode(ids, skip_special_tokens=True)] == folded
    assert not {BEGIN, END} & {token for row in ids for token in row}  # "</s>" in a text is no end
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (BEGIN, END)
    assert tokenizer.decode([END, BEGIN], skip_special_tokens=True) == ""


def test_every_byte_has_a_token_before_anything_is_learnt() -> None:
    tokenizer = build_tokenizer([])
    assert len(tokenizer) == NUM_BASIC
    for text in TRICKY:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == len(text.encode()) and tokenizer.decode(ids) == text


def test_learning_joins_the_frequent(sentences: list[str]) -> None:
    merges = learn_merges(RUSSIAN, 320)
    tokenizer = build_tokenizer(merges)
    assert len(merges) <= 320 - NUM_BASIC and len(tokenizer) <= 320
    learnt, bytes_alone = (len(tokenizer(" король")["input_ids"]), len(" король".encode()))
    assert learnt <= 2 < bytes_alone
    assert len(tokenize(tokenizer, ["король"])[0]) == learnt  # a sentence's first word reads as in running text


def test_learning_is_deterministic_in_any_order_and_process(sentences: list[str]) -> None:
    texts = sentences + RUSSIAN
    first = learn_merges(texts, 500)
    mixed = random.Random(0).sample(texts, len(texts))
    assert learn_merges(mixed, 500) == first
    code = f"import json; from decoders.vocabulary import learn_merges; print(json.dumps(learn_merges({texts!r}, 500)))"
    for threads in ("false", "true"):
        environment = os.environ | {"TOKENIZERS_PARALLELISM": threads, "PYTHONHASHSEED": threads.count("e") * "7"}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert json.loads(out.stdout) == first


def test_ids_are_those_that_tokenizers_gives(sentences: list[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        min_frequency=2,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reference.train_from_iterator([f" {sentence}" for sentence in sentences], trainer)
    ours = build_tokenizer(learn_merges(sentences, 330))
    assert ours.get_vocab() == reference.get_vocab()
    assert tokenize(ours, sentences) == [reference.encode(f" {sentence}").ids for sentence in sentences]


def test_nothing_to_learn_is_one_clear_sentence() -> None:
    for texts in ([], [""], ["a", "b"]):
        with pytest.raises(ValueError, match="needs more text"):
            learn_merges(texts, 300)


def test_the_vocabulary_lives_in_the_weights(sentences: list[str]) -> None:
    def make() -> SmallLLM:
        return SmallLLM(300, width=8, num_layers=1, num_heads=2, block_dim=8)

    llm, other = make(), make()
    llm.learn_vocabulary(sentences)
    ids = llm.tokenize(TRICKY)
    with pytest.raises(ValueError, match="no vocabulary yet"):
        other.tokenize(TRICKY)
    other.load_state_dict(llm.state_dict())
    assert other.tokenize(TRICKY) == ids
    llm.learn_vocabulary(RUSSIAN)
    assert llm.tokenize(TRICKY) != ids  # the tokenizer follows the table
    other.state_dict()["merges"].copy_(llm.merges)  # as start_from does
    assert other.tokenize(TRICKY) == llm.tokenize(TRICKY)
    assert other.merges.shape == (300 - NUM_BASIC, 2) and other.merges.dtype == torch.int64
