"""The verb "lcm probe": how well an encoder suits this work; heavy imports inside."""

from __future__ import annotations

import sys
from pathlib import Path


def probe(
    encoders: list[str],
    *,
    corpus: str | None = None,
    text: Path | None = None,
    steps: int = 60,
    sentences: int = 96,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Measure how well encoders suit this work: one table, a row each, and one figure.

    What a concept tells of its words and, through a decoder trained for a few steps, of its sentence; how fast that is
    lost under noise and by length; how many dimensions are in use; how far a linear map foretells the next concept.

    Args:
        encoders: names as for "lcm encode --encoder", one or several: lcm probe minilm hashing:384
        corpus: a named corpus (shakespeare, austen, sotu, moby-dick, anarchism, grimm) or a Hugging Face data set;
            grimm if neither this nor --text is given.
        text: a file or folder of your own instead.
        steps: training steps of the decoder, the same for all; 0 leaves it out, which takes seconds.
        sentences: held-out sentences that the decoder writes at each level of noise, a quarter of each range of
            lengths.
        out: folder for the table (.md), the numbers (.json), the figure (.png), the stores, which are used again, and
            the decoders; $LCM_HOME/probe if not given.
        seed: of all randomness.
    """
    if twice := next((name for i, name in enumerate(encoders) if name in encoders[:i]), None):
        raise ValueError(f'encoder "{twice}" is named twice; name each once')
    if corpus is not None and text is not None:
        raise ValueError(f"both --corpus {corpus} and --text {text} are given; give one")
    if steps < 0 or sentences < 8:
        raise ValueError(f"need --steps 0 or more and --sentences 8 or more, found {steps} and {sentences}")
    if text is not None and not text.exists():
        raise FileNotFoundError(f"there is no file or folder {text}")
    from data.home import home
    from lcm.probe_report import probe_all
    from lcm.probing import Budget
    from lcm.quiet import quiet

    quiet()
    budget = Budget(str(text) if text is not None else corpus or "grimm", steps, sentences, seed)
    report = probe_all(encoders, budget, out or home() / "probe")
    sys.stdout.write(report)
