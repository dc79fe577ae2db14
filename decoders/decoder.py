"""What turns concepts back into text."""

from collections.abc import Sequence
from typing import Protocol

from torch import Generator, Tensor


class ConceptDecoder(Protocol):
    """Turns concepts into sentences.

    Attributes:
        dim: width D of a concept.
        encoder: fingerprint of the encoder whose concepts it reads.
        encoder_name: name that `encoders.encoder.load_encoder` takes to make that encoder again.
    """

    dim: int
    encoder: str
    encoder_name: str

    def decode(
        self, concepts: Tensor, context: Sequence[str] | None = None, *, generator: Generator | None = None
    ) -> list[str]:
        """Return one sentence, a single line, for each raw concept (N, D).

        Args:
            concepts: raw concepts (N, D).
            context: the text before each sentence, "" where there is none; None for no text before any of them.
            generator: source of randomness, where the decoder draws; the same seed gives the same text.
        """
        ...
