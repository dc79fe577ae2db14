import pytest

from decoders.names import find_names, lowercase_words, names_kept

LOWER = {"the", "but", "come", "he", "then", "король", "потом"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The king met Darcy and Miss Bennet.", ["darcy", "miss", "bennet"]),
        ("Darcy left. But Elizabeth stayed.", ["darcy", "elizabeth"]),  # neither start is ever in lower case
        ('He said, "Come here, Ahab!" Then he slept.', ["ahab"]),
        ("He saw Mr. Then and St. Come.", ["mr", "then", "st", "come"]),  # behind a title no sentence begins
        ("I know that I'm here and I’ll stay, A.", []),
        ("Darcy's horse, the Bennets’ dog and D'Artagnan.", ["darcy", "bennets", "d'artagnan"]),
        ("Потом Король увидел Ивана, а Иван ушёл с Марьей.", ["корол", "иван", "иван", "марь"]),
        ("", []),
    ],
)
def test_names_are_capitalised_within_a_sentence_or_never_written_small(text: str, expected: list[str]) -> None:
    assert find_names(text, LOWER) == expected


def test_words_in_lower_case_are_found() -> None:
    assert lowercase_words(["The king's dog saw Ivan.", "он Иван"]) == {"king", "dog", "saw", "он"}


def test_a_true_text_keeps_all_names_and_another_none() -> None:
    contexts = ["Ahab saw Starbuck. The sea was calm.", "Мы видели Ивана."]
    sentences = ["Then Ahab spoke to Starbuck and to Pip.", "Тогда Иван встал."]  # Pip was not there before
    assert names_kept(sentences, sentences, contexts) == (3, 3)
    assert names_kept(["ahab spoke to Stubb.", "Тогда Ивану сказали."], sentences, contexts) == (1, 3)
    assert names_kept(["", ""], sentences, contexts) == (0, 3)
    assert names_kept(sentences, sentences, ["", ""]) == (0, 0)


def test_a_start_is_judged_by_the_documents_words() -> None:
    sentences, contexts = ["Meanwhile she slept."], ["Meanwhile he ran."]
    assert names_kept([""], sentences, contexts) == (0, 1)
    assert names_kept([""], sentences, contexts, lowercase={"meanwhile"}) == (0, 0)
