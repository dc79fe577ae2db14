import random

import pytest

from data.document import Block, Document
from data.duplicates import DuplicateFinder


def document(text: str, title: str = "T") -> Document:
    return Document(title, (Block(text),), "s")


def runs(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_what_is_found_has_that_similarity(threshold: float) -> None:
    generator = random.Random(0)
    base = [f"w{n}" for n in range(600)]
    for num_changes in range(0, 60, 2):
        words = list(base)
        for place in generator.sample(range(600), num_changes):
            words[place] = "x"
        one, other = runs(base), runs(words)
        similarity = len(one & other) / len(one | other)
        finder = DuplicateFinder(threshold)
        assert finder.find_or_add(document(" ".join(base), "Base")) is None
        found = finder.find_or_add(document(" ".join(words), "Other"))
        if abs(similarity - threshold) > 0.12 or similarity == 1:  # four standard errors
            assert (found == "Base") == (similarity >= threshold), similarity


def test_the_earliest_is_named_and_case_and_punctuation_do_not_count() -> None:
    finder = DuplicateFinder(0.8)
    assert finder.find_or_add(document("Однажды в студёную зимнюю пору я вышел.", "A")) is None
    assert finder.find_or_add(document("Something else that is quite another thing.", "B")) is None
    assert finder.find_or_add(document("ОДНАЖДЫ, в студёную\nзимнюю пору — я вышел!", "C")) == "A"


def test_short_documents_are_compared_whole() -> None:
    finder = DuplicateFinder(0.5)
    texts = ["Yes.", "Yes, sir.", "No.", "Yes sir no", "***", "—", "", "\ud800"]
    assert [finder.find_or_add(document(text, text)) for text in texts] == [None] * len(texts)
    assert finder.find_or_add(document("YES, SIR!")) == "Yes, sir."
    assert finder.find_or_add(document(" *** ")) == "***"


def test_long_documents_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"w{n}" for n in range(1003))
    whole = DuplicateFinder(1.0)
    whole.find_or_add(document(text, "Whole"))
    monkeypatch.setattr("data.duplicates._CHUNK", 100)
    assert whole.find_or_add(document(text)) == "Whole"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rensa", None)
    with pytest.raises(ImportError, match="pip install rensa"):
        DuplicateFinder(0.8)
