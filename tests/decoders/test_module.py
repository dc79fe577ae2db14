from pathlib import Path

import numpy as np
import pytest
import torch

from data.document import Block, Document
from data.encode import encode_corpus
from data.store import ConceptStore
from decoders.module import SentenceDataModule, SentenceDataset
from encoders.hashing import HashingEncoder


def test_sentences_come_with_their_concept_and_the_text_before(store: ConceptStore) -> None:
    module = SentenceDataModule(str(store.path), batch_size=4)
    assert module.encoder == store.encoder
    (dataset,) = module.datasets("train")
    assert len(dataset) == 7 * len(store.split("train"))  # no heading
    document = int(store.split("train")[0])
    texts = store.sentences(document)[1:]
    assert [dataset.sentence(i) for i in range(7)] == texts
    assert [dataset.context(i) for i in range(4)] == ["", texts[0], f"{texts[0]} {texts[1]}", f"{texts[1]} {texts[2]}"]
    assert dataset.context(7) == ""  # the next document's first
    assert dataset.lengths[:7].tolist() == [len(text) for text in texts]
    expected = torch.from_numpy(store[document][1:8].astype("float32"))
    batch = dataset.batch(range(7))
    torch.testing.assert_close(batch.concepts, expected)
    assert (batch.sentences, batch.context[1]) == (texts, texts[0])
    concept, sentence, context = dataset[3]
    assert torch.equal(concept, expected[3]) and (sentence, context) == (texts[3], f"{texts[1]} {texts[2]}")


def sentences_before(name: str) -> list[list[str]]:
    return [[], [f"{name} one."], [f"{name} one.", f"{name} two."]]


@pytest.mark.parametrize("num", [0, 1, 2, 3])
def test_a_context_is_made_of_the_sentences_before_in_the_document(num: int, tmp_path: Path) -> None:
    def tale(name: str) -> Document:
        blocks = (Block(f"{name} one. {name} two."), Block("Part", level=2, role="heading"), Block(f"{name} three."))
        return Document(name, blocks, source="test")

    # Headings are left out, other documents too.
    store = encode_corpus([tale(name) for name in "ABC"], HashingEncoder(8), tmp_path / "s", progress=False)
    dataset = SentenceDataset(store, [2, 0], num)
    expected = [" ".join(before[-num:]) if num else "" for name in "CA" for before in sentences_before(name)]
    assert [dataset.context(i) for i in range(6)] == expected
    assert dataset.rows.tolist() == [[2, 0], [2, 1], [2, 3], [0, 0], [0, 1], [0, 3]]


def test_no_documents_are_no_sentences(store: ConceptStore) -> None:
    dataset = SentenceDataset(store, [])
    assert (len(dataset), len(dataset.lengths)) == (0, 0)


def epoch(module: SentenceDataModule, number: int) -> list[str]:
    loader = module.train_dataloader()
    loader.batches.set_epoch(number)
    return [sentence for batch in loader for sentence in batch.sentences]


def test_an_epoch_is_a_function_of_seed_and_epoch(store: ConceptStore) -> None:
    def run(seed: int, number: int) -> list[str]:
        return epoch(SentenceDataModule(str(store.path), batch_size=4, seed=seed), number)

    assert run(0, 1) == run(0, 1)
    assert run(0, 1) != run(0, 2) and run(0, 1) != run(1, 1)
    (dataset,) = SentenceDataModule(str(store.path)).datasets("train")
    assert sorted(run(0, 1)) == sorted(dataset.sentence(i) for i in range(len(dataset)))


def test_several_stores_are_mixed_by_weight(store: ConceptStore, encoder: HashingEncoder, tmp_path: Path) -> None:
    documents = [Document(f"Other {i}", (Block(f"Something else {i}. More."),), source="test") for i in range(6)]
    other = encode_corpus(documents, encoder, tmp_path / "other", progress=False)
    paths = [str(store.path), str(other.path)]
    for weights, share in ((None, None), ([1.0, 1.0], 0.5)):
        module = SentenceDataModule(paths, weights=weights)
        sizes = [len(dataset) for dataset in module.datasets("train")]
        share = share or sizes[1] / sum(sizes)
        for number in range(2):
            found = [text.startswith(("Something", "More")) for text in epoch(module, number)]
            assert len(found) == sum(sizes)
            assert sum(found) == pytest.approx(share * len(found), abs=1)
    held_out = [text for batch in SentenceDataModule(paths).test_dataloader() for text in batch.sentences]
    assert len(held_out) == sum(int((s.levels(i) == 0).sum()) for s in (store, other) for i in s.split("test"))
    sample = SentenceDataModule(paths, weights=[0.0, 1.0]).sample()
    assert sorted(sample.sentences) == sorted(s for i in other.split("train") for s in other.sentences(i))


def test_a_sentence_takes_few_bytes(store: ConceptStore) -> None:
    (dataset,) = SentenceDataModule(str(store.path)).datasets("train")
    held = [value for value in vars(dataset).values() if isinstance(value, np.ndarray)]
    assert dataset.rows.nbytes == 8 * len(dataset)
    assert sum(value.nbytes for value in held) <= 16 * len(dataset)


def test_bad_settings_are_named(store: ConceptStore) -> None:
    with pytest.raises(ValueError, match="batch_size >= 1"):
        SentenceDataModule(str(store.path), batch_size=0)
    with pytest.raises(ValueError, match="need a weight for each store"):
        SentenceDataModule(str(store.path), weights=[1.0, 2.0])
    with pytest.raises(FileNotFoundError, match="no store"):
        SentenceDataModule("nowhere")
