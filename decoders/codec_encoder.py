"""A sentence-transformers encoder whose weights learn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from data.durable import whole_folder
from encoders.encoder import load_encoder
from encoders.sentence_transformer import SentenceTransformerEncoder, torch_dtype
from encoders.text import clean_sentences


class TrainableEncoder(nn.Module):
    """Encodes sentences with gradients, as sentence-transformers does: prompt, pooling and normalisation are its own.

    Dropout stays off: the encoder begins as exactly the one that made the store, and the decoder's noise regularises.

    Args:
        name: as `encoders.encoder.load_encoder` takes it, but with weights.
        dtype: of the matrix products; "auto" is bfloat16 on CUDA and on CPUs that multiply it natively. Weights are
            float32.

    Attributes:
        fingerprint: of the encoder as it was loaded.

    Raises:
        FileNotFoundError: no such model, here or on the hub.
        ValueError: the encoder has no weights that could learn.
    """

    def __init__(self, name: str, dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> None:
        super().__init__()
        encoder = load_encoder(name)
        if not isinstance(encoder, SentenceTransformerEncoder):
            raise ValueError(f'encoder "{name}" has no weights to train; encode with a sentence-transformers model')
        self.fingerprint, self.dtype = encoder.fingerprint, dtype
        self.model = encoder.model.float().cpu()  # prompt and truncate_dim are set in it
        self.model.requires_grad_(True).train()  # Lightning warns of what begins in eval mode; forward() sets it

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """Return raw concepts (N, D), float32, of N sentences."""
        model, device = self.model.eval(), next(self.model.parameters()).device  # no dropout, whatever the mode
        prompt = model.prompts[model.default_prompt_name] if model.default_prompt_name else None
        features = model.preprocess(clean_sentences(sentences), prompt=prompt)
        features = {key: v.to(device) if isinstance(v, Tensor) else v for key, v in features.items()}
        dtype = torch_dtype(self.dtype, device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            concepts = model(features)["sentence_embedding"]
        return concepts[:, : model.truncate_dim].float()

    def save(self, folder: Path) -> None:
        """Write the model as a sentence-transformers folder, with its prompt and width as its own defaults.

        The folder is whole at any moment, or for an instant, while a new one takes the place of an old one, absent.
        """
        from transformers.utils import logging

        had_bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            with whole_folder(folder) as staged:
                self.model.save_pretrained(str(staged), create_model_card=False)
        finally:
            if had_bar:
                logging.enable_progress_bar()


def structure_error(new: Tensor, old: Tensor) -> Tensor:
    """Return the mean squared error of the cosines (N, N) of new concepts against those of old ones, both (N, D).

    Lengths are measured by the old ones', so that a model that does not normalise cannot grow out of the noise; of
    unit vectors it is cosines alone. Which way the space is turned does not matter, so a decodable direction may be
    chosen freely, and what nearest neighbours, clustering and similarity scores see is what is kept.

    Args:
        new: raw concepts of N sentences.
        old: raw concepts of the same sentences, from the encoder to stay near.
    """
    unit = old.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    new, old = new / unit, old / unit
    pairs = max(len(new) * (len(new) - 1), 1)  # of unit vectors the diagonal is no error, so it does not count
    return (new @ new.T - old @ old.T).square().sum() / pairs
