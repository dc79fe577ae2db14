"""Opening a decoder that "lcm fit" trained or `export_adapter` wrote."""

from pathlib import Path

from data.store import check_encoder
from decoders.checkpoint import build_decoder, check_kind, read_checkpoint, recipe_and_weights
from decoders.export import load_adapter
from decoders.prefix import PrefixDecoder


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
        recipe, weights = recipe_and_weights(content, path)
        decoder = build_decoder(recipe["class_path"], recipe["init_args"], weights, path)
    if encoder_fingerprint is not None:
        check_encoder(decoder.encoder or "unknown", encoder_fingerprint, f"the decoder {path}")
    if merge:
        decoder.llm.merge_lora()
    return decoder
