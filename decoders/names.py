"""Proper names: which of those that a reader has just met are written right."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CLOSED = r"[\s\"'’»”)\]]*"  # may stand between the end of a sentence and the next one
_START = re.compile(rf"(?:[.!?…:;]{_CLOSED}|[\"“„«‘(\[—–]|--|(?<!\w)['’]|\n)\s*$")
_TITLE = re.compile("mr|mrs|ms|dr|st|prof|rev|gen|col|capt|sir|messrs|mme|mlle|г|гг")  # before a stop that ends nothing
_POSSESSIVE = re.compile(r"['’]s?$")
# Endings of Russian nouns and adjectives, the longest first; what is left has two letters at least.
_ENDING = re.compile(
    r"(?<=\w\w)(?:иями|ами|ями|ого|его|ому|ему|ыми|ими|иях|ием|ах|ях|ой|ей|ою|ею|ом|ем|ём|ов|ев|ый|ий|ая|яя|ую|юю|ых|их|ия|ии|ию|а|я|у|ю|е|ы|и|о|й|ь)$"
)
_PRONOUN = re.compile(r"i(?:$|['’])")  # English writes it with a capital letter wherever it stands
_CYRILLIC = re.compile(r"[а-яё]")


def lowercase_words(texts: Iterable[str]) -> set[str]:
    """Return the words that texts write in lower case somewhere, without possessive endings."""
    found = (word for text in texts for word in _WORD.findall(text) if word[0].islower())
    return {_POSSESSIVE.sub("", word.lower()) for word in found}


def find_names(text: str, lowercase: Collection[str]) -> list[str]:
    """Return the proper names of a text in their order, each word by itself, as keys that ignore its ending.

    A name is a word with a capital letter, of two letters or more, that stands within a sentence or is never written in
    lower case. A sentence begins with the text, behind . ! ? … : ; a dash or an opening quote, but not behind a title
    such as "Mr."; English "I" is no name. A language that writes all nouns with capitals has none by this rule that
    could be told from them: it is made for English and Russian.

    The key is in lower case, without 's, and for a Cyrillic word without the ending of its case, so that Ивана is Иван.

    Args:
        text: one sentence or several.
        lowercase: words that the documents at hand write in lower case, as `lowercase_words` finds them.
    """
    return [
        _key(word)
        for word, begins in _capitalised(text)
        if not (begins and _POSSESSIVE.sub("", word.lower()) in lowercase)
    ]


def names_kept(
    texts: Sequence[str],
    sentences: Sequence[str],
    contexts: Sequence[str],
    lowercase: Collection[str] | None = None,
) -> tuple[int, int]:
    """Return how many of the names that stand in a sentence and before it are in what was written for it, of how many.

    A name counts once a sentence, and it is kept if it stands in the text, with a capital letter, in any of its forms.

    Args:
        texts: what was written (N).
        sentences: the true sentences (N).
        contexts: the text before each (N), two sentences say.
        lowercase: words that the documents write in lower case; those of sentences and contexts if not given.
    """
    if lowercase is None:
        lowercase = lowercase_words([*sentences, *contexts])
    kept = total = 0
    for text, sentence, context in zip(texts, sentences, contexts, strict=True):
        known = set(find_names(sentence, lowercase)) & set(find_names(context, lowercase))
        written = {_key(word) for word, _ in _capitalised(text)}
        kept, total = kept + len(known & written), total + len(known)
    return kept, total


def _capitalised(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the words with a capital letter that may be names, and whether each begins a sentence."""
    before = ""
    stop = 0
    for match in _WORD.finditer(text):
        word = match.group()
        if word[0].isupper() and len(word) > 1 and not _PRONOUN.match(word.lower()):
            gap = text[stop : match.start()]
            yield word, bool(_START.search(gap)) and not _TITLE.fullmatch(before) if stop else True
        before, stop = word.lower(), match.end()


def _key(word: str) -> str:
    key = _POSSESSIVE.sub("", word.lower())
    return _ENDING.sub("", key) if _CYRILLIC.search(key) else key
