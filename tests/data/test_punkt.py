import json
import random
from pathlib import Path

import pytest
from nltk.tokenize import punkt as nltk_punkt

from data.punkt import Punkt, load_punkt

TEXT = """
Cpt. Ahab saw the whale. The whale saw Cpt. Ahab. He went, e.g. on Tue. at 5 p.m. to the ship. On Tue. the sea was calm.
He met J. Bildad and B. Flask. Then came No. 7 of 12. It was late... The men slept. Was it he? It was. And the ship of
Cpt. Peleg sank. They said so in vol. 3. But who knows. We do not. A. said B. was there. I was.
"""
WORDS = [
    "Cpt",
    "Ahab",
    "whale",
    "The",
    "the",
    "Tue",
    "On",
    "J",
    "Bildad",
    "B",
    "No",
    "7",
    "12",
    "late",
    "men",
    "He",
    "it",
]
WORDS += ["I", "A", "e.g", "p.m", "U.S.", "Mr.", "etc", "х", "Он", "он"]


def test_it_decides_as_nltk_does() -> None:
    trainer = nltk_punkt.PunktTrainer()
    trainer.ABBREV = 0.6
    trainer.train(TEXT * 30)
    parameters = trainer.get_params()
    ours = Punkt(
        "klingon",
        frozenset(parameters.abbrev_types),
        frozenset(parameters.collocations),
        frozenset(parameters.sent_starters),
        dict(parameters.ortho_context),
    )
    assert ours == load_punkt([TEXT * 30], "klingon")  # a language without rules
    theirs = nltk_punkt.PunktSentenceTokenizer(parameters)
    for word in WORDS:
        for following in WORDS:
            expected = theirs.text_contains_sentbreak(f"{word.rstrip('.')}. {following}")
            assert ours.ends(word.rstrip("."), following) == expected, (word, following)


def test_the_bits_are_those_of_nltk() -> None:
    seen = {"inside": nltk_punkt._ORTHO_MID_UC, "begin": nltk_punkt._ORTHO_BEG_UC | nltk_punkt._ORTHO_MID_LC}
    punkt = Punkt("english", contexts=seen)
    assert punkt.is_name("Inside") and not punkt.is_name("Begin")
    assert punkt.begins("Begin") is True and punkt.begins("Inside") is None


def test_what_was_learnt_goes_through_json_in_a_fixed_order() -> None:
    learnt = load_punkt([TEXT * 30])
    saved = json.loads(json.dumps(learnt.to_json()))
    assert Punkt.from_json(saved) == learnt
    shuffled = dict(random.sample(sorted(learnt.contexts.items()), len(learnt.contexts)))
    again = Punkt("english", learnt.abbreviations, learnt.collocations, learnt.starters, shuffled)
    assert json.dumps(again.to_json()) == json.dumps(learnt.to_json())


def test_installed_data_is_used_and_only_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tokenizers" / "punkt_tab" / "klingon"
    folder.mkdir(parents=True)
    (folder / "collocations.tab").write_text("##number##\tqwx\n")
    (folder / "sent_starters.txt").write_text("qwy\n")
    (folder / "abbrev_types.txt").write_text("qwz\n")
    (folder / "ortho_context.tab").write_text("qwy\t8\n")
    with monkeypatch.context() as patched:
        patched.setattr("nltk.data.path", [str(tmp_path)])
        punkt = load_punkt(["nothing"], "klingon")
        assert (
            punkt.installed
            and punkt.abbreviations == {"qwz"}
            and not punkt.ends("qwz", "Qwx")
            and punkt.ends("qwz", "Qwy")
        )
        assert punkt.to_json() == {"language": "klingon", "punkt_tab": True}
        assert Punkt.from_json(punkt.to_json()) == punkt
    with pytest.raises(ValueError, match="punkt_tab for klingon, which is not installed"):
        Punkt.from_json(punkt.to_json())
    assert not load_punkt(["nothing"], "../klingon").installed


@pytest.mark.parametrize("text", ["x" * 300_000, "a. " * 20_000, "\n" * 100_000, "\ud800\0", ""])
def test_it_learns_from_anything(text: str) -> None:
    assert load_punkt([text, text]).language == "english"
