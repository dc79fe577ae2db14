"""Opening checkpoints that "lcm fit" wrote."""

from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from data.store import check_encoder
from decoders.prefix import PrefixDecoder

if TYPE_CHECKING:
    from lightning import LightningModule

Task = TypeVar("Task", bound="LightningModule")


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


def load_task(path: str | Path, task: type[Task], what: str, *others: type[Task]) -> Task:
    """Rebuild a task from its checkpoint, on the CPU, ready to use; nothing of a stranger's file is run.

    Args:
        path: the checkpoint.
        task: class that it has to hold.
        what: what the user knows it as, for messages.
        others: its subclasses that will do as well.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of ours, is damaged, or holds another kind of task.
    """
    content = read_checkpoint(path, what)
    found = str(content["hyper_parameters"]["_class_path"]).rpartition(".")[2]
    if found not in [known.__name__ for known in (task, *others)]:
        raise ValueError(f"{path} holds a {found}, expected a {task.__name__}; give the checkpoint of a {what}")
    # As under the command line, the task is told its parameters. Otherwise save_hyperparameters() keeps and copies the
    # modules that it is given: a language model twice in memory, and half of the time.
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

    parameters = dict(content["hyper_parameters"])
    with _given_hyperparameters_context(parameters, parameters.pop("_instantiator", "")):
        return task.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()


def load_decoder(path: str | Path, encoder_fingerprint: str | None = None) -> PrefixDecoder:
    """Return a trained decoder, on the CPU, its LoRA matrices merged: ready to decode, not to train on.

    Args:
        path: checkpoint that "lcm fit -c configs/decoder.yaml" wrote, or folder that `export_adapter` wrote.
        encoder_fingerprint: fingerprint of the encoder whose concepts are to be decoded; None does not check.

    Raises:
        FileNotFoundError: there is no such file, or the language model that it names is not here.
        ValueError: the file is no decoder's checkpoint, is damaged, or its decoder reads another encoder's concepts.
    """
    from decoders.correction import CorrectionTask
    from decoders.export import load_adapter
    from decoders.task import DecoderTask

    path = Path(path)
    decoder = load_adapter(path) if path.is_dir() else load_task(path, DecoderTask, "decoder", CorrectionTask).decoder
    if encoder_fingerprint is not None:
        check_encoder(decoder.encoder or "unknown", encoder_fingerprint, f"the decoder {path}")
    decoder.llm.merge_lora()
    return decoder
