"""What a decoder learnt, as safetensors with a JSON card."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.durable import hash_file, read_json, whole_folder, write_json
from decoders.checkpoint import build_decoder, read_checkpoint, recipe_and_weights
from decoders.prefix import PrefixDecoder

WEIGHTS, CARD = "adapter.safetensors", "card.json"


def export_adapter(decoder: PrefixDecoder, folder: str | Path, card: dict[str, Any]) -> Path:
    """Write what a decoder learnt as `adapter.safetensors` and `card.json`, and return the folder.

    Matrices are written in bfloat16 where the language model computes in it: products round them to it anyway, so a
    decoder writes with them as it did. Vectors and scalars, such as centre and scale of the concepts, are added and
    multiplied in float32 and stay so. A new folder appears whole; an old export is replaced by it.

    Args:
        decoder: decoder with its LoRA matrices, as training left it, not merged.
        folder: where to.
        card: facts of the training to tell on the card: corpus, sentences seen, hours, measures ...

    Raises:
        ValueError: the decoder's LoRA matrices are merged, or the folder holds something else.
    """
    folder = Path(folder)
    if decoder.llm.merged:
        raise ValueError("this decoder is merged for decoding, its LoRA matrices are gone; export it as it was trained")
    if folder.exists() and (not folder.is_dir() or {file.name for file in folder.iterdir()} - {WEIGHTS, CARD}):
        raise ValueError(f"{folder} is no exported decoder and would be written over; give another folder")
    with whole_folder(folder) as staged:
        _write(decoder, staged, card)
    return folder


def load_adapter(folder: str | Path) -> PrefixDecoder:
    """Return the decoder of a folder that `export_adapter` wrote, on the CPU: to decode, or to train on.

    Raises:
        FileNotFoundError: there is no such folder, or the language model that it names is not here.
        ValueError: the folder holds something else, or is damaged.
    """
    card, weights = _read(Path(folder))
    name = str(card["class"])
    if not name.startswith("decoders."):  # a folder may be a stranger's
        raise ValueError(f"{folder} names the class {name}, which is no decoder of this project")
    return build_decoder(name, card["arguments"], weights, folder)


def read_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the arguments and the learnt weights of a decoder, from a checkpoint or an exported folder.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it holds no decoder, or is damaged.
    """
    path = Path(path)
    if path.is_dir():
        card, weights = _read(path)
        return card["arguments"], weights
    recipe, weights = recipe_and_weights(read_checkpoint(path, "decoder"), path)
    return recipe["init_args"], weights


def _write(decoder: PrefixDecoder, folder: Path, card: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    weights = {key: value for key, value in decoder.state_dict().items() if not decoder.is_base(key)}
    learnt = {
        key: value.detach().to("cpu", _held(value, decoder.llm.dtype), copy=True).contiguous()
        for key, value in weights.items()
    }
    save_file(learnt, folder / WEIGHTS)
    told = {
        "class": f"{type(decoder).__module__}.{type(decoder).__qualname__}",
        "arguments": decoder.arguments,
        "encoder": decoder.encoder,
        "encoder_name": decoder.encoder_name,
        "llm": decoder.arguments.get("llm"),
        "num_weights": sum(value.numel() for value in learnt.values()),
        "sha256": hash_file(folder / WEIGHTS),
    }
    write_json(folder / CARD, told | {"training": card})


def _held(weight: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that a weight is written in, where products are computed in `dtype`."""
    return dtype if weight.dtype == torch.float32 and weight.ndim > 1 else weight.dtype


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return card and weights of an exported folder."""
    from safetensors.torch import load_file

    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"there is no exported decoder in {folder} ({CARD} and {WEIGHTS})")
    card = read_json(folder / CARD)
    if not {"class", "arguments", "sha256"} <= card.keys():
        raise ValueError(f"{folder / CARD} is no card of a decoder")
    if hash_file(folder / WEIGHTS) != card["sha256"]:
        raise ValueError(f"{folder / WEIGHTS} is damaged: its sha256 is not the card's; export it again")
    return card, load_file(folder / WEIGHTS)
