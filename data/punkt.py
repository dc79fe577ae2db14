"""Punkt (Kiss and Strunk 2006, doi:10.1162/coli.2006.32.4.485): nltk learns from raw text, we keep and apply it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data.languages import DEFAULT, rules_of

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktParameters

ENDS = ".!?…‼⁇⁈⁉؟۔।॥։።"  # what may end a sentence before a space
_TRAINING_CHARS = 1_000_000
_LONGEST_LINE = 10_000  # nltk gives a regular expression five seconds a line
_NO_WORD = re.compile(r"\S{100,}")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*")
# Where a word was seen with a capital (at the beginning of a sentence, inside one, unknown) or without: nltk's bits.
_INSIDE_UPPER, _UPPER, _BEGIN_LOWER, _LOWER = 1 << 2, 0b1110, 1 << 4, 0b1110000


@dataclass(frozen=True)
class Punkt:
    """What Punkt has learnt of a language. `ends` decides as nltk's tokenizer does.

    Attributes:
        language: its name.
        abbreviations: words that come with a full stop inside a sentence.
        collocations: pairs of words with a full stop between them that belong together.
        starters: words that often begin a sentence.
        contexts: word -> where it was seen with and without a capital, as nltk's bits.
        installed: whether it is nltk's `punkt_tab` and not learnt here.
    """

    language: str
    abbreviations: frozenset[str] = frozenset()
    collocations: frozenset[tuple[str, str]] = frozenset()
    starters: frozenset[str] = frozenset()
    contexts: Mapping[str, int] = field(default_factory=dict)
    installed: bool = False

    def ends(self, word: str, following: str) -> bool:
        """Says whether a sentence ends between a word with a full stop and the next word.

        Args:
            word: as written, without its full stop.
            following: as written, with its own full stop if it has one.
        """
        typ, next_typ = _type(word), self._next_type(following)
        if (typ, next_typ) in self.collocations:
            return False
        abbreviation = typ in self.abbreviations or typ.rsplit("-", 1)[-1] in self.abbreviations
        initial = len(word) == 1 and word.isalpha()
        begins = self.begins(following)
        if abbreviation and not initial:
            return begins is True or (following[:1].isupper() and next_typ in self.starters)
        if initial or typ == "##number##":
            seen_lower = self.contexts.get(next_typ, 0) & _LOWER
            if begins is False or (begins is None and initial and following[:1].isupper() and not seen_lower):
                return False
        return not abbreviation

    def begins(self, word: str) -> bool | None:
        """Says whether a word begins a sentence, by its capital and where it was seen with one; None: unknown."""
        context = self.contexts.get(self._next_type(word), 0)
        if word[:1].isupper() and context & _LOWER and not context & _INSIDE_UPPER:
            return True
        if word[:1].islower() and (context & _UPPER or not context & _BEGIN_LOWER):
            return False
        return None

    def is_name(self, word: str) -> bool:
        """Says whether a word was seen with a capital inside sentences and never without one."""
        context = self.contexts.get(self._next_type(word), 0)
        return bool(context & _INSIDE_UPPER) and not context & _LOWER

    def to_json(self) -> dict[str, Any]:
        """Returns what was learnt as plain JSON, in a fixed order; of `punkt_tab` only the name."""
        if self.installed:
            return {"language": self.language, "punkt_tab": True}
        return {
            "language": self.language,
            "abbreviations": sorted(self.abbreviations),
            "collocations": sorted(map(list, self.collocations)),
            "starters": sorted(self.starters),
            "contexts": dict(sorted(self.contexts.items())),
        }

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> "Punkt":
        """Returns what `to_json` saved.

        Raises:
            ValueError: it names nltk's `punkt_tab`, which is not installed here.
        """
        language = saved["language"]
        if saved.get("punkt_tab"):
            punkt = _find_installed(language)
            if punkt is None:
                raise ValueError(
                    f"the texts were split with nltk's punkt_tab for {language}, which is not installed here; "
                    'install it with nltk.download("punkt_tab")'
                )
            return punkt
        return Punkt(
            language,
            abbreviations=frozenset(saved["abbreviations"]),
            collocations=frozenset((first, second) for first, second in saved["collocations"]),
            starters=frozenset(saved["starters"]),
            contexts=dict(saved["contexts"]),
        )

    def _next_type(self, word: str) -> str:
        """Returns the type of a word whose full stop, if it is no abbreviation, ends a sentence and goes."""
        typ = _type(word.removesuffix("."))
        return f"{typ}." if word.endswith(".") and typ in self.abbreviations else typ


def _type(word: str) -> str:
    return "##number##" if _NUMBER.fullmatch(word) else word.lower()


def load_punkt(texts: Iterable[str], language: str = DEFAULT) -> Punkt:
    """Returns Punkt for a language: nltk's `punkt_tab` if it is installed, or else learnt from the texts themselves.

    Of texts above a million characters it sees every n-th.
    """
    installed = _find_installed(language)
    if installed is not None:
        return installed
    parameters = _train(_sample(texts))
    abbreviations = parameters.abbrev_types
    vowels = rules_of(language).vowels
    if vowels:  # a text made from templates repeats whole words so often that they pass for abbreviations
        abbreviations = {word for word in abbreviations if "." in word or not any(map(vowels.__contains__, word))}
    return Punkt(
        language,
        frozenset(abbreviations),
        frozenset(parameters.collocations),
        frozenset(parameters.sent_starters),
        dict(parameters.ortho_context),
    )


def _find_installed(language: str) -> Punkt | None:
    from nltk.data import find
    from nltk.tokenize.punkt import load_punkt_params

    if not re.fullmatch(r"[\w-]+", language):
        return None
    try:
        parameters = load_punkt_params(find(f"tokenizers/punkt_tab/{language}/"))
    except LookupError:
        return None
    return Punkt(
        language,
        frozenset(parameters.abbrev_types),
        frozenset(parameters.collocations),
        frozenset(parameters.sent_starters),
        dict(parameters.ortho_context),
        installed=True,
    )


def _sample(texts: Iterable[str]) -> str:
    """Returns about a million characters of the texts, in paragraphs, without what is no word and in short lines."""
    pieces = [piece for text in texts for piece in _lines(text)]
    stride = 1 + sum(map(len, pieces)) // _TRAINING_CHARS
    return _NO_WORD.sub(" ", "".join(pieces[::stride]))


def _lines(text: str) -> Iterator[str]:
    """Yields a text in pieces that end with a line, the last one with a paragraph."""
    start = 0
    while len(text) - start > _LONGEST_LINE:
        end = text.rfind(" ", start + 1, start + _LONGEST_LINE)
        end = end if end > 0 else start + _LONGEST_LINE
        yield f"{text[start:end]}\n"
        start = end
    yield f"{text[start:]}\n\n"


def _train(text: str) -> "PunktParameters":
    from nltk.tokenize.punkt import PunktLanguageVars, PunktTrainer

    class Variables(PunktLanguageVars):
        sent_end_chars = tuple(ENDS)  # type: ignore[assignment]

    trainer = PunktTrainer(lang_vars=Variables())
    # The default of .3 takes every short word that is seen once, at the end of a sentence, for an abbreviation: on
    # Grimm, Shakespeare, speeches and Moby-Dick all between .3 and .6 were such ("ice", "age", "nap") or are in our own
    # lists.
    trainer.ABBREV = 0.6
    trainer.train(text)
    return trainer.get_params()
