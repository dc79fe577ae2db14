from pathlib import Path

import numpy as np
import pytest
import torch

from data.batch import ConceptBatch
from data.document import Block, Document
from data.encode import encode_corpus
from data.module import ConceptDataModule
from data.store import ConceptStore
from data.texts_module import PlacedBatch, SentenceText, TextDataModule
from encoders.encoder import SentenceEncoder
from encoders.hashing import HashingEncoder

LENGTHS = (9, 4, 13, 2, 7, 30, 5, 3, 11, 6, 8, 12)


def make_store(folder: Path, name: str, encoder: SentenceEncoder) -> ConceptStore:
    documents = [
        Document(
            f"{name} {i}",
            (
                Block(f"{name} {i}", level=2, role="heading"),
                Block(" ".join(f"In {name} {i} the raven saw {j} stones." for j in range(length))),
            ),
            source="test",
        )
        for i, length in enumerate(LENGTHS)
    ]
    return encode_corpus(documents, encoder, folder / name, progress=False)


@pytest.fixture(scope="module")
def encoder() -> HashingEncoder:
    return HashingEncoder(16)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, encoder: HashingEncoder) -> list[ConceptStore]:
    folder = tmp_path_factory.mktemp("stores")
    return [make_store(folder, name, encoder) for name in ("fable", "chronicle")]


@pytest.fixture
def module(stores: list[ConceptStore]) -> TextDataModule:
    return TextDataModule([str(store.path) for store in stores], length=12, stride=4, batch_size=3)


def placed(batch: PlacedBatch) -> torch.Tensor:
    return batch.place[..., 0] >= 0


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_text_at_a_place_has_the_concept_at_that_place(
    module: TextDataModule, encoder: HashingEncoder, split: str
) -> None:
    batches = list(module.train_dataloader() if split == "train" else module.val_dataloader())
    assert split != "train" or any(batch.document is not None for batch in batches)  # packed rows are among them
    for batch in batches:
        chosen = placed(batch) & batch.target
        texts = module.texts(batch.place[chosen])
        assert len(set(texts)) > 1
        encoded = torch.from_numpy(encoder.encode([text.text for text in texts]))
        torch.testing.assert_close(batch.concepts[chosen], encoded, atol=1e-3, rtol=0)  # float16 on disk
        assert len(encoded.unique(dim=0)) > 1


def test_every_sentence_has_a_place_and_padding_has_none(module: TextDataModule) -> None:
    for batch in module.train_dataloader():
        assert not (placed(batch) & ~batch.mask).any()
        assert (placed(batch) == batch.mask).float().mean() > 0.8


def test_the_text_before_is_that_of_the_document_without_its_heading(
    module: TextDataModule, stores: list[ConceptStore]
) -> None:
    long = LENGTHS.index(30)
    first, second = (f"In chronicle {long} the raven saw {j} stones." for j in (0, 1))
    assert module.text(1, long, 1) == SentenceText(first, "")
    assert module.text(1, long, 2) == SentenceText(second, first)
    more = TextDataModule(str(stores[1].path), context_sentences=2)
    assert more.text(0, long, 3).before == f"{first} {second}"
    assert TextDataModule(str(stores[1].path), context_sentences=0).text(0, long, 3).before == ""


def test_the_concepts_are_those_of_the_module_without_text(stores: list[ConceptStore]) -> None:
    options = {"length": 8, "stride": 4, "batch_size": 3}
    paths = [str(store.path) for store in stores]
    with_text, without = TextDataModule(paths, **options), ConceptDataModule(paths, **options)
    for one, other in zip(with_text.train_dataloader(), without.train_dataloader(), strict=True):
        assert isinstance(one, PlacedBatch) and not isinstance(other, PlacedBatch)
        torch.testing.assert_close(one.concepts, other.concepts, rtol=0, atol=0)
        assert one.mask.equal(other.mask) and one.level.equal(other.level)
    assert with_text.fill() == without.fill()


def test_a_batch_goes_to_a_device_with_its_places(module: TextDataModule) -> None:
    batch = next(iter(module.train_dataloader()))
    moved = batch.to("meta")
    assert isinstance(moved, ConceptBatch) and moved.concepts.is_meta
    assert moved.place is batch.place


def test_a_negative_number_of_sentences_before_is_refused(stores: list[ConceptStore]) -> None:
    with pytest.raises(ValueError, match="at least 0, found -1"):
        TextDataModule(str(stores[0].path), context_sentences=-1)


def test_the_end_of_text_is_nowhere(module: TextDataModule) -> None:
    store, rows = module.stores[0], module.rows("train")[0]
    last = int(store.lengths[3])
    place = rows.place(3, last - 2, last + 1)
    assert np.array_equal(place, [[0, 3, last - 2], [0, 3, last - 1], [-1, -1, -1]])
    assert store.end_of_text is not None
    ends = torch.from_numpy(store.end_of_text)
    nowhere = [batch.concepts[batch.mask & ~placed(batch)] for batch in module.train_dataloader()]
    assert sum(map(len, nowhere))
    torch.testing.assert_close(torch.cat(nowhere), ends.expand(sum(map(len, nowhere)), -1), atol=1e-3, rtol=0)
