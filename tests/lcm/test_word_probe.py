import torch
from sklearn.metrics import average_precision_score

from lcm.word_probe import WordProbe, average_precision, words_of

WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(5) for j in range(5)]


def make_documents(num: int, seed: int) -> list[tuple[torch.Tensor, list[str]]]:
    """Sentences of two words each, whose concept is which words they have."""
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for _ in range(num):
        chosen = torch.stack([torch.randperm(25, generator=generator)[:2] for _ in range(20)])
        concepts = torch.zeros(20, 25).scatter_(1, chosen, 1.0)
        documents.append((concepts, [" ".join(WORDS[i] for i in row) for row in chosen.tolist()]))
    return documents


def test_words_that_a_concept_is_made_of_are_read_off_and_noise_hides_them() -> None:
    probe, held_out = WordProbe(make_documents(20, 0)), make_documents(5, 1)
    clean, noised, chance = (probe.average_precision(held_out, level).mean for level in (0.0, 0.9, 1.0))
    assert clean > 0.99
    assert chance < noised - 0.1 < clean - 0.2
    assert chance < 0.3


def test_average_precision_is_scikit_learns(generator: torch.Generator) -> None:
    scores, present = torch.rand(7, 11, generator=generator), torch.rand(7, 11, generator=generator) < 0.3
    present[0] = False
    found = average_precision(scores, present)
    assert found[0].isnan()
    for row in range(1, 7):
        if present[row].any():
            torch.testing.assert_close(
                float(found[row]), float(average_precision_score(present[row], scores[row])), atol=1e-5, rtol=1e-5
            )


def test_words_are_in_lower_case_and_told_once() -> None:
    assert words_of("The fox’s den: the FOX, 3 times!") == ["the", "fox’s", "den", "fox", "times"]
