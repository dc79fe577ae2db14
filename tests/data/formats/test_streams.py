import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from data.document import Block
from data.readers import read_documents
from data.report import ReadReport

CARD = """---
configs:
- config_name: en
  data_files: en/*.parquet
- config_name: ru
  data_files:
  - {split: train, path: ru/a.jsonl.gz}
  - {split: test, path: ru/b.json}
---
# A card
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a machine without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return tmp_path / "hub"


def add_copy(cache: Path, name: str) -> Path:
    """Lays out an earlier copy of a data set as the hub's client does."""
    repository = cache / f"datasets--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    return snapshot


def test_a_copy_in_the_cache_is_streamed_split_after_split(cache: Path) -> None:
    folder = add_copy(cache, "frog/pond")
    for name in ("en", "ru"):
        (folder / name).mkdir()
    (folder / "README.md").write_text(CARD)
    turns = [{"role": "user", "content": "Who?"}, {"role": "frog", "content": "I."}]
    pq.write_table(pa.table({"messages": [turns], "id": [1]}), folder / "en" / "a.parquet")
    (folder / "ru" / "a.jsonl.gz").write_bytes(gzip.compress('"DEMO"\n{"text": "Раз."}\n{"text": 2}'.encode()))
    (folder / "ru" / "b.json").write_text('[{"text": "Три.", "n": 1}, {"text": "Четыре.", "n": "x"}]')

    report = ReadReport()
    (dialogue,) = read_documents("frog/pond:en", report=report)
    assert dialogue.blocks == (Block("Who?", 0, "user"), Block("I.", 0, "frog"))
    assert dialogue.source == "frog/pond" and report.lines() == ['the field "id" is not used']

    report = ReadReport()
    documents = list(read_documents("frog/pond:ru", report=report))
    assert [(document.title, document.blocks[0].text) for document in documents] == [
        ("pond 1", "Раз."),
        ("pond 2", "2"),
        ("pond 3", "Три."),
        ("pond 4", "Четыре."),
    ]
    assert "line 1 of frog/pond/a.jsonl.gz is the first of the lines that are no JSON object left out" in report.notes

    (add_copy(cache, "frog/prose") / "a.txt").write_text("Chapter I\n\nOne.\n\nTwo.")
    (book,) = read_documents("frog/prose")
    assert book.blocks == (Block("Chapter I", 2, "heading"), Block("One."), Block("Two."))


def test_what_is_wrong_with_a_data_set_is_one_sentence(cache: Path) -> None:
    folder = add_copy(cache, "frog/pond")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- {config_name: en, data_files: a.json}\n- {config_name: ru}\n---\n"
    )
    (folder / "a.json").write_text('{"text": "One."}')
    with pytest.raises(ValueError, match=r"\"frog/pond\" cannot be read: .* pick one .*\['en', 'ru'\] \(the hub"):
        next(read_documents("frog/pond"))
    (add_copy(cache, "frog/none") / "a.jsonl").write_text('{"year": 1}')
    with pytest.raises(ValueError, match='data set "frog/none" holds no record with a text'):
        next(read_documents("frog/none"))
    (add_copy(cache, "frog/bare") / "README.md").write_text("# A card")
    with pytest.raises(ValueError, match=r"frog/bare.* any data files \(the hub cannot be reached"):
        next(read_documents("frog/bare"))
    with pytest.raises(FileNotFoundError, match='dataset "nobody/nothing": the hub cannot be reached'):
        next(read_documents("nobody/nothing:plain"))
    with pytest.raises(FileNotFoundError, match='dataset "a/b/c": it is neither a folder here nor'):
        next(read_documents("a/b/c"))


def test_what_datasets_saved(tmp_path: Path) -> None:
    saved = Dataset.from_dict({"text": ["One.", "Two."], "label": [0, 1]})
    saved.save_to_disk(str(tmp_path / "one"))
    DatasetDict(
        {"train": saved, "test": Dataset.from_dict({"messages": [[{"role": "a", "content": "Yes."}]]})}
    ).save_to_disk(str(tmp_path / "two"))
    report = ReadReport()
    assert [document.blocks[0].text for document in read_documents(str(tmp_path / "one"), report=report)] == [
        "One.",
        "Two.",
    ]
    assert report.lines() == ['the field "label" is not used']
    assert [document.title for document in read_documents(str(tmp_path / "two"))] == ["two 1", "two 2", "two 3"]
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="is a damaged data set"):
        next(read_documents(str(tmp_path / "one")))
