import sys

import pytest
import torch

from data.store import ConceptStore
from decoders.retrieval import RetrievalDecoder

faiss = pytest.importorskip("faiss", reason="faiss is an extra")


def test_a_sentences_own_concept_gives_the_sentence(store: ConceptStore) -> None:
    decoder = RetrievalDecoder.from_store(store)
    assert (decoder.dim, decoder.encoder, decoder.encoder_name) == (store.dim, store.encoder, store.encoder_name)
    for i in store.split("train"):
        concepts, sentences = torch.from_numpy(store[i].astype("float32")), store.sentences(i)
        assert decoder.decode(concepts[1:] * 3.0) == sentences[1:]  # row 0 is a heading; length does not matter
        assert sentences[0] not in decoder.sentences


def test_nearest_is_the_brute_force_nearest() -> None:
    concepts = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    decoder = RetrievalDecoder(concepts, [str(i) for i in range(50)])
    query = torch.randn(9, 7, generator=torch.Generator().manual_seed(1))
    cosine = torch.nn.functional.cosine_similarity(query[:, None], concepts[None], dim=-1)
    assert decoder.decode(query) == [str(i) for i in cosine.argmax(1).tolist()]
    torch.testing.assert_close(torch.from_numpy(decoder.nearest(query)[0]), cosine.amax(1))


def test_sentences_must_match() -> None:
    with pytest.raises(ValueError, match="2 concepts, 1 sentences"):
        RetrievalDecoder(torch.ones(2, 3), ["one"])


def test_missing_faiss_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match='"cpu", or "gpu"'):
        RetrievalDecoder(torch.ones(1, 3), ["one"])
