"""A language model that reads soft tokens among its own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from decoders.attention import short_rows
from decoders.generation import Rules, Written, search
from decoders.packed import pack_linear
from decoders.prompt import Prompt, tokenize

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PromptedLLM(nn.Module):
    """A language model, perhaps with LoRA matrices in it, that reads rows of tokens with soft tokens among them.

    It computes in `dtype`; what learns is float32.

    Args:
        model: the language model, or a `peft` model around it.
        tokenizer: its tokenizer.
        dtype: what products are computed in; none for the dtype of the token embeddings.
        learns: whether the model's own weights learn, not only LoRA matrices.
    """

    def __init__(
        self,
        model: "PreTrainedModel | PeftModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        dtype: torch.dtype | None = None,
        learns: bool = False,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer, self.learns, self.merged = tokenizer, learns, False
        self.width: int = self.base.config.hidden_size
        self.begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.end: int = tokenizer.eos_token_id
        self.dtype: torch.dtype = self.embedding.weight.dtype if dtype is None else dtype

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
        """Fold what was learnt into frozen weights of `dtype`: decoding takes half the time or less, training ends.

        Matrices beside 4-bit weights stay there: folded in, they would be rounded to 4 bits too.
        """
        if hasattr(self.model, "merge_and_unload") and not getattr(self.base, "is_loaded_in_4bit", False):
            self.model = self.model.merge_and_unload()
        if self.learns:
            self.model = self.model.to(self.dtype)
        self.model.requires_grad_(False)
        pack_linear(self.model)
        self.merged = True

    def lora_parameters(self) -> list[nn.Parameter]:
        """Return the LoRA matrices."""
        return [parameter for name, parameter in self.model.named_parameters() if "lora_" in name]

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the language model's own weights, where they learn."""
        return list(self.model.parameters()) if self.learns else []

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, as they read in running text."""
        return tokenize(self.tokenizer, texts)

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which products are computed in `dtype`."""
        return torch.autocast(self.embedding.weight.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def target_logits(self, prompt: Prompt, soft: Tensor) -> Tensor:
        """Return the logits (M, V) of the M target tokens of all rows, row after row; the head sees no other place.

        Args:
            prompt: N rows, padded on the right, so that causal attention needs no mask.
            soft: their soft tokens (N, K, width).
        """
        embedded = self._embed(prompt, soft)
        with short_rows(self.base):
            hidden = self.base.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        head = self.base.get_output_embeddings()
        assert head is not None
        return head(hidden[:, :-1][prompt.target[:, 1:]]).float()

    def generate(
        self, prompt: Prompt, soft: Tensor, *, tokens: Tensor, bias: Tensor, rules: Rules, generator: Generator
    ) -> Written:
        """Write behind each row, greedily or by drawing, one candidate for each temperature of the rules.

        Args:
            prompt: N rows without targets, padded on the left.
            soft: their soft tokens (N, K, width).
            tokens: ids (W,) of tokens whose logits are raised.
            bias: by how much, in each row (N, W).
            rules: what may be written.
            generator: source of randomness, on the CPU.
        """

        def raise_words(logits: Tensor, rows: Tensor) -> Tensor:
            return logits.index_add(1, tokens, bias[rows])

        return search(self.base, self._embed(prompt, soft), prompt.mask, raise_words, rules, generator)

    def beam_search(
        self, prompt: Prompt, soft: Tensor, *, tokens: Tensor, bias: Tensor, num_beams: int, **options: Any
    ) -> list[list[int]]:
        """Return the token ids behind each row by transformers' beam search; `options` are its GenerationConfig's."""
        from transformers import GenerationConfig, LogitsProcessorList

        bias = bias.repeat_interleave(num_beams, 0)

        def raise_words(ids: Tensor, scores: Tensor) -> Tensor:
            scores = scores.float().index_add(1, tokens, bias)
            if not ids.shape[1]:
                scores[:, self.end] = -torch.inf  # no sentence is empty
            return scores

        config = GenerationConfig(eos_token_id=self.end, pad_token_id=self.end, num_beams=num_beams, **options)
        return self.model.generate(
            inputs_embeds=self._embed(prompt, soft),
            attention_mask=prompt.mask.long(),
            generation_config=config,
            logits_processor=LogitsProcessorList([raise_words]),
        ).tolist()

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return rows of token ids as texts of a single line each."""
        texts = self.tokenizer.batch_decode([list(row) for row in ids], skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _embed(self, prompt: Prompt, soft: Tensor) -> Tensor:
        """Return the rows as embeddings (N, L, width), with soft tokens in their places."""
        embedded = self.embedding(prompt.ids)
        return embedded.masked_scatter(prompt.soft[..., None], soft.to(embedded.dtype))
