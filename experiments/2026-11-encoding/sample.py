"""The sentences that all engines of this folder are given."""

import numpy as np
from sentence_transformers import SentenceTransformer

from data.readers import read_documents
from data.rows import split_document
from data.splitters import make_splitter
from encoders.sentence_transformer import find_model

BLOCK = 128  # neighbours in the order in which sentence-transformers sorts: their padding is the whole corpus's


def load_model() -> SentenceTransformer:
    return SentenceTransformer(str(find_model("minilm")), device="cpu")


def read_sentences(corpus: str = "austen") -> list[str]:
    documents = list(read_documents(corpus))
    splitter = make_splitter("punkt", documents)
    return [row.text for document in documents for row in split_document(document, splitter, 1000)]


def sample_sentences(sentences: list[str], number: int) -> list[str]:
    """Returns blocks of sentences of about equal length, spread evenly over all lengths, in random order."""
    by_length = sorted(sentences, key=len, reverse=True)
    number = min(number, len(by_length))
    block = min(BLOCK, number)
    starts = np.linspace(0, len(by_length) - block, max(1, number // block) * 2 + 1).astype(int)[1::2]
    chosen = [sentence for start in starts for sentence in by_length[start : start + block]]
    return [chosen[row] for row in np.random.default_rng(0).permutation(len(chosen))]


def count_tokens(model: SentenceTransformer, sentences: list[str]) -> np.ndarray:
    return np.array([len(ids) for ids in model.tokenizer(sentences, truncation=True, max_length=256)["input_ids"]])


def padded_tokens(sentences: list[str], lengths: np.ndarray, batch_size: int = 32) -> int:
    """Returns what sentence-transformers computes: batches in order of characters, each as wide as its longest."""
    order = np.argsort([-len(sentence) for sentence in sentences])
    batches = [lengths[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    return sum(len(batch) * int(batch.max()) for batch in batches)


if __name__ == "__main__":
    print("\n".join(read_sentences()))
