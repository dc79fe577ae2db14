"""Opening a decoder that "lcm fit" trained."""

from pathlib import Path
from pickle import UnpicklingError

import torch

from decoders.prefix import PrefixDecoder


def load_decoder(path: str | Path, encoder_fingerprint: str | None = None) -> PrefixDecoder:
    """Return the decoder of a checkpoint, on the CPU, ready to decode.

    Args:
        path: checkpoint that "lcm fit -c configs/decoder.yaml" wrote.
        encoder_fingerprint: fingerprint of the encoder whose concepts are to be decoded; None does not check.

    Raises:
        FileNotFoundError: there is no such file, or the language model that it names is not here.
        ValueError: the file is no decoder's checkpoint, is damaged, or its decoder reads another encoder's concepts.
    """
    from decoders.task import DecoderTask

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no decoder at {path}; train one with "lcm fit -c configs/decoder.yaml"')
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = str(content["hyper_parameters"]["_class_path"]).rpartition(".")[2]
    except (UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f'{path} is no checkpoint of "lcm fit", or it is damaged ({type(error).__name__})') from error
    if found != DecoderTask.__name__:
        raise ValueError(f"{path} holds a {found}, expected a {DecoderTask.__name__}; give the decoder's checkpoint")
    decoder = DecoderTask.load_from_checkpoint(path, map_location="cpu", weights_only=True).decoder.eval()
    if encoder_fingerprint is not None and decoder.encoder != encoder_fingerprint:
        raise ValueError(
            f"the decoder {path} reads concepts of encoder {decoder.encoder[:12] or 'unknown'}, these are of encoder "
            f'{encoder_fingerprint[:12]}; train a decoder on a store of that encoder with "lcm fit"'
        )
    return decoder
