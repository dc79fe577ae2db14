"""A vocabulary of pieces of words, learnt from the sentences themselves and told by one table of numbers."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

BEGIN, END = 0, 1  # ids of the tokens that begin and end a text; no text holds them
NUM_BASIC = 2 + 256  # these two, then the bytes, so that nothing is unknown
_NAMES = ("<s>", "</s>")


def learn_merges(sentences: Sequence[str], size: int) -> list[list[int]]:
    """Return what a byte-level BPE learns from sentences: the ids of two tokens that become one, best first.

    Deterministic, whatever the order of the sentences. Begin and end are ids 0 and 1, the bytes follow, and each merge
    that makes a new token gives it the next id, so the table says all of the vocabulary.

    Args:
        sentences: what to learn from; each is read as in running text, behind a space.
        size: number V of tokens, at most; few sentences give fewer.

    Raises:
        ValueError: the sentences have nothing to merge.
    """
    from tokenizers import Tokenizer, models, trainers

    assert size > NUM_BASIC, size
    tokenizer = _byte_level(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(_NAMES),
        initial_alphabet=_alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {' '.join(sentence.split())}" for sentence in sentences], trainer)
    learnt: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    if not learnt:
        raise ValueError(f"found no two letters twice in {len(sentences)} sentences; a vocabulary needs more text")
    ids = _basic_ids()
    merges = []
    for left, right in learnt[: size - NUM_BASIC]:
        merges.append([ids[left], ids[right]])
        ids.setdefault(left + right, len(ids))  # two pairs can make one token
    return merges


def build_tokenizer(merges: Sequence[Sequence[int]]) -> "PreTrainedTokenizerBase":
    """Return the tokenizer that a table of merges tells; no merges give one of bytes."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    ids = _basic_ids()
    tokens, pairs = list(ids), []
    for left, right in merges:
        pairs.append((tokens[left], tokens[right]))
        merged = "".join(pairs[-1])
        if merged not in ids:
            ids[merged] = len(ids)
            tokens.append(merged)
    options: dict[str, Any] = {"bos_token": _NAMES[BEGIN], "eos_token": _NAMES[END]}
    options |= {"split_special_tokens": True}  # a text that holds "</s>" holds four characters, not an end
    options |= {"clean_up_tokenization_spaces": False}  # what was written comes back
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level(Tokenizer(models.BPE(ids, pairs))), **options)


def _byte_level(tokenizer: "Tokenizer") -> "Tokenizer":
    """Return the tokenizer, now reading and writing bytes; no token reaches over a word, with the space before it."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _basic_ids() -> dict[str, int]:
    """Return the ids of begin, end and the 256 bytes."""
    return {token: i for i, token in enumerate([*_NAMES, *_alphabet()])}


def _alphabet() -> list[str]:
    """Return the 256 characters that stand for bytes, always in one order."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())
