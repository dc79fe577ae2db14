import os
from pathlib import Path


def home() -> Path:
    """Returns the folder of corpora, stores, models and checkpoints: `$LCM_HOME`, or `artifacts` in the working folder."""
    return Path(os.environ.get("LCM_HOME") or "artifacts")
