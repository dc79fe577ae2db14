import pytest
import torch

from data.store import ConceptStore
from decoders.module import SentenceDataModule, bucketed


def test_sentences_come_with_their_concept_and_the_text_before(store: ConceptStore) -> None:
    module = SentenceDataModule(str(store.path), batch_size=4, context_sentences=2)
    assert module.encoder == store.encoder
    dataset = module.dataset("train")
    assert len(dataset) == 7 * len(store.split("train"))  # no heading
    document = store.split("train")[0]
    texts = store.sentences(document)[1:]
    assert dataset.sentences[:7] == texts
    assert dataset.context[:3] == ["", texts[0], f"{texts[0]} {texts[1]}"]
    expected = torch.from_numpy(store[document][1:8].astype("float32"))
    torch.testing.assert_close(dataset.batch(range(7)).concepts, expected)


def test_an_epoch_is_a_function_of_seed_and_epoch(store: ConceptStore) -> None:
    def epoch(seed: int, number: int) -> list[str]:
        loader = SentenceDataModule(str(store.path), batch_size=4, seed=seed).train_dataloader()
        loader.batches.set_epoch(number)
        return [sentence for batch in loader for sentence in batch.sentences]

    assert epoch(0, 1) == epoch(0, 1)
    assert epoch(0, 1) != epoch(0, 2) and epoch(0, 1) != epoch(1, 1)
    assert sorted(epoch(0, 1)) == sorted(SentenceDataModule(str(store.path)).dataset("train").sentences)


def test_batches_hold_sentences_of_like_length() -> None:
    lengths = torch.randint(1, 100, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = bucketed(lengths, 8, seed=0, epoch=3)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert len(batches) == len(bucketed(lengths, 8, seed=1, epoch=4)) == 126
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_bad_settings_are_named(store: ConceptStore) -> None:
    with pytest.raises(ValueError, match="batch_size >= 1"):
        SentenceDataModule(str(store.path), batch_size=0)
    with pytest.raises(FileNotFoundError, match="no store"):
        SentenceDataModule("nowhere")
