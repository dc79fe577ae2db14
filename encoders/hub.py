from collections.abc import Sequence
from pathlib import Path
from typing import Literal


def fetch_snapshot(repository: str, *, kind: Literal["model", "dataset"], ignore: Sequence[str] = ()) -> Path:
    """Returns the folder that holds a repository of the Hugging Face hub; it is fetched if it is not in the cache.

    Without a network an earlier copy is taken, or the error comes within seconds: the hub's libraries, asked for a
    single file, try again for half a minute.

    Args:
        repository: "owner/name".
        kind: of the repository.
        ignore: patterns of files that are not wanted.

    Raises:
        FileNotFoundError: no such repository, or no network and no copy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, repo_type=kind, ignore_patterns=list(ignore), etag_timeout=5))
    except LocalEntryNotFoundError:
        reason = "the hub cannot be reached and there is no copy of it in the cache here; connect"
    except (HfHubHTTPError, HFValidationError):
        reason = f"it is neither a folder here nor a {kind} on the hub that you may read; check the spelling"
    raise FileNotFoundError(f'{kind} "{repository}": {reason}, or give a local path')
