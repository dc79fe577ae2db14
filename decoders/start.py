"""Beginning a training with the weights of an earlier decoder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from decoders.export import read_weights
from decoders.prefix import PrefixDecoder


@torch.no_grad()
def start_from(decoder: PrefixDecoder, path: str | Path) -> str:
    """Give a decoder the weights of another one, those of equal name and shape; return one line that says which.

    What is fitted to concepts (scale, words) comes along if it is whole and of the same encoder, else the decoder fits
    it anew.

    Args:
        decoder: decoder before its first step.
        path: checkpoint of "lcm fit", or folder of `export_adapter`, of the other decoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no decoder, or nothing of it fits.
    """
    arguments, weights = read_weights(path)
    own = {name: value for name, value in decoder.state_dict().items() if not decoder.is_base(name)}
    same_encoder = arguments["encoder"] == decoder.encoder
    fitted = {f"adapter.{name}" for name, _ in decoder.adapter.named_buffers()}
    if not (same_encoder and all(_fits(own, weights, name) for name in fitted)):
        weights = {name: value for name, value in weights.items() if name not in fitted}
    taken = [name for name in own if _fits(own, weights, name)]
    if not taken:
        raise ValueError(f"no weight of {path} has the name and shape of one of this decoder; train it anew")
    for name in taken:
        own[name].copy_(weights[name])
    kept, unused = own.keys() - taken, weights.keys() - taken
    return f"started from {path}: {len(taken)} weights taken{_some(kept, 'keep their first values')}" + _some(
        unused, "of it not used"
    )


def _fits(own: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str) -> bool:
    return name in other and other[name].shape == own[name].shape


def _some(names: set[str], what: str) -> str:
    """Return a count of names and the first of them, "" for none."""
    return f", {len(names)} {what} ({min(names)}{', ...' if len(names) > 1 else ''})" if names else ""
