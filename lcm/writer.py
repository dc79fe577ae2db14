"""Writing a text from an outline: concept by concept, each decoded, encoded again and read back."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from decoders.decoder import ConceptDecoder
from encoders.encoder import SentenceEncoder
from lcm.heads.head import Head
from lcm.model import ConceptModel, ReadState
from lcm.outline import POINT_LEVELS, TITLE_LEVEL, Outline, PlacedPoint


@dataclass(frozen=True)
class Line:
    """One row of a written text.

    Attributes:
        text: the sentence, or the heading as the outline has it.
        level: 0 for a sentence, above it for a heading.
        depth: layers of the outline above a heading, 0 for the title; of its point for a sentence.
        concept: concept of the text (D,), raw.
        predicted: what the model predicted for it (D,), raw; None for a heading, which the author gave.
    """

    text: str
    level: int
    depth: int
    concept: Tensor
    predicted: Tensor | None = None


class SlidingReader:
    """Lets a model read on for ever: past the trained length it starts again from the latest half of it.

    Args:
        model: a fitted model.
        length: longest sequence that the model was trained on, in rows.
    """

    def __init__(self, model: ConceptModel, length: int) -> None:
        if length < 4:
            raise ValueError(f"the length of the model's window must be at least 4 rows, found {length}")
        self.model, self.length = model, length
        self.rows: list[tuple[Tensor, int]] = []
        self.state: ReadState | None = None

    def read(self, concept: Tensor, level: int) -> None:
        """Read one raw concept (D,)."""
        self.rows.append((concept, level))
        fresh = self.rows[-1:]
        if len(self.rows) > self.length:
            self.rows = fresh = self.rows[-(self.length // 2) :]
            self.state = None
        concepts = torch.stack([concept for concept, _ in fresh])[None]
        levels = torch.tensor([[level for _, level in fresh]], device=concept.device)
        self.state = self.model.read(concepts, level=levels, state=self.state)

    def predict(self, *, generator: Generator | None = None, **sampling: Any) -> Tensor:
        """Return the next raw concept (D,)."""
        assert self.state is not None, "read something first"
        return self.model.predict_from(self.state, generator=generator, **sampling)[0]


def check_sampling(head: Head, sampling: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that the head's sample() does not have: a setting that is ignored is an error."""
    unknown = sampling.keys() - inspect.signature(head.sample).parameters.keys()
    if unknown:
        raise ValueError(f"a {type(head).__name__} has no option {', '.join(sorted(unknown))}; leave it out")


class Writer:
    """Writes texts with a concept model, a decoder and the encoder that both were trained with.

    Args:
        model: predicts the next concept.
        decoder: turns a concept into a sentence, given the text before it.
        encoder: turns the sentence back into a concept, so that the model reads what was really written.
        length: longest sequence that the model was trained on, in rows.
        levels: levels of headings that the model was trained on; none, and it knows no headings.
        decoding: options of the decoder's decode(), such as a temperature for candidates that differ.
    """

    def __init__(
        self,
        model: ConceptModel,
        decoder: ConceptDecoder,
        encoder: SentenceEncoder,
        *,
        length: int = 128,
        levels: Sequence[int] = (),
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.decoder, self.encoder, self.length = model, decoder, encoder, length
        # A heading of a level never seen would be read with an untrained vector.
        self.levels = tuple(sorted(levels, reverse=True)) or (TITLE_LEVEL, *POINT_LEVELS)
        self.decoding = dict(decoding or {})

    def concept(self, text: str) -> Tensor:
        """Return the raw concept (D,) of a text."""
        return torch.from_numpy(self.encoder.encode([text])[0])

    def write(
        self,
        outline: Outline,
        *,
        sentences_per_point: int = 6,
        anchor: float = 0.0,
        candidates: int = 1,
        generator: Generator | None = None,
        **sampling: Any,
    ) -> Iterator[Line]:
        """Yield the lines of the text in order, headings among them, each as soon as it is written.

        Args:
            outline: what to write about.
            sentences_per_point: length of a point for which the outline gives none.
            anchor: how far each predicted concept is pulled towards its point's, 0 not at all, 1 all the way.
            candidates: sentences that the decoder writes for a concept; the one whose own concept is nearest is kept.
            generator: source of randomness; the same seed gives the same text.
            **sampling: options of the head's sample().
        """
        if not 0 <= anchor <= 1 or candidates < 1 or sentences_per_point < 1:
            raise ValueError(
                f"need 0 <= anchor <= 1, candidates >= 1 and sentences_per_point >= 1, "
                f"found {anchor}, {candidates} and {sentences_per_point}"
            )
        check_sampling(self.model.head, sampling)
        reader = SlidingReader(self.model, self.length)
        written: list[str] = []
        yield self.read_heading(reader, outline.title, outline.description, self.levels[0], 0)
        points = outline.points(levels=self.levels[1:] or self.levels)
        for point, count in zip(points, outline.sentence_counts(sentences_per_point), strict=True):
            heading = self.read_heading(reader, point.text, point.description, point.level, point.depth + 1)
            yield heading
            goal = self.goal(point, heading.concept) if count else heading.concept
            for _ in range(count):
                predicted = torch.lerp(reader.predict(generator=generator, **sampling), goal, anchor)
                text, concept = self.decode(predicted, written, candidates, generator)
                reader.read(concept, 0)
                written.append(text)
                yield Line(text, 0, point.depth + 1, concept, predicted)

    def read_heading(self, reader: SlidingReader, text: str, description: str, level: int, depth: int) -> Line:
        """Read a heading, and what the author says of it as another row of its level; return its line."""
        heading = Line(text, level, depth, self.concept(text))
        reader.read(heading.concept, level)
        if description:
            reader.read(self.concept(description), level)
        return heading

    def goal(self, point: PlacedPoint, heading: Tensor) -> Tensor:
        """Return what a point is about (D,): its heading's concept, or that of heading and description."""
        return self.concept(f"{point.text}. {point.description}") if point.description else heading

    def decode(
        self, concept: Tensor, written: Sequence[str], candidates: int, generator: Generator | None
    ) -> tuple[str, Tensor]:
        """Return the sentence of a concept (D,) and that sentence's own concept (D,).

        The decoder sees the last sentence, as in its training. Of the candidates the nearest to the concept by cosine
        is kept; one that has been written before only where all have been.
        """
        context = ["".join(written[-1:])] * candidates
        texts = self.decoder.decode(concept.expand(candidates, -1), context, generator=generator, **self.decoding)
        texts = list(dict.fromkeys(text for text in texts if text not in written)) or texts
        concepts = torch.from_numpy(self.encoder.encode(texts))
        best = int(torch.cosine_similarity(concepts, concept[None]).argmax())
        return texts[best], concepts[best]
