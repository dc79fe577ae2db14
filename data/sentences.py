"""Text to sentences: Punkt and the rules of the language say where one ends; what is too long is cut again."""

import re
import unicodedata
from collections.abc import Iterator

from data.languages import DEFAULT, LanguageRules, rules_of
from data.punkt import ENDS, Punkt, load_punkt

__all__ = ["MAX_CHARS", "RULES", "cut_long", "load_punkt", "split_sentences"]

MAX_CHARS = 250
RULES = 2  # raise it when a rule changes, here or in data/languages.py: stores are then split anew

_CLOSING = "\"'’”“»«›‹)\\]}*_"  # “ closes „German“ and „русские“ quotes, « closes »Danish« ones
_OPENING = "\"'‘’“”„«»‹›(\\[{—–―*_¿¡\\-"
_WIDE_ENDS, _WIDE_CLOSING = "。！？｡", "」』”’）】》"
_PARAGRAPH = re.compile(r"\n\s*\n")
# An end, the quotes and brackets that close behind it, perhaps a footnote; then a space, or else what is often written
# without one: a dash behind a quote, an opening bracket. It matches from the first end of a run on in any case, so that
# a long run is read once.
_END = re.compile(
    rf"[{re.escape(ENDS)}][{re.escape(ENDS)}{_CLOSING}]*+(?:\[\d{{1,3}}\]|[¹²³⁴-⁹]+)?+"
    rf"( |(?<=[\"'”’»])(?=--|—)|(?=[(\[“«„][^\W\d_]))?|"
    rf"[{_WIDE_ENDS}][{_WIDE_ENDS}…]*+([{_WIDE_CLOSING}]?) ?"
)
_LETTER = re.compile(r"[^\W_]")
_AHEAD = re.compile(
    rf"([{_OPENING} ]{{0,12}}(?:(?:\.{{2,3}}|…)(?=[^\W_]))?)"
    rf"([^\W_]{{1,40}}(?:['’][A-ZА-Я][^\W_]{{1,20}})?(?:[.-][^\W_]{{1,20}}){{0,4}}\.?)?"
)
_LAST_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*$")
_ROMAN = re.compile(r"[IVXLC]+")
_LIST_NUMBER = re.compile(rf"[{_OPENING}]{{0,3}}(?:\d{{1,3}}(?:\.\d{{1,3}}){{0,3}}|[IVXLC]{{2,}}|[A-ZА-ЮЁ])[.)]")
_CRY = re.compile(rf"[{_OPENING} ]{{0,4}}\w{{1,3}}!")
_WORD_LENGTH = 40  # no longer word is an abbreviation
_CONJUNCTION = (
    "and|but|or|nor|for|yet|so|which|who|whom|where|when|while|because|since|although|though|if|unless|until|as|than|"
    "that|и|а|но|или|что|чтобы|который|которая|которое|которые|где|когда|пока|если|хотя|потому|так|как|чем"
)
# Where a long sentence may be cut, best first, and what that costs, in sentence lengths from its middle.
_CUTS = (
    (re.compile(r"[;:!?…][\"'’”»)\]]*+\s+|(?:—|--)[\"'’”»)\]]*+\s*|[；：！？。]"), 0.0),
    (re.compile(rf",[\"'’”»)\]]*+\s+(?=(?:{_CONJUNCTION})\b)"), 0.1),
    (re.compile(r",[\"'’”»)\]]*+\s+|[，、]"), 0.2),
    (re.compile(r"\s+"), 0.45),
)
_WINDOW = 16  # times the longest sentence: a longer one is cut from left to right, which takes linear time


def split_sentences(
    text: str, language: str = DEFAULT, *, punkt: Punkt | None = None, max_chars: int = MAX_CHARS
) -> list[str]:
    """Returns the sentences of a text, each on one line with single spaces; nothing is lost but white space.

    A blank line always ends a sentence. Sentences above `max_chars` are cut again where it hurts least.

    Args:
        text: any text; verse lines are joined.
        language: as nltk's Punkt names it.
        punkt: from `load_punkt`, which a caller with many texts makes once; None learns from this text.
        max_chars: longest sentence in characters; a longer one embeds and decodes badly.
    """
    check_width(max_chars)
    paragraphs = paragraphs_of(text)
    if punkt is None:
        punkt = load_punkt(paragraphs, language)
    rules = rules_of(language)
    return [
        piece
        for paragraph in paragraphs
        for sentence in _split_paragraph(paragraph, punkt, rules)
        for piece in cut_long(sentence, max_chars)
    ]


def check_width(max_chars: int) -> None:
    """Refuses a width that no sentence can be cut to."""
    if max_chars < 2:
        raise ValueError(f"max_chars must be at least 2, got {max_chars}")


def paragraphs_of(text: str) -> list[str]:
    """Returns what stands between blank lines, each on one line with single spaces."""
    return [" ".join(paragraph.split()) for paragraph in _PARAGRAPH.split(text)]


def _split_paragraph(text: str, punkt: Punkt, rules: LanguageRules) -> Iterator[str]:
    """Yields the sentences of one line; a piece without a letter or digit goes with the sentence before it."""
    start = read = 0  # of the sentence; up to where it was searched for a letter
    letter = -1  # where the first one stands
    held: tuple[int, int] | None = None  # the sentence before
    for found in _END.finditer(text):
        if letter < 0:
            first = _LETTER.search(text, read, found.start())
            letter, read = (first.start() if first else -1), found.start()
        end = found.end()
        if letter < 0 or end == len(text) or not _ends_sentence(text, start, letter, found, punkt=punkt, rules=rules):
            continue
        if held:
            yield text[slice(*held)].rstrip(" ")
        held, start, read, letter = (start, end), end, end, -1
    if held and (letter >= 0 or _LETTER.search(text, read)):
        yield text[slice(*held)].rstrip(" ")
        held = None
    last = text[held[0] if held else start :]
    if last:
        yield last


def _ends_sentence(
    text: str, start: int, letter: int, found: re.Match[str], *, punkt: Punkt, rules: LanguageRules
) -> bool:
    """Says whether the sentence in work ends with the full stop, question mark ... that was found.

    Args:
        text: one line.
        start: where the sentence begins.
        letter: where its first letter or digit stands.
        found: a match of `_END`.
        punkt: of the language.
        rules: of the language.
    """
    if found[2] is not None:  # wide punctuation, which needs no space; behind a quote the speaker may follow
        return not found[2]
    ahead = _AHEAD.match(text, found.end())
    if found[1] is None or ahead is None:
        return False
    gap, following = ahead.groups("")
    if not found[1] and not following[:1].isupper():
        return False
    if not following and text[ahead.end() : ahead.end() + 1] in ENDS:
        return False  # ". . .": the last one decides
    dash = any(map(gap.__contains__, "—–―-"))
    if following[:1].islower() and (dash or not text[letter].islower()):
        return False  # lower case goes on a sentence, but for texts that use no capitals
    if not dash and found.end() - start < _WORD_LENGTH and _stands_alone(text, start, found):
        return False
    marks = found[0].translate(_NO_MARKS)
    token_at = max(text.rfind(" ", start, found.start()) + 1, start, found.start() - _WORD_LENGTH)
    token = text[token_at : found.start()]
    word = _LAST_WORD.search(token.rstrip(_CLOSING))
    if marks.strip(".…"):  # "(!)" is a remark inside a sentence
        return not token.endswith("(")
    if not word and not token.strip(_CLOSING + _OPENING):  # "... That all men are equal" begins with an ellipsis
        return not token and following[:1].isupper()
    if not word:  # "60 %."
        return marks == "." or following[:1].isupper()
    if marks != ".":
        return dash or _ends_with_ellipsis(word[0], following, punkt, rules)
    before = token[: word.start()] or text[max(start, token_at - _WORD_LENGTH) : token_at].split(" ")[-2:][0]
    if not _QUOTES.isdisjoint(found[0]) and following[:1].isupper() and word[0].lower() not in rules.titles:
        return True  # the capital "H." And then ...
    return _ends_with_stop(before, word[0], following, punkt, rules)


_QUOTES = frozenset("\"'’”“»")
_NO_MARKS = {ord(char): None for char in _CLOSING.replace("\\", "") + "[ 0123456789¹²³⁴⁵⁶⁷⁸⁹"}


def _stands_alone(text: str, start: int, found: re.Match[str]) -> bool:
    """Says whether all before is a number ("II.") or a cry ("Oh!") that belongs to what follows."""
    end = found.start(1)
    return bool(_LIST_NUMBER.fullmatch(text, start, end) or _CRY.fullmatch(text, start, end))


def _ends_with_stop(before: str, word: str, following: str, punkt: Punkt, rules: LanguageRules) -> bool:
    """Says whether a sentence ends between "word." and the word after it.

    Args:
        before: what stands before, "т." in "т. д.", "(" in "(см."
        word: without its full stop.
        following: with its own, if it has one.
        punkt: of the language.
        rules: of the language.
    """
    capital = following[:1].isupper()
    starter = capital and _is_starter(following, rules)
    initial = rules.initials and _is_initial(word)
    for key in _keys(before, word):
        if initial and len(key) == 1:
            continue  # "С." is no "с."
        if key in rules.behind:
            return not rules.behind[key].fullmatch(before)
        if key in rules.titles or (key in rules.numbered and _is_number(following, rules)):
            return False
        if key in rules.closers:
            return capital or not following
        if key in rules.abbreviations:
            return starter or (capital and punkt.begins(following) is True)
    if rules.is_abbreviation(f"{word}.{following.removesuffix('.')}".lower()):  # "т." before "д.", "z." before "B."
        return False
    if word.isdigit() and following.lower().removesuffix(".") in rules.ordinals:
        return False
    if initial:
        return _ends_with_initial(before, word, following, punkt, rules)
    if word in rules.pronouns or (starter and len(word) > 1 and word.lower() in punkt.abbreviations):
        return True
    return punkt.ends(word, following)


def _keys(before: str, word: str) -> Iterator[str]:
    """Yields what a word is looked up as: with the abbreviation before it ("т.д"), whole, behind its last hyphen."""
    key = word.lower()
    if len(key) <= 2 and before.endswith(".") and len(before) <= 4:
        yield before.lower().lstrip("\"'«„“(") + key
    yield key
    if "-" in key:
        yield key.rpartition("-")[2]


def _is_number(word: str, rules: LanguageRules) -> bool:
    roman = _ROMAN.fullmatch(word.removesuffix("."))
    return word[:1].isdigit() or (roman is not None and roman[0].lower() not in rules.pronouns)


def _is_starter(word: str, rules: LanguageRules) -> bool:
    """Says whether a word with a capital, but no initial and no word in a line of capitals, often begins sentences."""
    if len(word) > 1 and word.isupper():
        return False
    return word.lower().removesuffix(".") in rules.starters


def _is_initial(word: str) -> bool:
    return all(len(part) == 1 and part.isupper() for part in word.split("."))


def _ends_with_initial(before: str, word: str, following: str, punkt: Punkt, rules: LanguageRules) -> bool:
    """Says whether a sentence ends behind a capital with a full stop: "А. С. Пушкин", but "витамин С. Он"."""
    if following.endswith(".") and _is_initial(following[:-1]):
        return False
    if before.lower() in rules.headings and _ROMAN.fullmatch(word):
        return True
    if not following[:1].isupper():
        return not following[:1].isdigit() and punkt.ends(word, following)
    if _is_starter(following, rules):
        return True
    named = "." in word or before.removesuffix(".").lstrip("«„“(").istitle()  # "А. С. Пушкин", "Albert L. Key"
    return not named and (word.lower() in rules.pronouns or punkt.begins(following) is True)


def _ends_with_ellipsis(word: str, following: str, punkt: Punkt, rules: LanguageRules) -> bool:
    """Says whether a sentence ends between "word..." and the word after it: before a capital that is no name."""
    if not following or following[0].isdigit() or following.lower().removesuffix(".") == word.lower():
        return False  # "I... I do not know"
    return not (following[0].isupper() and punkt.is_name(following))


def cut_long(sentence: str, max_chars: int = MAX_CHARS) -> list[str]:
    """Returns the sentence in pieces of at most `max_chars`: cut near its middle at the best boundary, again and again.

    Best is after a semicolon, colon or dash, then after a comma before a conjunction, a comma, a space; a single word
    that is too long is cut in half. Takes linear time.
    """
    if len(sentence) <= max_chars:
        return [sentence] if sentence else []
    pieces, start = [], 0
    window = _WINDOW * max_chars
    while len(sentence) - start > window:
        head = sentence[start : start + window]
        cut = _best_cut(head, max_chars)
        pieces += _halve(head[:cut].strip(), max_chars)
        start += cut
    return pieces + _halve(sentence[start:].strip(), max_chars)


def _halve(sentence: str, max_chars: int) -> list[str]:
    if len(sentence) <= max_chars:
        return [sentence] if sentence else []
    cut = _best_cut(sentence, max_chars)
    return _halve(sentence[:cut].rstrip(), max_chars) + _halve(sentence[cut:].lstrip(), max_chars)


def _best_cut(sentence: str, max_chars: int) -> int:
    """Returns where to cut: the boundary with the least sum of its rank's cost and its distance from the middle."""
    length = len(sentence)
    reach = 0.5 if length <= 2 * max_chars else 0.45  # a long one is not to lose a word at a time
    best, best_cost = length // 2, 1.0
    for pattern, cost in _CUTS:
        for found in pattern.finditer(sentence):
            distance = abs(found.end() / length - 0.5)
            if distance < reach and cost + distance < best_cost:
                best, best_cost = found.end(), cost + distance
    return best if best_cost < 1.0 else _between_characters(sentence, best)


def _between_characters(word: str, cut: int) -> int:
    """Returns the cut moved behind the accents and joined emoji that belong to the character before it."""
    for moved in range(cut, min(cut + 8, len(word) - 1)):
        if not (unicodedata.combining(word[moved]) or word[moved] in _JOINERS or word[moved - 1] == "\u200d"):
            return moved
    return cut


_JOINERS = "\u200d\ufe0e\ufe0f"
