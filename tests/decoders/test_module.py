from pathlib import Path

import numpy as np
import pytest
import torch

from data.document import Block, Document
from data.durable import write_json
from data.encode import encode_corpus
from data.store import ConceptStore
from data.transfer.gather import hash_json
from data.transfer.taken import identify
from decoders.module import SentenceBatch, SentenceDataModule, SentenceDataset
from decoders.predicted import CONCEPTS, KNOWN, MANIFEST, PredictedConcepts, first_rows, noise_level
from encoders.hashing import HashingEncoder


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> ConceptStore:
    """Twelve documents of a heading and eight sentences, no two alike and of many lengths."""
    documents = [
        Document(
            f"Tale {i}",
            (
                Block(f"Tale {i}", level=2, role="heading"),
                Block(
                    " ".join(f"It was {number} {'and more ' * (number * 7 % 11)}then." for number in range(i, i + 8))
                ),
            ),
            source="test",
        )
        for i in range(10, 130, 10)
    ]
    return encode_corpus(documents, HashingEncoder(16), tmp_path_factory.mktemp("stores") / "n", progress=False)


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
    item = dataset[3]
    assert torch.equal(item.concept, expected[3])
    assert (item.sentence, item.context) == (texts[3], f"{texts[1]} {texts[2]}")
    assert batch.neighbours is batch.near is batch.level is None  # nobody asked


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


@pytest.mark.parametrize(("before", "after"), [(2, 1), (0, 3), (1, 0)])
def test_neighbours_are_the_sentences_around_in_the_document(store: ConceptStore, before: int, after: int) -> None:
    dataset = SentenceDataset(store, store.split("train"), before=before, after=after)
    batch = dataset.batch(range(len(dataset)))
    assert batch.neighbours is not None and batch.near is not None
    assert batch.neighbours.shape == (len(dataset), before + after, 16)
    documents = dataset.rows[:, 0]
    for i in range(len(dataset)):
        for place, step in enumerate([*range(-before, 0), *range(1, after + 1)]):
            j = i + step
            there = 0 <= j < len(dataset) and documents[j] == documents[i]
            assert bool(batch.near[i, place]) == there
            expected = batch.concepts[j] if there else torch.zeros(16)
            assert torch.equal(batch.neighbours[i, place], expected)
    moved = batch.to("cpu")
    assert moved.neighbours is not None and torch.equal(moved.neighbours, batch.neighbours)


def test_no_documents_are_no_sentences(store: ConceptStore) -> None:
    dataset = SentenceDataset(store, [])
    assert (len(dataset), len(dataset.lengths)) == (0, 0)


def batches(module: SentenceDataModule, number: int) -> list[SentenceBatch]:
    loader = module.train_dataloader()
    loader.batches.set_epoch(number)
    return list(loader)


def epoch(module: SentenceDataModule, number: int) -> list[str]:
    return [sentence for batch in batches(module, number) for sentence in batch.sentences]


def test_an_epoch_is_a_function_of_seed_and_epoch(store: ConceptStore) -> None:
    def run(seed: int, number: int) -> list[str]:
        return epoch(SentenceDataModule(str(store.path), batch_size=4, seed=seed), number)

    assert run(0, 1) == run(0, 1)
    assert run(0, 1) != run(0, 2) and run(0, 1) != run(1, 1)
    (dataset,) = SentenceDataModule(str(store.path)).datasets("train")
    assert sorted(run(0, 1)) == sorted(dataset.sentence(i) for i in range(len(dataset)))


def test_tokens_are_counted_by_letters(tmp_path: Path) -> None:
    sentences = ["The king saw extraordinarily many.", "Он её.", "In 1984 it was."]
    documents = [Document("A", (Block(" ".join(sentences)),), source="test")]
    store = encode_corpus(documents, HashingEncoder(8), tmp_path / "s", progress=False)
    dataset = SentenceDataset(store, [0], context_sentences=1)
    assert [dataset.sentence(i) for i in range(3)] == sentences
    counts = dataset.token_counts()
    assert counts.tolist() == [7, 5, 8]
    assert dataset.context_counts(counts).tolist() == [0, 7, 5]


def test_a_batch_holds_as_many_sentences_as_fit_the_budget(numbered: ConceptStore) -> None:
    module = SentenceDataModule(str(numbered.path), max_tokens=120, max_context_tokens=10)
    (dataset,) = module.datasets("train")
    own = dataset.token_counts()
    rows = own + dataset.context_counts(own).clip(max=10) + 12
    place = {(dataset.sentence(i), dataset.context(i)): i for i in range(len(dataset))}
    for number in range(3):
        found = [[place[pair] for pair in zip(b.sentences, b.context, strict=True)] for b in batches(module, number)]
        assert sorted(i for batch in found for i in batch) == list(range(len(dataset)))
        assert all(rows[batch].max() * len(batch) <= 120 or len(batch) == 1 for batch in found)
        assert len(found) == len(module.train_dataloader())
    assert max(map(len, found)) > 1
    held_out = [sentence for batch in module.val_dataloader() for sentence in batch.sentences]
    assert len(held_out) == 8 * len(numbered.split("validation"))


def test_budgeted_batches_go_on_where_they_were_left(numbered: ConceptStore) -> None:
    whole = [batch.sentences for batch in batches(SentenceDataModule(str(numbered.path), max_tokens=100), 2)]
    loader = SentenceDataModule(str(numbered.path), max_tokens=100).train_dataloader()
    loader.load_state_dict({"epoch": 2, "batches": 3})
    loader.batches.set_epoch(2)
    assert [batch.sentences for batch in loader] == whole[3:]


def predict_some(store: ConceptStore, path: Path) -> np.ndarray:
    """Writes predictions of all sentences but a document's first; returns them all (rows, D)."""
    concepts = np.random.default_rng(0).normal(size=(int(store.lengths.sum()), store.dim)).astype(np.float16)
    known = np.concatenate([(store.levels(i) == 0) & (np.arange(store.lengths[i]) > 1) for i in range(len(store))])
    path.mkdir()
    np.save(path / CONCEPTS, concepts)
    np.save(path / KNOWN, known)
    about = {"format": "predicted-concepts", "version": 1, "store": str(store.path), "encoder": store.encoder}
    write_json(path / MANIFEST, about | {"of": hash_json(identify(store))})
    return concepts


def test_some_concepts_are_predicted_in_training_and_none_held_out(numbered: ConceptStore, tmp_path: Path) -> None:
    concepts = predict_some(numbered, tmp_path / "p")

    def module(**options: float) -> SentenceDataModule:
        return SentenceDataModule(str(numbered.path), predicted=str(tmp_path / "p"), **options)  # type: ignore[arg-type]

    (dataset,) = module().datasets("train")
    place = {(dataset.sentence(i), dataset.context(i)): i for i in range(len(dataset))}
    replaced = {}
    for share in (0.0, 0.5, 1.0):
        made = module(predicted_share=share)
        for batch in (all_of := batches(made, 1)):
            assert batch.level is not None
            for concept, level, *pair in zip(batch.concepts, batch.level, batch.sentences, batch.context, strict=True):
                i = place[tuple(pair)]  # type: ignore[index]
                document, row = dataset.rows[i].tolist()
                taken = bool(level > 0)
                assert not taken or row > 1
                expected = concepts[first_rows(numbered)[document] + row] if taken else numbered[document][row]
                torch.testing.assert_close(concept, torch.from_numpy(expected.astype(np.float32)))
                assert not taken or level == pytest.approx(made.predicted_level)
        replaced[share] = sum(int((batch.level > 0).sum()) for batch in all_of if batch.level is not None)
    num_documents = len(numbered.split("train"))
    assert (replaced[0.0], replaced[1.0]) == (0, 7 * num_documents) and 0 < replaced[0.5] < 7 * num_documents
    assert [b.sentences for b in batches(module(), 1)] == [b.sentences for b in batches(module(predicted_share=0), 1)]
    again = [torch.cat([batch.concepts for batch in batches(module(), number)]) for number in (1, 1, 2)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])
    assert all(batch.level is None for batch in module().val_dataloader())
    held_out = torch.cat([batch.level for batch in module(predicted_held_out=True).val_dataloader()])
    assert int((held_out > 0).sum()) == 7 * len(numbered.split("validation"))


def test_the_noise_level_is_that_of_added_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 2000, 200, generator=generator)
    for level in (0.0, 0.3, 0.8):
        noised = (1 - level) ** 0.5 * x + level**0.5 * noise
        assert noise_level(noised + 3, x + 3) == pytest.approx(level, abs=0.02)
        assert noise_level(0.5 * noised + 3, x + 3) == pytest.approx(level, abs=0.02)  # lengths do not enter
    assert noise_level(noise, x) < 1


def test_wrong_predictions_are_one_clear_error(numbered: ConceptStore, tmp_path: Path) -> None:
    path, other = str(numbered.path), tmp_path / "other"
    with pytest.raises(FileNotFoundError, match="no predictions at"):
        SentenceDataModule(path, predicted=str(tmp_path))
    predict_some(numbered, tmp_path / "p")
    texts = [Document(f"Other {i}", (Block(f"Something else {i}. More."),), source="test") for i in range(6)]
    encode_corpus(texts, HashingEncoder(16), other, progress=False)
    with pytest.raises(ValueError, match=r"are of .* as it was then, not of .*other as it is now"):
        SentenceDataModule(str(other), predicted=str(tmp_path / "p"))
    with pytest.raises(ValueError, match="a folder of predictions for each store, found 1 and 2"):
        SentenceDataModule([path, str(other)], predicted=str(tmp_path / "p"))
    with pytest.raises(ValueError, match="predicted_held_out needs predictions"):
        SentenceDataModule(path, predicted_held_out=True)
    whole = (tmp_path / "p" / CONCEPTS).read_bytes()
    (tmp_path / "p" / CONCEPTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        PredictedConcepts.open(tmp_path / "p", numbered)


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
    for options, message in (
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"max_tokens": 0}, "max_tokens >= 1"),
        ({"batch_size": 4, "max_tokens": 512}, "give batch_size or max_tokens, found both"),
        ({"max_context_tokens": 16}, "bounds what max_tokens counts"),
        ({"before": -1}, "before and after >= 0"),
        ({"predicted_share": 1.5}, "0 <= predicted_share <= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            SentenceDataModule(str(store.path), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="need a weight for each store"):
        SentenceDataModule(str(store.path), weights=[1.0, 2.0])
    with pytest.raises(FileNotFoundError, match="no store"):
        SentenceDataModule("nowhere")
