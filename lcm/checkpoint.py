"""Opening a checkpoint that "lcm fit" wrote."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning import LightningModule

from encoders.encoder import SentenceEncoder, load_encoder
from lcm.task import LCMTask


def class_of(path: str | Path) -> str:
    """Return the name of the task that a checkpoint rebuilds; another file is one clear error."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint at {path}; train one with "lcm fit"')
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return str(content["hyper_parameters"]["_class_path"])
    except (UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f'{path} is no checkpoint of "lcm fit", or it is damaged ({type(error).__name__})') from error


def load_task(path: str | Path, task: type[LightningModule] = LCMTask) -> Any:
    """Rebuild a task from its checkpoint, on the CPU, ready to use.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of ours, is damaged, or holds another kind of task.
    """
    found, wanted = class_of(path).rpartition(".")[2], task.__name__
    if found != wanted:
        raise ValueError(f"{path} holds a {found}, expected a {wanted}; give the other checkpoint")
    return task.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()


def open_encoder(name: str, fingerprint: str, whose: str) -> SentenceEncoder:
    """Return the encoder that a checkpoint or store names; another one under that name is an error."""
    encoder = load_encoder(name)
    if encoder.fingerprint != fingerprint:
        raise ValueError(
            f"{whose} was made with another version of encoder {name} ({fingerprint[:12]}, here is "
            f'{encoder.fingerprint[:12]}); run "lcm encode" and "lcm fit" again'
        )
    return encoder
