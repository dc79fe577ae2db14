"""Opening a concept model and the encoder that it was trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from data.store import check_encoder
from decoders.checkpoint import check_kind, read_checkpoint
from encoders.encoder import SentenceEncoder, load_encoder
from lcm.model import ConceptModel

_PREFIX = "model."  # of the model's weights in its task


@dataclass(frozen=True)
class TrainedModel:
    """A concept model and what its checkpoint says of its training.

    Attributes:
        model: ready to predict, on the CPU.
        encoder: fingerprint of the encoder whose concepts it predicts, empty if not known.
        encoder_name: name that makes this encoder again.
        length: longest window of the training, in rows; generation looks back no further.
        levels: levels of headings in the training data; generation gives its headings no other.
    """

    model: ConceptModel
    encoder: str = ""
    encoder_name: str = ""
    length: int = 128
    levels: Sequence[int] = ()


def load_model(path: str | Path, encoder_fingerprint: str | None = None) -> TrainedModel:
    """Return the model of a checkpoint; nothing of a stranger's file is run.

    It is built without its task, since Lightning takes longer to import than a model to load.

    Args:
        path: checkpoint that "lcm fit" wrote.
        encoder_fingerprint: fingerprint of the encoder whose concepts are to be predicted; None does not check.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no concept model's checkpoint, is damaged, or its model knows another encoder.
    """
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser

    content = read_checkpoint(path, "concept model")
    check_kind(content, path, "LCMTask", "concept model")
    settings = content["hyper_parameters"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=ConceptModel, required=True)
    try:
        model = parser.instantiate(parser.parse_object({"model": settings.get("model")})).model
    except ArgumentError as error:
        reason = " ".join(str(error).split()[:40])
        raise ValueError(f"{path} names a model that is not here; with what code was it written? ({reason})") from error
    own = {f"{_PREFIX}{name}": value for name, value in model.state_dict().items()}
    check_weights(content["state_dict"], own, f'{path} was written by other code; run "lcm fit" again')
    model.load_state_dict({name.removeprefix(_PREFIX): value for name, value in content["state_dict"].items()})
    told = {name: settings[name] for name in ("encoder", "encoder_name", "length", "levels") if settings.get(name)}
    trained = TrainedModel(model.eval(), **told)
    if encoder_fingerprint is not None:
        check_encoder(trained.encoder or "unknown", encoder_fingerprint, f"the model {path}")
    return trained


def check_weights(found: Mapping[str, Tensor], own: Mapping[str, Tensor], advice: str) -> None:
    """Refuse the weights of another model, or of older code, whose models measured and learnt other things."""
    other = found.keys() ^ own.keys()
    other |= {name for name in found.keys() & own.keys() if found[name].shape != own[name].shape}
    if other:
        name = min(other)
        sizes = [list(some[name].shape) if name in some else "none" for some in (found, own)]
        raise ValueError(
            f"the checkpoint is of another model: {name} is {sizes[0]} there and {sizes[1]} here; {advice}"
        )


def open_encoder(name: str, fingerprint: str, whose: str) -> SentenceEncoder:
    """Return the encoder that a checkpoint or store names; another one under that name is an error."""
    encoder = load_encoder(name)
    if encoder.fingerprint != fingerprint:
        raise ValueError(
            f"{whose} was made with another version of encoder {name} ({fingerprint[:12]}, here is "
            f'{encoder.fingerprint[:12]}); run "lcm encode" and "lcm fit" again'
        )
    return encoder
