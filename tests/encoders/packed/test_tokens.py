import copy
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nanotoken
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from data.readers import read_documents
from encoders.packed.odd_strings import odd_strings
from encoders.packed.tokens import Tokenizer, Tokens
from encoders.sentence_transformer import find_model

logging.disable_progress_bar()


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(find_model("minilm")), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def fast(model: SentenceTransformer) -> Tokenizer:
    tokenizer = Tokenizer(model.tokenizer, model.max_seq_length)
    assert tokenizer.library == "nanotoken"
    return tokenizer


@pytest.fixture(scope="module")
def plain(model: SentenceTransformer) -> Tokenizer:
    return without_nanotoken(model.tokenizer, model.max_seq_length)


def without_nanotoken(tokenizer: PreTrainedTokenizerBase, max_length: int | None, **options: Any) -> Tokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nanotoken", None)  # as if it were not installed
        made = Tokenizer(tokenizer, max_length, **options)
    assert made.library == "tokenizers"
    return made


def split(tokens: Tokens) -> list[list[int]]:
    assert (tokens.ids.dtype, tokens.lengths.dtype) == (np.int32, np.int64)
    assert tokens.lengths.sum() == len(tokens.ids)
    ends = np.cumsum(tokens.lengths)
    return [
        tokens.ids[end - length : end].tolist()
        for length, end in zip(tokens.lengths.tolist(), ends.tolist(), strict=True)
    ]


def reference(module: Any, sentences: Sequence[str], prompt: str | None = None) -> list[list[int]]:
    """The tokens that sentence-transformers gives its model, without the padding."""
    features = module.preprocess(list(sentences), prompt=prompt)
    masks = features["attention_mask"].bool()
    return [ids[mask].tolist() for ids, mask in zip(features["input_ids"], masks, strict=True)]


def word_pieces(*, lower: bool = False) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that tells capitals from small letters."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "The", "the", "King", "king", "##s", "a", "query", ":"]
    backend = Backend(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def byte_pairs() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer without special tokens but "<end>"."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.add_special_tokens({"pad_token": "<end>"})
    return tokenizer


@pytest.mark.parametrize("which", ["fast", "plain"])
@pytest.mark.parametrize("corpus", ["grimm", "shakespeare"])
def test_tokens_of_a_corpus_are_those_of_sentence_transformers(
    model: SentenceTransformer, corpus: str, which: str, request: pytest.FixtureRequest
) -> None:
    texts = [block.text for document in read_documents(corpus) for block in document.blocks][:600]
    tokens = request.getfixturevalue(which)(texts)
    assert split(tokens) == reference(model[0], texts)
    assert tokens.num_cut == sum(len(ids) > 256 for ids in model.tokenizer(texts, verbose=False)["input_ids"]) > 3


@pytest.mark.parametrize("which", ["fast", "plain"])
def test_tokens_of_odd_strings_are_those_of_sentence_transformers(
    model: SentenceTransformer, which: str, request: pytest.FixtureRequest
) -> None:
    strings = odd_strings()
    assert len(set(strings)) > 1990
    tokenizer = request.getfixturevalue(which)
    assert split(tokenizer(strings)) == reference(model[0], strings)


def test_a_prompt_goes_before_each_sentence(model: SentenceTransformer) -> None:
    for make in (Tokenizer, without_nanotoken):
        tokenizer = make(model.tokenizer, 12, prompt="query: ")
        texts = ["", "a king", "The king of the golden mountain went out into the forest."]
        model.max_seq_length = 12
        try:
            assert split(tokenizer(texts)) == reference(model[0], texts, "query: ")
        finally:
            model.max_seq_length = 256
        assert tokenizer(texts).num_cut == 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8))
def test_nanotoken_agrees_on_any_text(fast: Tokenizer, plain: Tokenizer, texts: list[str]) -> None:
    assert split(fast(texts)) == split(plain(texts))


@pytest.mark.slow
def test_nanotoken_agrees_on_every_character_and_many_odd_strings(fast: Tokenizer, plain: Tokenizer) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    pieces = ["".join(characters[start : start + 50]) for start in range(0, len(characters), 50)]
    between = ["".join(f"a{character} {character}b " for character in piece) for piece in pieces]
    for texts in (pieces, between, odd_strings(20_000)):
        ours, theirs = split(fast(texts)), split(plain(texts))
        assert [text for text, *pair in zip(texts, ours, theirs, strict=True) if pair[0] != pair[1]] == []


def test_the_model_keeps_its_tokenizer_as_it_was(model: SentenceTransformer) -> None:
    backend = model.tokenizer.backend_tokenizer
    before = (backend.padding, backend.truncation, backend.to_str())
    for make in (Tokenizer, without_nanotoken):
        make(model.tokenizer, 7)(["one", "The king of the golden mountain went out."])
    assert (backend.padding, backend.truncation, backend.to_str()) == before


@pytest.mark.parametrize("which", ["fast", "plain"])
def test_sentences_are_many_or_none(which: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(which)
    nothing = tokenizer([])
    assert (nothing.ids.shape, nothing.lengths.shape, nothing.num_cut) == ((0,), (0,), 0)
    assert split(nothing) == []
    texts = [f"{number} kings" for number in range(9000)]
    assert split(tokenizer(texts)) == [ids for text in texts for ids in split(tokenizer([text]))]


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_exactly_as_long_as_the_limit_is_not_cut(model: SentenceTransformer, side: str) -> None:
    theirs = copy.deepcopy(model.tokenizer)
    theirs.truncation_side = side
    texts = ["one two", "one two three", "one two three four", "one two three four five" * 90]
    expected = theirs(texts, truncation=True, max_length=5)["input_ids"]
    for make in (Tokenizer, without_nanotoken):
        tokenizer = make(theirs, 5)
        assert tokenizer.library == ("nanotoken" if make is Tokenizer else "tokenizers")
        tokens = tokenizer(texts)
        assert split(tokens) == expected
        assert (tokens.lengths.tolist(), tokens.num_cut) == ([4, 5, 5, 5], 2)
        uncut = make(theirs, None)(texts)
        assert (int(uncut.lengths[3]) > 300, uncut.num_cut) == (True, 0)


def test_threads_share_a_tokenizer(fast: Tokenizer, plain: Tokenizer) -> None:
    strings = odd_strings(800)
    expected = split(plain(strings))
    for tokenizer in (fast, plain):
        with ThreadPoolExecutor(8) as pool:
            parts = pool.map(tokenizer, [strings[start : start + 50] for start in range(0, 800, 50)])
            assert [ids for part in parts for ids in split(part)] == expected


def test_capitals_are_lowered_where_sentence_transformers_lowers_them(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=12,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        tie_word_embeddings=False,
    )
    BertModel(config).save_pretrained(tmp_path)
    word_pieces().save_pretrained(tmp_path)
    texts = ["The Kings", "the king", "THE"]
    made = {}
    for lower in (False, True):
        module = Transformer(str(tmp_path), do_lower_case=lower, max_seq_length=16)
        made[lower] = split(Tokenizer(module.tokenizer, module.max_seq_length)(texts))
        assert made[lower] == reference(module, texts)
    assert made[False][:2] == [[2, 4, 6, 8, 3], [2, 5, 7, 3]] and made[True][:2] == [[2, 5, 7, 8, 3], [2, 5, 7, 3]]


def test_other_tokenizers_than_word_piece_are_hugging_faces() -> None:
    theirs = byte_pairs()
    texts = ["", "naïve <end> 中", "a" * 40]
    for literal in (False, True):  # "<end>" is one token, or the text of it
        theirs.split_special_tokens = literal
        tokenizer = Tokenizer(theirs, 17)
        assert tokenizer.library == "tokenizers"
        tokens = tokenizer(texts)
        assert split(tokens) == theirs(texts, truncation=True, max_length=17)["input_ids"]
        assert (tokens.lengths.tolist(), tokens.num_cut) == ([0, 16 if literal else 12, 17], 1)


def test_special_tokens_that_are_text_are_left_to_hugging_face() -> None:
    theirs = word_pieces()
    assert Tokenizer(theirs, 16).library == "nanotoken"
    theirs.split_special_tokens = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is wrong with nanotoken here
        assert Tokenizer(theirs, 16).library == "tokenizers"
    assert split(Tokenizer(theirs, 16)(["the [SEP]"])) == theirs(["the [SEP]"])["input_ids"]


def test_a_tokenizer_in_python_is_called() -> None:
    theirs = ByT5Tokenizer()
    texts = ["", "naïve", "a king", "a kings", "a" * 100]
    tokenizer = Tokenizer(theirs, 7, prompt="")
    assert tokenizer.library == "transformers"
    tokens = tokenizer(texts)
    assert split(tokens) == theirs(texts, truncation=True, max_length=7)["input_ids"]
    assert tokens.num_cut == 2 and split(tokenizer([])) == []
    assert Tokenizer(theirs, None)(texts).lengths.tolist() == [1, 7, 7, 8, 101]


def test_a_nanotoken_that_disagrees_is_told_and_not_used(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_batch = nanotoken.Tokenizer.encode_batch

    def wrong(self: Any, texts: list[str], **options: Any) -> Any:  # one character of the list, of one script
        return encode_batch(self, [text.replace("ŉ", "n") for text in texts], **options)

    monkeypatch.setattr(nanotoken.Tokenizer, "encode_batch", wrong)
    with pytest.warns(
        UserWarning, match="nanotoken gives other tokens than tokenizers for '.*ŉ.*'; tokenizers is used"
    ):
        tokenizer = Tokenizer(model.tokenizer, 256)
    assert tokenizer.library == "tokenizers"


def test_what_nanotoken_does_not_know_is_left_to_hugging_face() -> None:
    theirs = word_pieces()
    theirs.backend_tokenizer.normalizer = normalizers.Replace("x", "y")
    with pytest.raises(nanotoken.UnsupportedTokenizerError):
        nanotoken.Tokenizer(theirs)
    assert Tokenizer(theirs, 16).library == "tokenizers"


def test_a_limit_without_room_for_a_sentence_is_refused(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="max_length is 2, and 2 of these are special tokens; allow more"):
        Tokenizer(model.tokenizer, 2)
    assert Tokenizer(model.tokenizer, 3)(["a king"]).lengths.tolist() == [3]
