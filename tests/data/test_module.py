from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.batch import ConceptBatch
from data.document import Block, Document
from data.encode import encode_corpus
from data.module import ConceptDataModule, cut_windows
from encoders.hashing import HashingEncoder


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    documents = [
        Document(
            f"Tale {i}",
            (
                Block(f"Tale {i}", level=2, role="heading"),
                Block(" ".join(f"The fox saw {i} or {j} crows." for j in range(11))),
            ),
            source="test",
        )
        for i in range(30)
    ]
    folder = tmp_path_factory.mktemp("stores") / "s"
    encode_corpus(documents, HashingEncoder(8), folder, progress=False)
    return str(folder)


@given(num=st.integers(1, 300), length=st.integers(2, 64), stride=st.integers(1, 64))
def test_windows_cover_every_row_and_held_out_ones_cover_it_once(num: int, length: int, stride: int) -> None:
    windows = cut_windows({7: num}, length, min(stride, length))
    assert all(
        document == 7 and 0 <= start < stop <= num and stop - start <= length for document, start, stop in windows
    )
    assert {row for _, start, stop in windows for row in range(start, stop)} == set(range(num))
    held_out = [row for _, start, stop in cut_windows({7: num}, length, length) for row in range(start, stop)]
    assert held_out == list(range(num))


def test_batches_hold_what_the_store_holds(path: str) -> None:
    module = ConceptDataModule(path, length=5, stride=3, batch_size=4)
    batch: ConceptBatch = next(iter(module.test_dataloader()))
    store, document = module.store, module.documents("test")[0]
    torch.testing.assert_close(batch.concepts[0], torch.from_numpy(store[document][:5].astype("float32")))
    assert batch.level[0].tolist() == [2, 0, 0, 0, 0]
    assert batch.target[0].tolist() == [False, True, True, True, True]


def test_a_short_window_is_padded_and_masked(path: str) -> None:
    module = ConceptDataModule(path, length=5, stride=5, batch_size=3)
    batch: ConceptBatch = next(iter(module.test_dataloader()))  # 12 rows a document: windows of 5, 5 and 2
    assert batch.mask.sum(1).tolist() == [5, 5, 2]
    assert batch.concepts[2, 2:].abs().sum() == 0


def test_splits_share_no_document(path: str) -> None:
    module = ConceptDataModule(path)
    splits = [set(module.documents(name)) for name in ("train", "validation", "test")]
    assert len(set.union(*splits)) == sum(map(len, splits)) == 30


def test_the_normalisers_sample_comes_from_training_documents(path: str) -> None:
    module = ConceptDataModule(path)
    rows = sum(module.store.documents[i].num_sentences for i in module.documents("train"))
    assert module.sample_concepts().shape == (rows, 8)
    assert module.sample_concepts(20).shape == (20, 8)
    torch.testing.assert_close(module.sample_concepts(20), ConceptDataModule(path).sample_concepts(20))


def test_impossible_settings_and_an_empty_split_are_errors(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need length >= 2"):
        ConceptDataModule(path, length=1)
    documents = [Document(f"T{i}", (Block("One thing."),), source="test") for i in range(4)]
    store = encode_corpus(documents, HashingEncoder(8), tmp_path / "s", progress=False)
    with pytest.raises(ValueError, match="has no test document of two sentences or more"):
        ConceptDataModule(str(store.path)).test_dataloader()
