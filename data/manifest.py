"""The manifest of a store: written last, it says that the store is whole and what is in it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data.catalog import CATALOG, Catalog, write_catalog
from data.durable import hash_file, lock, read_json, told_when_full, write_json
from data.end_of_text import KEY
from data.shards import list_sidecars, read_sidecar, sweep_shards
from data.split import SPLITS

MANIFEST = "manifest.json"
FORMAT = "concept-store"
VERSION = 2


@contextmanager
def opened_for_writing(folder: Path, encoder: str, encoder_name: str) -> Iterator[None]:
    """Makes the folder of a store and holds it for one writer.

    Args:
        folder: of the store.
        encoder: fingerprint.
        encoder_name: for the message.

    Raises:
        ValueError: it is a file, holds something else, or a store of another encoder.
        BlockingIOError: another process is writing there.
        OSError: the disk is full; what was finished stays.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a store is a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder), told_when_full(folder):
        _refuse_other_content(folder, encoder, encoder_name)
        yield


def finish_store(folder: Path, num_shards: int, encoder_name: str, settings: dict[str, Any]) -> None:
    """Writes catalog and manifest of a store whose shards are all committed; leaves it alone if they are there.

    Args:
        folder: of the store.
        num_shards: its shards, numbered from 0.
        encoder_name: what `load_encoder` takes to make the encoder again.
        settings: what else the manifest is to say, such as the splitter and the end of text.
    """
    if _is_finished(folder, num_shards, settings.get(KEY)):
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    sweep_shards(folder, num_shards)
    moved = write_catalog(folder, num_shards)
    shards: list[dict[str, Any]] = []
    levels: Counter[str] = Counter()
    dim, encoder = 0, ""
    for index in range(num_shards):
        sidecar = read_sidecar(folder, index)
        assert sidecar is not None, index
        shards.append({key: sidecar[key] for key in ("rows", "bytes", "sha256")})
        levels.update(sidecar["levels"])
        dim, encoder = sidecar["dim"], sidecar["encoder"]
    catalog = Catalog(folder / CATALOG)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "dim": dim,
        "dtype": "float16",
        "encoder": encoder,
        "encoder_name": encoder_name,
        **settings,
        "num_documents": len(catalog),
        "num_sentences": int(catalog.lengths.sum(dtype=np.int64)),
        "splits": {name: _count(catalog, code) for code, name in enumerate(SPLITS)},
        "moved": moved,
        "levels": dict(sorted(levels.items())),
        "documents_sha256": hash_file(folder / CATALOG),
        "shards": shards,
    }
    write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a store.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no store, half-written, or of another format version.
    """
    if not folder.exists():
        raise FileNotFoundError(f'there is no store at {folder}; make it with "lcm encode CORPUS --out {folder}"')
    path = folder / MANIFEST
    if not path.is_file():
        if folder.is_dir() and list_sidecars(folder):
            raise ValueError(f"the store at {folder} is half-written; run the command that wrote it again to finish it")
        raise ValueError(f"{folder} is not a concept store: it holds no {MANIFEST}")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{folder} is not a concept store: its {MANIFEST} belongs to something else")
    if manifest["version"] != VERSION:
        raise ValueError(
            f"the store at {folder} has format version {manifest['version']}, this code reads {VERSION}; "
            "run the command that wrote it again"
        )
    return manifest


def _is_finished(folder: Path, num_shards: int, end_of_text: dict[str, Any] | None) -> bool:
    """Says whether manifest and catalog of a store are whole, with as many shards and this end of text."""
    if not ((folder / MANIFEST).is_file() and (folder / CATALOG).is_file()):
        return False
    manifest = read_json(folder / MANIFEST)
    if len(manifest["shards"]) != num_shards or manifest.get(KEY) != end_of_text:
        return False
    return manifest.get("documents_sha256") == hash_file(folder / CATALOG)


def _refuse_other_content(folder: Path, encoder: str, encoder_name: str) -> None:
    """Refuses to write a store over other files, or over a store, whole or begun, of another encoder."""
    described = [file for file in (folder / MANIFEST, *list_sidecars(folder)) if file.is_file()]
    if not described and any(not file.name.startswith(".") and file.suffix != ".arrow" for file in folder.iterdir()):
        raise ValueError(f"{folder} holds other files and no store; choose an empty or a new folder")
    for file in described:
        found = read_json(file).get("encoder")
        if found is None:
            raise ValueError(f"{folder} holds a {file.name} that is not of a store; choose an empty or a new folder")
        if found != encoder:
            raise ValueError(
                f"the store at {folder} was encoded by {found}, not by {encoder_name} ({encoder}); choose another "
                "folder or delete this one"
            )


def _count(catalog: Catalog, code: int) -> dict[str, int]:
    lengths = catalog.lengths[catalog.splits == code]
    return {"documents": len(lengths), "sentences": int(lengths.sum(dtype=np.int64))}
