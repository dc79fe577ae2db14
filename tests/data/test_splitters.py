import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.document import Block, Document
from data.splitters import CorpusSplitter, WtpSplitter, make_splitter, splitter_from_json

ENGLISH = Document(
    "E", (Block("We went to Xqz. Miller in town. There Xqz. Baker met Xqz. Cook. So it was. " * 20),), "s"
)
RUSSIAN = Document("Р", (Block("Он пришёл к Щкр. Иванову. Там Щкр. Петров ждал Щкр. Сидорова. Вот и всё. " * 20),), "s")
SPLITTER = CorpusSplitter.train([ENGLISH, RUSSIAN])


def without_space(text: str) -> str:
    return "".join(text.split())


def test_each_language_is_learnt_from_its_documents() -> None:
    assert SPLITTER.split("I saw Xqz. Miller. He ran.", "english", 250) == ["I saw Xqz. Miller.", "He ran."]
    assert SPLITTER.split("Вот Щкр. Иванов. Он ушёл.", "russian", 250) == ["Вот Щкр. Иванов.", "Он ушёл."]
    assert len(CorpusSplitter.train([RUSSIAN]).split("I saw Xqz. Miller. He ran.", "english", 250)) == 3
    described = "punkt trained on the corpus, english; punkt trained on the corpus, russian; rules"
    assert SPLITTER.describe().startswith(described)


def test_what_was_split_before_changes_nothing() -> None:
    text = "Das ist Abc. Mair und Abc. Huber. Er kam. " * 5
    first, fresh = CorpusSplitter.train([ENGLISH]), CorpusSplitter.train([ENGLISH])
    saved = json.dumps(first.to_json())
    for other in (RUSSIAN.blocks[0].text, "Xyz. Abc. Mair. " * 50, ENGLISH.blocks[0].text):
        for language in ("german", "russian", "english"):
            first.split(other, language, 250)
    assert first.split(text, "german", 250) == fresh.split(text, "german", 250)
    assert json.dumps(first.to_json()) == saved


@given(st.text(), st.sampled_from(["english", "russian", "german"]), st.integers(2, 50))
def test_nothing_is_lost_and_json_keeps_all(text: str, language: str, max_chars: int) -> None:
    restored = splitter_from_json(json.loads(json.dumps(SPLITTER.to_json())))
    sentences = SPLITTER.split(text, language, max_chars)
    assert without_space("".join(sentences)) == without_space(text)
    assert restored.split(text, language, max_chars) == sentences and restored.describe() == SPLITTER.describe()


def test_json_does_not_depend_on_the_order_of_documents() -> None:
    swapped = CorpusSplitter.train([RUSSIAN, ENGLISH])
    assert json.dumps(swapped.to_json()) == json.dumps(SPLITTER.to_json())
    assert swapped.to_json()["splitter"] == "punkt"


def test_other_rules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"split by rules 1, this version has rules \d; encode them again"):
        splitter_from_json(SPLITTER.to_json() | {"rules": 1})


def test_a_splitter_is_made_by_name() -> None:
    assert make_splitter("punkt", [ENGLISH, RUSSIAN]).to_json() == SPLITTER.to_json()
    for name in ("spacy", "wtpsplit", "wtpsplit:", "punkt:x"):
        with pytest.raises(ValueError, match="take punkt, or wtpsplit:MODEL"):
            make_splitter(name, [])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.splitters.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "concept-lm\[wtpsplit\]"'):
        make_splitter("wtpsplit:sat-3l-sm", [])


@pytest.fixture(scope="module")
def sat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saves a SaT model of one random layer with a tokenizer of single letters."""
    with warnings.catch_warnings():
        pytest.importorskip("wtpsplit")
        import torch
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast
        from wtpsplit.configs import SubwordXLMConfig
        from wtpsplit.models import SubwordXLMForTokenClassification
    folder = tmp_path_factory.mktemp("models") / "tiny-sm"
    letters = [("<unk>", 0.0), *((letter, -3.0) for letter in "▁abcdefghijklmnopqrstuvwxyz.,!?абвгд")]
    tokenizer = Tokenizer(models.Unigram(letters, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    names = {"unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = SubwordXLMConfig(vocab_size=len(fast), max_position_embeddings=520, num_labels=1, **sizes)
    model = SubwordXLMForTokenClassification(config)
    model.classifier.bias.data.fill_(-1.1)  # so that it cuts here and there
    model.save_pretrained(folder)
    return folder


def test_a_sat_model_splits_and_loses_nothing(sat_folder: Path) -> None:
    splitter = make_splitter(f"wtpsplit:{sat_folder}", [])
    assert isinstance(splitter, WtpSplitter)
    text = "abc abc. abc def? Hello … где \n\n new \ud800 x \0 ab\u200b " + "x" * 300
    sentences = splitter.split(text, "english", 100)
    assert without_space("".join(sentences)) == without_space(text)
    assert max(map(len, sentences)) <= 100 and sentences == splitter.split(text, "russian", 100)
    assert splitter.split(" \n\n ", "english", 100) == []
    assert splitter.describe().startswith("wtpsplit tiny-sm (")
    restored = splitter_from_json(json.loads(json.dumps(splitter.to_json())))
    assert restored.split(text, "english", 100) == sentences and restored.describe() == splitter.describe()
    with pytest.raises(ValueError, match="use the same files, or encode the texts again"):
        splitter_from_json(splitter.to_json() | {"fingerprint": "0"})
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        make_splitter(f"wtpsplit:{sat_folder.parent}", [])


@settings(max_examples=30, deadline=None)
@given(text=st.text())
def test_a_sat_model_loses_nothing_of_any_text(sat_folder: Path, text: str) -> None:
    sentences = WtpSplitter(str(sat_folder)).split(text, "english", 50)
    assert without_space("".join(sentences)) == without_space(text)
