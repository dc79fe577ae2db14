from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.store import ConceptStore
from decoders.task import DecoderTask
from lcm.checkpoint import load_task, open_encoder


def test_files_that_are_no_checkpoint_are_refused_without_running_them(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path(tmp_path / "marker").touch, ())

    for name, content in {
        "pickle.ckpt": lambda p: torch.save({"hyper_parameters": Evil()}, p),
        "weights.ckpt": lambda p: torch.save({"state_dict": {}}, p),
        "list.ckpt": lambda p: torch.save([1, 2], p),
        "text.ckpt": lambda p: p.write_text("hello"),
        "empty.ckpt": lambda p: p.write_bytes(b""),
    }.items():
        content(tmp_path / name)
        with pytest.raises(ValueError, match='no checkpoint of "lcm fit", or it is damaged'):
            load_task(tmp_path / name)
    assert not (tmp_path / "marker").exists()


def test_a_truncated_checkpoint_is_damaged(fit: Callable[..., Path]) -> None:
    path = fit(head="regression", steps=1) / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="damaged"):
        load_task(path)


def test_a_concept_model_is_no_decoder(fit: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="holds a LCMTask, expected a DecoderTask"):
        load_task(fit(head="regression", steps=1) / "last.ckpt", DecoderTask)


def test_another_encoder_under_the_same_name_is_an_error(store: ConceptStore) -> None:
    assert open_encoder("hashing:16", store.encoder, "it").dim == 16
    with pytest.raises(ValueError, match="the store was made with another version of encoder hashing:16"):
        open_encoder("hashing:16", "ffff", "the store")
