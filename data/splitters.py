"""Splitters of a whole corpus: learnt once from a sample of it, sent to other machines as JSON, the same everywhere."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data.document import Document
from data.languages import language_of
from data.punkt import Punkt, load_punkt
from data.sentences import MAX_CHARS, RULES, check_width, cut_long, paragraphs_of, split_sentences
from encoders.hub import fetch_snapshot
from encoders.text import clean_text

if TYPE_CHECKING:
    from wtpsplit import SaT

PUNKT, WTPSPLIT = "punkt", "wtpsplit"
_OWNER, _TOKENIZER = "segment-any-text", "facebookAI/xlm-roberta-base"  # of SaT models on the hub
_NO_TOKENIZER = ("*.safetensors", "*.bin", "*.msgpack", "*.h5", "onnx/*")
_SHORT = 20  # characters: so short a text may hold nothing that the tokenizer knows


class Splitter(Protocol):
    """What cuts texts into sentences; what it returns for a text depends on nothing that it split before."""

    def split(self, text: str, language: str, max_chars: int = MAX_CHARS) -> list[str]:
        """Returns the sentences of a text, each on one line; nothing is lost but white space."""
        ...

    def describe(self) -> str:
        """Returns in words how texts are split; where it differs, the sentences may."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns all that `splitter_from_json` needs, the same for the same splitter."""
        ...


class CorpusSplitter:
    """Splits by Punkt and our rules, with a Punkt for each language of a sample of the corpus."""

    def __init__(self, punkts: Mapping[str, Punkt]) -> None:
        self._punkts = dict(sorted(punkts.items()))

    @staticmethod
    def train(documents: Sequence[Document]) -> "CorpusSplitter":
        """Returns a splitter that has learnt the languages of these documents, of each from a million characters."""
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for document in documents:
            texts[language_of(document)] += [block.text for block in document.blocks]
        return CorpusSplitter({language: load_punkt(of_it, language) for language, of_it in texts.items()})

    def split(self, text: str, language: str, max_chars: int = MAX_CHARS) -> list[str]:
        """Returns the sentences of a text, each on one line; nothing is lost but white space.

        Args:
            text: any text.
            language: as Punkt names it; one that was not in the sample is learnt from this text, for this call only.
            max_chars: longer sentences are cut at their best boundary.
        """
        return split_sentences(text, language, punkt=self._punkts.get(language), max_chars=max_chars)

    def describe(self) -> str:
        """Returns in words how texts are split; where it differs, the sentences may."""
        described = [
            f"punkt_tab {language}" if punkt.installed else f"punkt trained on the corpus, {language}"
            for language, punkt in self._punkts.items()
        ]
        return f"{'; '.join(described)}; rules {RULES}"

    def to_json(self) -> dict[str, Any]:
        """Returns what was learnt as plain JSON in a fixed order, so that its hash is stable."""
        punkts = {language: punkt.to_json() for language, punkt in self._punkts.items()}
        return {"splitter": PUNKT, "rules": RULES, "languages": punkts}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> "CorpusSplitter":
        """Returns the splitter that `to_json` saved.

        Raises:
            ValueError: it was saved by a version with other rules, or needs nltk's `punkt_tab`.
        """
        if saved["rules"] != RULES:
            raise ValueError(
                f"the texts were split by rules {saved['rules']}, this version has rules {RULES}; encode them again"
            )
        return CorpusSplitter({language: Punkt.from_json(punkt) for language, punkt in saved["languages"].items()})


class WtpSplitter:
    """Splits by a SaT model ("Segment any Text", arXiv:2406.16678) of the package wtpsplit, for 85 languages.

    Args:
        model: name of a SaT model on the hub, like sat-3l-sm, or "owner/name", or a folder. A folder may hold its
            tokenizer; the others share XLM-RoBERTa's.

    Raises:
        ImportError: wtpsplit is not installed.
        FileNotFoundError: no such model.
    """

    def __init__(self, model: str) -> None:
        if find_spec("wtpsplit") is None:
            raise ImportError('wtpsplit is not installed; run pip install "concept-lm[wtpsplit]"')
        self.model = model
        self._folder = _find_model(model)
        # The published ones: .25 for the models that were trained on sentences (-sm), .025 for the others.
        self._threshold = 0.25 if "-sm" in Path(model).name else 0.025

    def split(self, text: str, language: str, max_chars: int = MAX_CHARS) -> list[str]:
        """Returns the sentences of a text, each on one line; nothing is lost but white space.

        Args:
            text: any text.
            language: not used: the model needs none.
            max_chars: longer sentences are cut at their best boundary.
        """
        check_width(max_chars)
        paragraphs = [paragraph for paragraph in paragraphs_of(text) if paragraph]
        return [
            piece
            for paragraph, lengths in zip(paragraphs, self._lengths(paragraphs), strict=True)
            for sentence in _cut_at(paragraph, lengths)
            for piece in cut_long(sentence, max_chars)
        ]

    def describe(self) -> str:
        """Returns in words how texts are split; where it differs, the sentences may."""
        return f"wtpsplit {Path(self.model).name} ({self._fingerprint}), threshold {self._threshold}"

    def to_json(self) -> dict[str, Any]:
        """Returns the name and the hash of the model."""
        return {"splitter": WTPSPLIT, "model": self.model, "fingerprint": self._fingerprint}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> "WtpSplitter":
        """Returns the splitter that `to_json` saved.

        Raises:
            ValueError: the model of that name has other files here.
        """
        splitter = WtpSplitter(saved["model"])
        if splitter._fingerprint != saved["fingerprint"]:
            raise ValueError(
                f"the texts were split by {saved['model']} ({saved['fingerprint']}), but here that model is "
                f"{splitter._fingerprint}; use the same files, or encode the texts again"
            )
        return splitter

    @cached_property
    def _fingerprint(self) -> str:
        """Hex hash of the files that decide, the same on any machine."""
        files = sorted(file for file in self._folder.iterdir() if file.is_file())
        weights = ".safetensors" if any(file.suffix == ".safetensors" for file in files) else ".bin"
        digest = hashlib.sha256()
        for file in files:
            if file.suffix in (weights, ".json"):
                with file.open("rb") as opened:
                    digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _sat(self) -> "SaT":
        import warnings

        with warnings.catch_warnings():  # wtpsplit sets filters for the whole process
            from wtpsplit import SaT

        tokenizer = self._folder
        if not (tokenizer / "tokenizer.json").is_file():
            tokenizer = fetch_snapshot(_TOKENIZER, kind="model", ignore=_NO_TOKENIZER)
        return SaT(str(self._folder), tokenizer_name_or_path=str(tokenizer))

    def _lengths(self, paragraphs: Sequence[str]) -> list[list[int]]:
        """Returns for each paragraph the lengths of its sentences, white space behind them included."""
        texts = [clean_text(paragraph) for paragraph in paragraphs]  # as long; a tokenizer takes no lone surrogate
        known = [len(text) > _SHORT or bool(self._sat.tokenizer.tokenize(text)) for text in texts]
        if not any(known):
            return [[len(text)] for text in texts]
        split = self._sat.split(list(compress(texts, known)), threshold=self._threshold)
        return [
            list(map(len, next(split))) if is_known else [len(text)]
            for text, is_known in zip(texts, known, strict=True)
        ]


def make_splitter(name: str, documents: Sequence[Document]) -> CorpusSplitter | WtpSplitter:
    """Returns the splitter of that name.

    Args:
        name: "punkt", or "wtpsplit:MODEL" with the name or the folder of a SaT model.
        documents: a sample of the corpus, which Punkt learns from.

    Raises:
        ValueError: no such splitter.
    """
    kind, _, model = name.partition(":")
    if kind == WTPSPLIT and model:
        return WtpSplitter(model)
    if name != PUNKT:
        raise ValueError(f'there is no splitter "{name}"; take punkt, or wtpsplit:MODEL as in wtpsplit:sat-3l-sm')
    return CorpusSplitter.train(documents)


def splitter_from_json(saved: Mapping[str, Any]) -> CorpusSplitter | WtpSplitter:
    """Returns the splitter whose `to_json` gave this.

    Raises:
        ValueError: it cannot be had here; the message says why.
    """
    return WtpSplitter.from_json(saved) if saved["splitter"] == WTPSPLIT else CorpusSplitter.from_json(saved)


def _find_model(model: str) -> Path:
    folder = Path(model)
    if not folder.is_dir():
        name = model if "/" in model else f"{_OWNER}/{model}"
        folder = fetch_snapshot(name, kind="model", ignore=["*.onnx", "loras/*", "*.bin.index.json"])
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"the folder {model} holds no SaT model: it has no config.json")
    return folder


def _cut_at(text: str, lengths: Sequence[int]) -> list[str]:
    pieces, start = [], 0
    for length in lengths:
        pieces.append(text[start : start + length].strip())
        start += length
    assert start == len(text), (start, len(text))
    return [piece for piece in pieces if piece]
