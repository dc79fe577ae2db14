"""The decoder of a checkpoint as safetensors with a JSON card.

python export.py CHECKPOINT FOLDER sentences=8576 corpora=grimm,austen
"""

import sys
from pathlib import Path

from decoders.export import export_adapter
from decoders.loading import load_decoder


def main() -> None:
    """Write it; what is given behind the folder goes on the card."""
    checkpoint, folder, *facts = sys.argv[1:]
    card = {key: value for key, _, value in (fact.partition("=") for fact in facts)}
    written = export_adapter(load_decoder(checkpoint, merge=False), folder, card)
    size = sum(file.stat().st_size for file in Path(written).iterdir())
    sys.stdout.write(f"{written}: {size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
