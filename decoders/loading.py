"""Opening checkpoints that "lcm fit" wrote."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from data.store import check_encoder
from decoders.export import build_decoder, load_adapter, of_checkpoint
from decoders.prefix import PrefixDecoder


def read_checkpoint(path: str | Path, what: str) -> dict[str, Any]:
    """Return the content of a checkpoint that "lcm fit" wrote, on the CPU; nothing of a stranger's file is run.

    Args:
        path: the checkpoint.
        what: what the user knows it as, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of ours, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no {what} at {path}; train one with "lcm fit"')
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        str(content["hyper_parameters"]["_class_path"])
    except (UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f'{path} is no checkpoint of "lcm fit", or it is damaged ({type(error).__name__})') from error
    return content


def check_kind(content: dict[str, Any], path: str | Path, expected: str, what: str, *others: str) -> None:
    """Refuse a checkpoint's content that is of another class of task than these."""
    found = str(content["hyper_parameters"]["_class_path"]).rpartition(".")[2]
    if found not in (expected, *others):
        raise ValueError(f"{path} holds a {found}, expected a {expected}; give the checkpoint of a {what}")


def load_decoder(path: str | Path, encoder_fingerprint: str | None = None, *, merge: bool = True) -> PrefixDecoder:
    """Return a trained decoder, on the CPU, its LoRA matrices merged: ready to decode, not to train on.

    It is built without its task, since Lightning takes longer to import than a decoder to load.

    Args:
        path: checkpoint that "lcm fit -c configs/decoder.yaml" wrote, or folder that `export_adapter` wrote.
        encoder_fingerprint: fingerprint of the encoder whose concepts are to be decoded; None does not check.
        merge: whether to merge them; if not, it decodes more slowly, and may be trained on or exported.

    Raises:
        FileNotFoundError: there is no such file, or the language model that it names is not here.
        ValueError: the file is no decoder's checkpoint, is damaged, or its decoder reads another encoder's concepts.
    """
    path = Path(path)
    if path.is_dir():
        decoder = load_adapter(path)
    else:
        content = read_checkpoint(path, "decoder")
        check_kind(content, path, "DecoderTask", "decoder", "CorrectionTask")
        recipe, weights = of_checkpoint(content, path)
        decoder = build_decoder(recipe["class_path"], recipe["init_args"], weights, path)
    if encoder_fingerprint is not None:
        check_encoder(decoder.encoder or "unknown", encoder_fingerprint, f"the decoder {path}")
    if merge:
        decoder.llm.merge_lora()
    return decoder
