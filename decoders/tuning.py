"""How much of a language model learns: nothing, LoRA matrices, LoRA over 4-bit weights, or all of it."""

from decoders.llm import add_lora, load_llm, resolve_llm
from decoders.prompted import PromptedLLM

TUNINGS = ("adapter", "lora", "qlora", "full")
DEFAULT_RANK = 16


def tuned_llm(name: str, tuning: str = "lora", lora_rank: int | None = None) -> PromptedLLM:
    """Return a language model that reads soft tokens, and learns as it is told.

    Weights that learn are float32, and products are computed in the dtype that the model was saved in, by autocast:
    AdamW on bfloat16 weights loses steps that are smaller than half a unit in the last place of a weight.

    Args:
        name: "smollm2", a Hugging Face name, a local folder or a .gguf file.
        tuning: "adapter" (the model is frozen), "lora", "qlora" (LoRA over 4-bit weights, by bitsandbytes), "full".
        lora_rank: rank of the LoRA matrices, 16 if not given; 0 makes none.

    Raises:
        ValueError: there is no such tuning, or it has no use for a rank.
        ImportError: "qlora" without bitsandbytes.
    """
    if tuning not in TUNINGS:
        raise ValueError(f"tuning must be one of {', '.join(TUNINGS)}, found {tuning!r}")
    with_lora = tuning in ("lora", "qlora")
    if lora_rank is not None and not with_lora:
        raise ValueError(f'lora_rank = {lora_rank} does nothing with tuning "{tuning}"; leave it out (null)')
    rank = DEFAULT_RANK if lora_rank is None else lora_rank
    if rank < 0 or (tuning == "qlora" and not rank):
        raise ValueError(f'need lora_rank >= 0, with tuning "qlora" >= 1; found {rank}')
    model, tokenizer = load_llm(resolve_llm(name), four_bit=tuning == "qlora")
    if tuning == "full":
        dtype = model.dtype
        return PromptedLLM(model.float().requires_grad_(True), tokenizer, dtype=dtype, learns=True)
    return PromptedLLM(add_lora(model, rank) if with_lora and rank else model, tokenizer)
