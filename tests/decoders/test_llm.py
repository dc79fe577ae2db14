from pathlib import Path

import pytest
import torch

from data.named.packages import FetchError
from decoders.llm import load_llm, resolve_llm
from decoders.prefix import PrefixDecoder


def test_a_folder_is_taken_as_it_is(llm: str) -> None:
    assert resolve_llm(llm) == Path(llm)
    model, tokenizer = load_llm(llm)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.eos_token == "</s>"


def test_what_is_no_model_is_one_clear_sentence(tmp_path: Path, llm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        resolve_llm(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no GGUF file"):
        resolve_llm(str(tmp_path / "none.gguf"))
    with pytest.raises(FileNotFoundError, match="neither a folder nor"):
        resolve_llm("no/such/model/name")
    with pytest.raises(FileNotFoundError, match="no language model in"):
        load_llm(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="cannot be read"):
        load_llm(tmp_path)


def test_a_file_that_is_no_gguf_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCM_HOME", str(tmp_path / "home"))
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ValueError, match="cannot be read as a GGUF"):
        resolve_llm(str(tmp_path / "text.gguf"))
    assert not list((tmp_path / "home" / "models").iterdir())  # nothing half-made stays


@pytest.mark.slow
def test_the_default_model_writes(tmp_path: Path) -> None:
    try:
        resolve_llm()
    except FetchError as error:
        if "network" not in str(error):
            raise
        pytest.skip(str(error))
    decoder = PrefixDecoder(4, num_tokens=2, word_tokens=0).eval()
    texts = decoder.decode(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), max_new_tokens=5)
    assert len(texts) == 2 and resolve_llm().is_dir()
