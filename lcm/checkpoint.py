"""Opening a concept model and the encoder that it was trained with."""

from pathlib import Path

from data.store import check_encoder
from decoders.loading import load_task
from encoders.encoder import SentenceEncoder, load_encoder
from lcm.task import LCMTask


def load_model(path: str | Path, encoder_fingerprint: str | None = None) -> LCMTask:
    """Return the task of a checkpoint, whose `model` is ready to predict, on the CPU.

    Args:
        path: checkpoint that "lcm fit" wrote.
        encoder_fingerprint: fingerprint of the encoder whose concepts are to be predicted; None does not check.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no concept model's checkpoint, is damaged, or its model knows another encoder.
    """
    task = load_task(path, LCMTask, "concept model")
    if encoder_fingerprint is not None:
        check_encoder(task.encoder or "unknown", encoder_fingerprint, f"the model {path}")
    return task


def open_encoder(name: str, fingerprint: str, whose: str) -> SentenceEncoder:
    """Return the encoder that a checkpoint or store names; another one under that name is an error."""
    encoder = load_encoder(name)
    if encoder.fingerprint != fingerprint:
        raise ValueError(
            f"{whose} was made with another version of encoder {name} ({fingerprint[:12]}, here is "
            f'{encoder.fingerprint[:12]}); run "lcm encode" and "lcm fit" again'
        )
    return encoder
