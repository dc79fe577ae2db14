from collections.abc import Sequence
from typing import Protocol
from urllib.parse import parse_qsl

import numpy as np


class SentenceEncoder(Protocol):
    """Turns sentences into concepts, one vector of width `dim` each.

    An encoder may also say in `window: int` how many sentences are best given at a time.
    """

    @property
    def dim(self) -> int:
        """Width D of a concept."""
        ...

    @property
    def name(self) -> str:
        """What `load_encoder` takes to make this encoder again."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the concept space: equal on every machine for equal weights, tokenizer, pooling and normalisation.

        The path and the compute dtype do not count. Stores, decoders and checkpoints carry it.
        """
        ...

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Returns the concepts of the sentences in their order, float32 (N, D); no sentences give (0, D)."""
        ...


def load_encoder(name: str = "minilm") -> SentenceEncoder:
    """Returns the encoder of that name.

    Args:
        name: "minilm" (all-MiniLM-L6-v2 out of an installed package, D = 384, offline), "hashing" or "hashing:16" (no
            model, for tests and smoke runs; the number is D), or any sentence-transformers name or local folder. Behind
            these, "?" begins what the model is to be given: "intfloat/e5-small-v2?prompt=query: " puts that text before
            each sentence, "MODEL?truncate_dim=256" keeps the first 256 dimensions, "&" stands between the two.

    Raises:
        ValueError: "hashing:" is followed by something that is not a width, or "?" by something else than the above.
        FileNotFoundError: no such model, here or on the hub.
    """
    kind, _, dim = name.partition(":")
    if kind == "hashing":
        from encoders.hashing import HashingEncoder

        if dim and not dim.isdecimal():
            raise ValueError(f'encoder "{name}": {dim!r} is not a width; write for example "hashing:64"')
        return HashingEncoder(int(dim)) if dim else HashingEncoder()
    from encoders.sentence_transformer import SentenceTransformerEncoder

    model, _, text = name.partition("?")
    prompt, truncate_dim = _read_options(name, text) if text else (None, None)
    return SentenceTransformerEncoder(model, prompt=prompt, truncate_dim=truncate_dim)


def _read_options(name: str, text: str) -> tuple[str | None, int | None]:
    """Returns prompt and truncate_dim as they stand behind the "?" of a name."""
    try:
        options = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))
        dim = options.pop("truncate_dim", None)
        prompt = options.pop("prompt", None)
        if options:
            raise ValueError
        return prompt, None if dim is None else int(dim)
    except ValueError:
        raise ValueError(
            f'encoder "{name}": behind "?" may stand prompt=TEXT and truncate_dim=NUMBER, with "&" between them'
        ) from None
