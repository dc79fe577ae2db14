import importlib.util
from pathlib import Path

import pytest
import torch

from decoders.tuning import tuned_llm


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_missing_bitsandbytes_names_the_extra(llm: str) -> None:
    with pytest.raises(ImportError, match='the extra "quant"'):
        tuned_llm(llm, "qlora")


def test_a_setting_without_use_is_an_error(llm: str) -> None:
    for tuning in ("adapter", "full"):
        with pytest.raises(ValueError, match="lora_rank = 4 does nothing"):
            tuned_llm(llm, tuning, 4)
    with pytest.raises(ValueError, match="one of adapter, lora, qlora, full"):
        tuned_llm(llm, "LoRA")
    with pytest.raises(ValueError, match="lora_rank >= 0"):
        tuned_llm(llm, "lora", -1)


def test_rank_0_is_the_adapter_alone(llm: str) -> None:
    assert not tuned_llm(llm, "lora", 0).lora_parameters()
    assert tuned_llm(llm).lora_parameters()[0].shape[0] == 16


def test_all_weights_learn_in_float32_and_are_merged_to_what_they_were(llm: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(llm, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llm).save_pretrained(tmp_path)
    found = tuned_llm(str(tmp_path), "full")
    assert found.dtype == torch.bfloat16
    assert {p.dtype for p in found.own_parameters()} == {torch.float32}
    assert all(p.requires_grad for p in found.own_parameters())
    found.merge_lora()
    assert {p.dtype for p in found.model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in found.model.parameters())
    assert {p.dtype for p in tuned_llm(str(tmp_path), "lora", 2).lora_parameters()} == {torch.float32}
