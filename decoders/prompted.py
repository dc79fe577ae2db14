"""A frozen language model that reads soft tokens among its own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from decoders.llm import add_lora, load_llm, resolve_llm
from decoders.prompt import Prompt, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptedLLM(nn.Module):
    """A language model, its weights frozen, with LoRA matrices, that reads rows of tokens with K soft tokens in each.

    It computes in the dtype of its own weights; what learns is float32.

    Args:
        name: "smollm2", a Hugging Face name, a local folder or a .gguf file.
        lora_rank: rank of the LoRA matrices on all linear layers; 0 for none.
    """

    def __init__(self, name: str, lora_rank: int) -> None:
        super().__init__()
        base, self.tokenizer = load_llm(resolve_llm(name))
        self.model: Any = add_lora(base, lora_rank) if lora_rank else base
        self.width: int = base.config.hidden_size
        self.begin = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        self.end: int = self.tokenizer.eos_token_id

    @property
    def base(self) -> "PreTrainedModel":
        """The language model itself, with LoRA layers in it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def embedding(self) -> nn.Embedding:
        """The token embeddings (V, width)."""
        found = self.base.get_input_embeddings()
        assert isinstance(found, nn.Embedding), type(found)
        return found

    def merge_lora(self) -> None:
        """Fold the LoRA matrices into the weights for good: decoding takes less than half the time, training ends."""
        if hasattr(self.model, "merge_and_unload"):
            self.model = self.model.merge_and_unload()

    def lora_parameters(self) -> list[nn.Parameter]:
        """Return the LoRA matrices."""
        return [parameter for name, parameter in self.model.named_parameters() if "lora_" in name]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, as they read in running text."""
        return tokenize(self.tokenizer, texts)

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which products are computed in the dtype of the model's weights."""
        weight = self.embedding.weight
        return torch.autocast(weight.device.type, weight.dtype, enabled=weight.dtype != torch.float32)

    def target_logits(self, prompt: Prompt, soft: Tensor) -> Tensor:
        """Return the logits (M, V) of the M target tokens of all rows, row after row; the head sees no other place.

        Args:
            prompt: N rows, padded on the right, so that causal attention needs no mask.
            soft: their soft tokens (N, K, width).
        """
        embedded = self._embed(prompt, soft)
        hidden = self.base.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        head = self.base.get_output_embeddings()
        assert head is not None
        return head(hidden[:, :-1][prompt.target[:, 1:]]).float()

    def generate(
        self, prompt: Prompt, soft: Tensor, *, tokens: Tensor, bias: Tensor, seed: int, **search: Any
    ) -> list[str]:
        """Return the text behind each row, a single line and never empty.

        Args:
            prompt: N rows without targets, padded on the left.
            soft: their soft tokens (N, K, width).
            tokens: ids (W,) of tokens whose logits are raised.
            bias: by how much, in each row (N, W).
            seed: of the drawing, where tokens are drawn.
            search: options of transformers' GenerationConfig.
        """
        from transformers import GenerationConfig, LogitsProcessorList

        bias = bias.repeat_interleave(search.get("num_beams", 1), 0)

        def raise_words(ids: Tensor, scores: Tensor) -> Tensor:
            scores = scores.float().index_add(1, tokens, bias)
            if not ids.shape[1]:
                scores[:, self.end] = -torch.inf  # no sentence is empty
            return scores

        config = GenerationConfig(eos_token_id=self.end, pad_token_id=self.end, use_cache=True, **search)
        with torch.random.fork_rng([soft.device] if soft.device.type == "cuda" else []):
            torch.manual_seed(seed)  # transformers takes no generator
            ids = self.model.generate(
                inputs_embeds=self._embed(prompt, soft),
                attention_mask=prompt.mask.long(),
                generation_config=config,
                logits_processor=LogitsProcessorList([raise_words]),
            )
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _embed(self, prompt: Prompt, soft: Tensor) -> Tensor:
        """Return the rows as embeddings (N, L, width), with soft tokens in their places."""
        embedded = self.embedding(prompt.ids)
        return embedded.masked_scatter(prompt.soft[..., None], soft.to(embedded.dtype))
