"""Small real things that many tests share."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SENTENCES = [
    "The old king had three sons.",
    "One day a fox came to the gate.",
    "She took the golden apple and ran into the wood!",
    "Nobody knew where the miller lived.",
    "The horse spoke, and the girl wept.",
    "So they were married and lived happily.",
]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return list(SENTENCES)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random one-layer Llama and a tokenizer trained on the sentences."""
    return save_llama(tmp_path_factory.mktemp("llm"), 32, 48)


@pytest.fixture(scope="session")
def wide_llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, as wide as the blocks of 4-bit weights."""
    return save_llama(tmp_path_factory.mktemp("wide_llm"), 64, 128)


def save_llama(folder: Path, width: int, hidden: int) -> str:
    """Write a random one-layer Llama and its tokenizer to a folder, and return its name."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {sentence}" for sentence in SENTENCES], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        tie_word_embeddings=True,
        initializer_range=0.4,  # else the frozen head cannot make any token probable
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)
