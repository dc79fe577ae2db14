from collections.abc import Iterable


def clean_text(text: str) -> str:
    """Returns the text with what UTF-8 or a tokenizer cannot hold replaced: a lone surrogate by "?", NUL by U+FFFD.

    The length in characters does not change.
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def clean_sentences(sentences: Iterable[str]) -> list[str]:
    """Returns the sentences, each cleaned, so that one bad sentence cannot take its batch down.

    Raises:
        TypeError: something that is not a string, named by its index.
    """
    if isinstance(sentences, str):
        raise TypeError("expected a sequence of sentences, got one string; put it into a list")
    cleaned = []
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"sentence {index} is a {type(sentence).__name__}, not a string")
        cleaned.append(clean_text(sentence))
    return cleaned
