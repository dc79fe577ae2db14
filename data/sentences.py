import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

MAX_CHARS = 250
RULES = 1  # raise it when a rule of this file changes: stores are then split anew

_CLOSING = "\"'’”»)\\]"
_OPENING = re.compile("[\"'‘“«(\\[—_*-]*")
_PARAGRAPH = re.compile(r"\n\s*\n")
_NUMERAL = re.compile(rf"{_OPENING.pattern}(?:\d{{1,3}}|[IVXLC]{{2,}})[.)]")
_CRY = re.compile(rf"{_OPENING.pattern}\w{{1,3}}!")
_CONJUNCTION = (
    "and|but|or|nor|for|yet|so|which|who|whom|where|when|while|because|since|although|though|if|unless|until|"
    "as|than|that"
)
# Where a long sentence may be cut, best first, and what that costs, in sentence lengths from its middle.
_CUTS = (
    (re.compile(rf"[;:!?][{_CLOSING}]*\s+|(?:—|--)[{_CLOSING}]*\s*"), 0.0),
    (re.compile(rf",[{_CLOSING}]*\s+(?=(?:{_CONJUNCTION})\b)"), 0.1),
    (re.compile(rf",[{_CLOSING}]*\s+"), 0.2),
    (re.compile(r"\s+"), 0.45),
)
# English words with a full stop that a short corpus holds too rarely for Punkt to learn, or also holds without it.
_ENGLISH = "english"
_TITLES = "mr|mrs|ms|messrs|mme|mlle|dr|st|rev|hon|capt|col|gen|lieut|lt|sgt|maj|prof"  # a name follows
_NUMBERED = "no|nos|art|sec|vol|ch|fig|p|pp"  # a number follows, or they end a sentence
_ABBREVIATIONS = "etc|viz|esq|sr|jr|vs|cf|ult|inst|vol|i.e|e.g"
_VOWEL = re.compile("[aeiouy]")
_TRAINING_CHARS = 1_000_000


def split_sentences(
    text: str, language: str = "english", *, punkt: "PunktSentenceTokenizer | None" = None, max_chars: int = MAX_CHARS
) -> list[str]:
    """Returns the sentences of a text, each on one line with single spaces; nothing is lost but white space.

    A blank line always ends a sentence. Sentences above `max_chars` are cut again where it hurts least.

    Args:
        text: any text; verse lines are joined.
        language: as nltk's Punkt names it.
        punkt: a splitter from `load_punkt`, which a caller with many texts makes once; None makes one from this text.
        max_chars: longest sentence in characters; a longer one embeds and decodes badly.
    """
    if max_chars < 2:
        raise ValueError(f"max_chars must be at least 2, got {max_chars}")
    paragraphs = [" ".join(paragraph.split()) for paragraph in _PARAGRAPH.split(text)]
    if punkt is None:
        punkt = load_punkt(paragraphs, language)
    return [
        piece
        for paragraph in paragraphs
        for sentence in _rejoin(punkt.tokenize(paragraph), language)
        for piece in cut_long(sentence, max_chars)
    ]


def load_punkt(texts: Iterable[str], language: str = "english") -> "PunktSentenceTokenizer":
    """Returns nltk's Punkt for a language: its installed `punkt_tab`, or else one trained on the texts themselves.

    Punkt (Kiss and Strunk 2006, doi:10.1162/coli.2006.32.4.485) learns from raw text which words end in a full stop
    without ending a sentence. Of a corpus above a million characters it sees every n-th text.
    """
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTokenizer

    try:
        return PunktTokenizer(language)
    except (LookupError, ValueError):  # its data is not installed, or there is none for this language
        return PunktSentenceTokenizer(_train(list(texts), language))


def describe_splitter(languages: Iterable[str]) -> str:
    """Returns in words how texts of these languages are split here; where it differs, the sentences may."""
    from nltk.data import find

    described = []
    for language in sorted(set(languages)):
        try:
            find(f"tokenizers/punkt_tab/{language}/")
            described.append(f"punkt_tab {language}")
        except LookupError:
            described.append(f"punkt trained on the corpus, {language}")
    return f"{'; '.join(described)}; rules {RULES}"


def _train(texts: list[str], language: str) -> "PunktParameters":
    from nltk.tokenize.punkt import PunktTrainer

    stride = 1 + sum(map(len, texts)) // _TRAINING_CHARS
    trainer = PunktTrainer()
    # The default of .3 takes every short word that is seen once, at the end of a sentence, for an abbreviation: on
    # Grimm, Shakespeare, speeches and Moby-Dick all between .3 and .6 were such ("ice", "age", "nap") or are in our own
    # lists.
    trainer.ABBREV = 0.6
    trainer.train("\n\n".join(texts[::stride]))
    parameters = trainer.get_params()
    if (
        language == _ENGLISH
    ):  # a text made from templates repeats such words so often that they pass: a vowel gives them away
        learnt = {word for word in parameters.abbrev_types if "." in word or not _VOWEL.search(word)}
        parameters.abbrev_types = learnt.union(_TITLES.split("|"), _ABBREVIATIONS.split("|"))
    return parameters


def _rejoin(sentences: list[str], language: str) -> list[str]:
    """Puts together again what Punkt cuts too often: it trusts every "!", and takes "Mr. Root" for two sentences."""
    joined: list[str] = []
    for sentence in sentences:
        if joined and _belongs_together(joined[-1], sentence, language):
            joined[-1] += " " + sentence
        else:
            joined.append(sentence)
    return joined


def _belongs_together(before: str, after: str, language: str) -> bool:
    """Says whether two pieces are one sentence, by the end of one and the beginning of the other.

    Lower case goes on a sentence ("Ah! perhaps", "'Who is it?' asked the king"), but for texts that use no capitals.
    """
    starts = _OPENING.sub("", after, count=1)[:1]
    if not any(map(str.isalnum, after)) or not any(map(str.isalnum, before)):
        return True
    if _NUMERAL.fullmatch(before) or _CRY.fullmatch(before) or (starts.islower() and not before[0].islower()):
        return True
    last_word = _OPENING.sub("", before.rsplit(" ", 1)[-1], count=1).lower()
    if language != _ENGLISH or not last_word.endswith("."):
        return False
    word = last_word[:-1]
    return word in _TITLES.split("|") or (word in _NUMBERED.split("|") and starts.isdigit())


def cut_long(sentence: str, max_chars: int = MAX_CHARS) -> list[str]:
    """Returns the sentence in pieces of at most `max_chars`: cut near its middle at the best boundary, again and again.

    Best is after a semicolon, colon or dash, then after a comma before a conjunction, a comma, a space; a single word
    that is too long is cut in half.
    """
    if len(sentence) <= max_chars:
        return [sentence] if sentence else []
    middle = _best_cut(sentence)
    halves = (sentence[:middle].rstrip(), sentence[middle:].lstrip())
    return [piece for half in halves for piece in cut_long(half, max_chars)]


def _best_cut(sentence: str) -> int:
    """Returns where to cut: the boundary with the least sum of its rank's cost and its distance from the middle."""
    length = len(sentence)
    best, best_cost = length // 2, 1.0
    for pattern, cost in _CUTS:
        for found in pattern.finditer(sentence):
            total = cost + abs(found.end() / length - 0.5)
            if 0 < found.end() < length and total < best_cost:
                best, best_cost = found.end(), total
    return best
