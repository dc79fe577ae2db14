"""What is in a checkpoint of "lcm fit", and a decoder made of it; Lightning is not needed for either."""

import inspect
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from decoders.prefix import PrefixDecoder

_PREFIX = "decoder."  # of the decoder's weights in its task


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


def recipe_and_weights(content: dict[str, Any], path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return `class_path` and `init_args` of the decoder in a checkpoint's content, and its learnt weights."""
    recipe = content["hyper_parameters"].get("decoder")
    if not isinstance(recipe, dict) or not {"class_path", "init_args"} <= recipe.keys():
        raise ValueError(f"{path} holds no decoder; give a checkpoint of one")
    state = content["state_dict"]
    return recipe, {key.removeprefix(_PREFIX): state[key] for key in state if key.startswith(_PREFIX)}


def build_decoder(
    class_path: str, arguments: dict[str, Any], weights: dict[str, Tensor], path: str | Path
) -> PrefixDecoder:
    """Return a decoder with learnt weights, all but the language model's own, on the CPU.

    Args:
        class_path: name that its class is imported by.
        arguments: plain values that build it.
        weights: what it learnt, by its names.
        path: where these come from, for messages.

    Raises:
        FileNotFoundError: the language model that the arguments name is not here.
        ValueError: there is no such class of decoder, or arguments or weights are not its own.
    """
    module, _, name = class_path.rpartition(".")
    try:
        made = getattr(import_module(module), name, None)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{path} names the class {class_path}, which is not here ({error})") from error
    if not (isinstance(made, type) and issubclass(made, PrefixDecoder)):
        raise ValueError(f"{path} names the class {class_path}, which is no decoder")
    try:
        inspect.signature(made).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{path} was written by other code: {name} takes other arguments ({error})") from error
    decoder = made(**arguments)
    own = {key: value for key, value in decoder.state_dict().items() if not decoder.is_base(key)}
    known = {"predicted_level": own["predicted_level"]} | weights  # older checkpoints have none
    if other := own.keys() ^ known.keys():
        raise ValueError(f"{path} does not hold the weights that its decoder has ({min(other)}); make it again")
    for key, value in own.items():
        if value.shape != known[key].shape:
            found, expected = tuple(known[key].shape), tuple(value.shape)
            raise ValueError(f"{path} holds {key} of shape {found}, its decoder has {expected}; make it again")
        value.copy_(known[key])
    return decoder.eval()
