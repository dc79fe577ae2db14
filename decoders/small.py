"""A small decoder of our own, from scratch: for tests, tiny machines, and languages that no LLM at hand knows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from decoders.prefix import PrefixDecoder
from decoders.prompt import Prompt
from decoders.prompted import PromptedLLM
from decoders.vocabulary import NUM_BASIC, build_tokenizer, learn_merges

_INIT = 0.02  # standard deviation of first weights


class SmallLLM(PromptedLLM):
    """A random Llama with tied embeddings and a vocabulary that it learns; all of it trains, in bfloat16 by autocast.

    Args:
        vocab_size: number V of tokens, at most.
        width: width of a token.
        num_layers: number of blocks.
        num_heads: attention heads of a block.
        block_dim: width of a block's MLP.
    """

    merges: Tensor

    def __init__(self, vocab_size: int, *, width: int, num_layers: int, num_heads: int, block_dim: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        if min(num_layers, num_heads, width, block_dim) < 1 or width % (2 * num_heads):
            raise ValueError(
                "need num_layers >= 1, block_dim >= 1 and a width that is a multiple of twice num_heads; "
                f"found {num_layers}, {block_dim}, {width}, {num_heads}"
            )
        if vocab_size <= NUM_BASIC:
            raise ValueError(f"vocab_size must be above {NUM_BASIC}, the bytes and two more, found {vocab_size}")
        tokenizer = build_tokenizer([])
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=block_dim,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
            initializer_range=_INIT,
        )
        super().__init__(LlamaForCausalLM(config), tokenizer, dtype=torch.bfloat16, learns=True)
        self.register_buffer("merges", torch.full((vocab_size - NUM_BASIC, 2), -1))  # ids; -1 = place not used
        self.model.model.layers[0].register_forward_pre_hook(_enter)
        self._read = torch.empty(0)  # the merges that `tokenizer` was made from

    @property
    def fitted(self) -> bool:
        """Whether there is a vocabulary, learnt here or out of a checkpoint."""
        return bool(self.merges[0, 0] >= 0)

    def learn_vocabulary(self, sentences: Sequence[str]) -> None:
        """Learn the vocabulary from sentences, once: the weights belong to it."""
        merges = torch.tensor(learn_merges(sentences, self.base.config.vocab_size))
        self.merges.fill_(-1)[: len(merges)] = merges.to(self.merges.device)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, as they read in running text."""
        self._read_vocabulary()
        return super().tokenize(texts)

    def _embed(self, prompt: Prompt, soft: Tensor) -> Tensor:
        """Return the rows as embeddings (N, L, width), with soft tokens in their places."""
        self._read_vocabulary()
        return super()._embed(prompt, soft)

    def _read_vocabulary(self) -> None:
        """Make the tokenizer from the merges, which a checkpoint can have changed.

        Raises:
            ValueError: there is no vocabulary yet.
        """
        if not self.fitted:
            raise ValueError(
                'the small decoder has no vocabulary yet; train it with "lcm fit", or call fit(concepts, sentences)'
            )
        merges = self.merges.cpu()
        if not torch.equal(merges, self._read):
            self.tokenizer, self._read = build_tokenizer(merges[merges[:, 0] >= 0].tolist()), merges.clone()


def _enter(block: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what the first block reads, of unit size at first.

    Small embeddings make a tied head start without an opinion, but beside what the blocks add they would be lost.
    """
    return (arguments[0] / _INIT, *arguments[1:])


class SmallDecoder(PrefixDecoder):
    """A decoder with no language model from elsewhere: its own vocabulary and a small Llama, both learnt from scratch.

    It reads and is used as `PrefixDecoder` is, needs no file but its checkpoint, and knows no language but the one it
    was trained on. The words guessed from a concept are its own embeddings, which learn in that place too.

    Args:
        dim: width D of a concept.
        encoder: fingerprint of the encoder whose concepts are decoded.
        encoder_name: name that makes that encoder again.
        vocab_size: number of tokens of its vocabulary, a byte-level BPE learnt from the training sentences.
        width: width of a token in the network.
        num_layers: number of blocks.
        num_heads: attention heads of a block.
        block_dim: width of a block's MLP.
        num_tokens: number K of soft tokens.
        word_tokens: how many of the soft tokens start from a word guessed from the concept.
        num_words: number of tokens to guess from, the corpus's most frequent ones.
        hidden_dim: width of the adapter's MLP.
        before: concepts of so many sentences before are read, a soft token each.
        after: concepts of so many sentences behind are read, a soft token each.
        corrects: whether it learns to correct a hypothesis, that is what was written before for the concept.
        max_context_tokens: tokens of the text before that are read, its last ones.
        max_sentence_tokens: longest sentence in training, in tokens; the rest of a longer one is not learnt.
        context_drop: share of training batches without the text before, so that the concept stays in use.
        concept_drop: share of training sentences without the concept.
        neighbour_drop: share of training sentences without all neighbours.
        noise_share: share of training sentences whose concept is noised; predicted ones are noisy as they are.
        max_noise: highest noise level in training, as a share of the variance.
        init_seed: of the first values of all weights.
    """

    llm: SmallLLM

    def __init__(
        self,
        dim: int,
        encoder: str = "",
        encoder_name: str = "",
        *,
        vocab_size: int = 8192,
        width: int = 384,
        num_layers: int = 8,
        num_heads: int = 6,
        block_dim: int = 1024,
        num_tokens: int = 12,
        word_tokens: int = 8,
        num_words: int = 4096,
        hidden_dim: int = 768,
        before: int = 0,
        after: int = 0,
        corrects: bool = False,
        max_context_tokens: int = 48,
        max_sentence_tokens: int = 80,
        context_drop: float = 0.3,
        concept_drop: float = 0.1,
        neighbour_drop: float = 0.2,
        noise_share: float = 0.5,
        max_noise: float = 0.5,
        init_seed: int = 0,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        network = ("vocab_size", "width", "num_layers", "num_heads", "block_dim")
        self._network: dict[str, int] = {key: arguments[key] for key in network}  # the base class calls make_llm
        shared = {key: value for key, value in arguments.items() if key not in network}
        super().__init__(**shared, tuning="full")
        self.arguments = arguments

    def make_llm(self) -> SmallLLM:
        """Return a network without anything learnt."""
        return SmallLLM(**self._network)

    def fit(self, concepts: Tensor, sentences: Sequence[str]) -> None:
        """Learn the vocabulary, unless there is one, then fit scale and words on raw concepts (N, D)."""
        if not self.llm.fitted:
            self.llm.learn_vocabulary(sentences)
        super().fit(concepts, sentences)
