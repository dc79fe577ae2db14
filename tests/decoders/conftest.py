"""A one-layer random Llama with a tokenizer of its own, a decoder around it, and a store of six small documents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from decoders.prefix import PrefixDecoder
from encoders.hashing import HashingEncoder

D = 16
SENTENCES = [
    "The old king had three sons.",
    "One day a fox came to the gate.",
    "She took the golden apple and ran into the wood!",
    "Nobody knew where the miller lived.",
    "The horse spoke, and the girl wept.",
    "So they were married and lived happily.",
]


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random one-layer Llama and a tokenizer trained on the sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llm")
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
        hidden_size=32,
        intermediate_size=48,
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


@pytest.fixture(scope="session")
def encoder() -> HashingEncoder:
    return HashingEncoder(D)


@pytest.fixture
def concepts(encoder: HashingEncoder) -> torch.Tensor:
    return torch.from_numpy(encoder.encode(SENTENCES))


@pytest.fixture
def make_decoder(llm: str, concepts: torch.Tensor, encoder: HashingEncoder) -> Callable[..., PrefixDecoder]:
    """Makes a fitted decoder whose LoRA matrices and MLP are not zero, which would hide errors."""

    def make(*, trained: bool = True, **options: Any) -> PrefixDecoder:
        sizes = {"num_tokens": 3, "word_tokens": 2, "hidden_dim": 24, "num_words": 40, "lora_rank": 2}
        decoder = PrefixDecoder(D, encoder.fingerprint, encoder.name, llm=llm, **(sizes | options))
        decoder.fit(concepts.repeat(3, 1), SENTENCES * 3)
        if trained:
            torch.manual_seed(1)
            for parameter in [*decoder.adapter_parameters(), *decoder.lora_parameters()]:
                torch.nn.init.normal_(parameter, std=0.3)
        return decoder.eval()

    return make


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, encoder: HashingEncoder) -> ConceptStore:
    """Six documents of a heading and seven sentences."""
    documents = [
        Document(
            f"Tale {i}",
            (
                Block(f"Tale {i}", level=2, role="heading"),
                Block(" ".join(SENTENCES[i:] + SENTENCES[:i]) + f" That was tale number {i}."),
            ),
            source="test",
        )
        for i in range(6)
    ]
    path: Path = tmp_path_factory.mktemp("stores") / "tales"
    return encode_corpus(documents, encoder, path, progress=False)
