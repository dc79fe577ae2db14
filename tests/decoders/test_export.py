import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from decoders.export import export_adapter, load_adapter
from decoders.loading import load_decoder
from decoders.prefix import PrefixDecoder
from decoders.start import start_from

Make = Callable[..., PrefixDecoder]
CONTEXT = ["The old king had three sons."] * 6


@pytest.mark.parametrize("options", [{}, {"tuning": "full", "lora_rank": None}, {"before": 1, "corrects": True}])
def test_a_round_trip_decodes_the_same(
    make_decoder: Make, concepts: torch.Tensor, tmp_path: Path, options: dict[str, object]
) -> None:
    decoder = make_decoder(**options)
    decoder.predicted_level.fill_(0.25)
    folder = export_adapter(decoder, tmp_path / "a" / "b", {"sentences": 7})
    assert sorted(file.name for file in folder.iterdir()) == ["adapter.safetensors", "card.json"]
    card = json.loads((folder / "card.json").read_text())
    assert card["training"] == {"sentences": 7} and card["encoder"] == decoder.encoder
    again = load_adapter(folder)
    for (name, left), right in zip(decoder.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(left, right), name
    text = decoder.decode(concepts, CONTEXT, max_new_tokens=12)
    assert again.decode(concepts, CONTEXT, max_new_tokens=12) == text
    merged = load_decoder(folder, decoder.encoder)
    assert merged.decode(concepts, CONTEXT, max_new_tokens=12) == text
    with pytest.raises(ValueError, match="merged"):
        export_adapter(merged, tmp_path / "c", {})
    assert export_adapter(load_decoder(folder, merge=False), tmp_path / "d", {}).is_dir()


def test_an_old_export_is_replaced_and_nothing_else_is(make_decoder: Make, tmp_path: Path) -> None:
    decoder = make_decoder()
    for number in range(2):
        export_adapter(decoder, tmp_path / "a", {"number": number})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert json.loads((tmp_path / "a" / "card.json").read_text())["training"] == {"number": 1}
    (tmp_path / "a" / "novel.txt").write_text("mine")
    with pytest.raises(ValueError, match="no exported decoder"):
        export_adapter(decoder, tmp_path / "a", {})


def test_bad_folders_are_one_clear_sentence(make_decoder: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no exported decoder"):
        load_adapter(tmp_path)
    folder = export_adapter(make_decoder(), tmp_path / "a", {})
    card = json.loads((folder / "card.json").read_text())
    for name in ("os.system", "decoders.adapter.ConceptAdapter"):
        (folder / "card.json").write_text(json.dumps(card | {"class": name}))
        with pytest.raises(ValueError, match="which is no decoder"):
            load_adapter(folder)
    (folder / "card.json").write_text("{}")
    with pytest.raises(ValueError, match="no card"):
        load_adapter(folder)
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "adapter.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="damaged"):
        load_adapter(folder)


def test_a_training_starts_from_weights_of_equal_name_and_shape(make_decoder: Make, tmp_path: Path) -> None:
    first = make_decoder()
    folder = export_adapter(first, tmp_path / "a", {})
    second = make_decoder(trained=False, before=1, lora_rank=3)
    fresh = {name: value.clone() for name, value in second.state_dict().items()}
    line = start_from(second, folder)
    assert "\n" not in line and "keep their first values (adapter.neighbours.gain, ...)" in line
    for name, value in second.state_dict().items():
        fits = name in first.state_dict() and first.state_dict()[name].shape == value.shape
        assert torch.equal(value, first.state_dict()[name] if fits else fresh[name]), name
    assert second.fitted


def test_what_is_fitted_to_another_encoder_is_not_taken(make_decoder: Make, tmp_path: Path) -> None:
    folder = export_adapter(make_decoder(), tmp_path / "a", {})
    other = PrefixDecoder(**make_decoder().arguments | {"encoder": "another"})
    start_from(other, folder)
    assert not other.fitted and other.adapter.mean.abs().sum() == 0
