"""Unpacking and checking; pip itself fetches a wheel that the test makes, from a local folder."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from data.named.packages import FetchError, fetch_package

NAME = "lcm-test-package"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "lcm_test_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("texts/a.txt", "A" * 1000)
        archive.writestr("texts/b.txt", "B")
        archive.writestr("../evil.txt", "C")
        info = "lcm_test_package-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wanted_members_are_fetched_once(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "home" / "corpus"
    digest, members = sha256(wheel), {"texts/a.txt": "deep/a.txt"}
    assert fetch_package("pip", NAME, "1.0", sha256=digest, members=members, target=target) == target
    assert (target / "deep/a.txt").read_text() == "A" * 1000
    assert json.loads((target / "package.json").read_text())["files"] == {"deep/a.txt": 1000}
    assert [path.name for path in target.parent.iterdir()] == ["corpus"]

    wheel.unlink()  # from here on nothing can be downloaded
    fetch_package("pip", NAME, "1.0", sha256=digest, members=members, target=target)
    (target / "deep/a.txt").unlink()
    with pytest.raises(FetchError, match=f'could not fetch {NAME} 1.0 with "python.* -m pip download {NAME}==1.0"'):
        fetch_package("pip", NAME, "1.0", sha256=digest, members=members, target=target)


def test_a_changed_choice_replaces_the_folder(wheel: Path, tmp_path: Path) -> None:
    target, digest = tmp_path / "corpus", sha256(wheel)
    fetch_package("pip", NAME, "1.0", sha256=digest, members={"texts/a.txt": "a.txt"}, target=target)
    fetch_package("pip", NAME, "1.0", sha256=digest, members={"texts/b.txt": "b.txt"}, target=target)
    assert sorted(path.name for path in target.iterdir()) == ["b.txt", "package.json"]


def test_what_is_wrong_leaves_nothing_behind(wheel: Path, tmp_path: Path) -> None:
    target, digest = tmp_path / "home" / "corpus", sha256(wheel)

    def fetch(sha256: str = digest, **options) -> None:
        fetch_package("pip", NAME, "1.0", sha256=sha256, target=target, **options)

    with pytest.raises(FetchError, match="is not the file that was pinned"):
        fetch(sha256="0" * 64, members={"texts/a.txt": "a.txt"})
    with pytest.raises(FetchError, match=r"lacks c\.txt; the package changed"):
        fetch(members={"texts/c.txt": "c.txt"})
    with pytest.raises(FetchError, match="more than the 999 bytes"):
        fetch(members={"texts/a.txt": "a.txt"}, max_bytes=999)
    with pytest.raises(FetchError, match="outside the target"):
        fetch(members=lambda member: member)
    with pytest.raises(FetchError, match=f"the index has no {NAME} 2.0"):
        fetch_package("pip", NAME, "2.0", sha256=digest, members={}, target=target)
    assert not list(target.parent.iterdir())


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match='carried by npm, but "npm" is not installed here'):
        fetch_package("npm", "x", "1", sha256="", members={}, target=tmp_path / "x")
