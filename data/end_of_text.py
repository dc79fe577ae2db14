"""The concept that ends a text: encoded once for a store, and kept in its manifest."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np

END_OF_TEXT = "End of text."  # arXiv:2412.08821 ends every document with this sentence
KEY = "end_of_text"  # in a manifest


def describe_end(concept: np.ndarray) -> dict[str, Any]:
    """Returns what a manifest says of the concept (D,) of END_OF_TEXT, rounded to float16 as the rows are.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    with np.errstate(over="ignore"):  # infinity is refused below, by name
        content = concept.astype("<f2")
    if not np.isfinite(content).all():
        raise ValueError(f'the encoder gave NaN or infinity for "{END_OF_TEXT}", the sentence that ends a text')
    stored = content.tobytes()
    return {"sentence": END_OF_TEXT, "concept": base64.b64encode(stored).decode(), "crc32": crc32(stored)}


def read_end(manifest: Mapping[str, Any]) -> np.ndarray | None:
    """Returns the concept of END_OF_TEXT, float32 (D,); None where the manifest has none, as those of old stores.

    Raises:
        ValueError: it is damaged.
    """
    said = manifest.get(KEY)
    if said is None:
        return None
    try:
        stored = base64.b64decode(said["concept"], validate=True)
        whole = crc32(stored) == said["crc32"] and len(stored) == 2 * manifest["dim"]
    except (binascii.Error, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError("the concept of the end of text in the manifest is damaged")
    return np.frombuffer(stored, dtype="<f2").astype(np.float32)


def end_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the manifest's entry by its key, {} where there is none or a damaged one; for other manifests to keep."""
    try:
        return {} if read_end(manifest) is None else {KEY: manifest[KEY]}
    except ValueError:
        return {}
