import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.store import ConceptStore
from decoders.loading import load_decoder
from lcm.checkpoint import load_model, open_encoder


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
            load_model(tmp_path / name)
    assert not (tmp_path / "marker").exists()


def test_a_truncated_checkpoint_is_damaged(fit: Callable[..., Path]) -> None:
    path = fit(head="regression", steps=1) / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="damaged"):
        load_model(path)


def test_a_model_that_this_code_does_not_make_is_one_sentence(fit: Callable[..., Path], tmp_path: Path) -> None:
    content = torch.load(fit(head="regression", steps=1) / "last.ckpt", weights_only=True)
    model = content["hyper_parameters"]["model"]
    for change, said in (
        ({"context_noise": 2.0}, "context_noise must be in"),
        ({"newer": 1}, "names a model that is not here"),
    ):
        altered = content["hyper_parameters"] | {"model": model | {"init_args": model["init_args"] | change}}
        torch.save(content | {"hyper_parameters": altered}, tmp_path / "altered.ckpt")
        with pytest.raises(ValueError, match=said) as caught:
            load_model(tmp_path / "altered.ckpt")
        assert len(str(caught.value).splitlines()) == 1
    bare = {key: value for key, value in content["hyper_parameters"].items() if key not in ("length", "levels")}
    torch.save(content | {"hyper_parameters": bare}, tmp_path / "bare.ckpt")
    assert load_model(tmp_path / "bare.ckpt").length == 128  # as a task that is not told


def test_a_model_is_loaded_without_lightning(fit: Callable[..., Path]) -> None:
    path = str(fit(head="one_tower", steps=1) / "last.ckpt")
    alone = f"import sys; from lcm.checkpoint import load_model; load_model({path!r})"
    subprocess.run([sys.executable, "-c", f"{alone}; assert 'lightning' not in sys.modules"], check=True)


def test_a_concept_model_is_no_decoder(fit: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="holds a LCMTask, expected a DecoderTask"):
        load_decoder(fit(head="regression", steps=1) / "last.ckpt")


def test_a_model_of_another_encoder_is_refused(fit: Callable[..., Path]) -> None:
    path = fit(head="regression", steps=1) / "last.ckpt"
    with pytest.raises(ValueError, match="concepts of encoder hashing-1-16, these are of encoder hashing-1-32"):
        load_model(path, "hashing-1-32")


def test_another_encoder_under_the_same_name_is_an_error(store: ConceptStore) -> None:
    assert open_encoder("hashing:16", store.encoder, "it").dim == 16
    with pytest.raises(ValueError, match="the store was made with another version of encoder hashing:16"):
        open_encoder("hashing:16", "ffff", "the store")
