import os
from pathlib import Path


def home() -> Path:
    """Returns the folder of corpora, stores and models: `$LCM_HOME`, or `artifacts` in the working folder."""
    return Path(os.environ.get("LCM_HOME") or "artifacts")
