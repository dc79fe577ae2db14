from pathlib import Path

import pytest

from data.durable import whole_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gets_its_name_when_all_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with whole_folder(folder) as staged:
        (staged / "a").write_text("1")
        assert not folder.exists()
    assert names(folder) == ["a"]
    with whole_folder(folder) as staged:
        (staged / "b").write_text("2")
        assert names(folder) == ["a"]
    assert names(folder) == ["b"]
    assert names(folder.parent) == ["folder"]


def test_what_stood_there_survives_a_failure_and_the_next_try_begins_empty(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), whole_folder(folder) as staged:
        (staged / "half").write_text("2")
        raise RuntimeError
    assert names(folder) == ["a"]
    with whole_folder(folder) as staged:
        assert names(staged) == []
        (staged / "b").write_text("3")
    assert names(tmp_path) == ["folder"]
