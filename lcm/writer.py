"""Writing a text from an outline: concept by concept, each decoded, encoded again and read back."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from decoders.decoder import ConceptDecoder
from encoders.encoder import SentenceEncoder
from lcm.model import ConceptModel, ReadState
from lcm.outline import POINT_LEVELS, TITLE_LEVEL, Outline, PlacedPoint
from lcm.stopping import StopRule

ENDED = "where the model would end the text"  # why a point is over before its length
REPEATED = "because it repeated itself"
REMEMBERED = 100  # sentences written that a decoder is given: it reads the last tokens, and none is to be said again
Decode = Callable[[Tensor], tuple[str, Tensor]]  # concept (D,) -> sentence, and its own concept (D,)


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


@dataclass(frozen=True)
class Draft:
    """A sentence that may become a line.

    Attributes:
        text: the sentence.
        concept: its concept (D,), raw.
        predicted: what the model predicted for it (D,), raw.
        over: why the text should be over before it, ENDED or REPEATED; "" if it should go on.
    """

    text: str
    concept: Tensor
    predicted: Tensor
    over: str = ""


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


def check_sampling(model: ConceptModel, sampling: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that the model does not have: a setting that is ignored is an error."""
    unknown = sampling.keys() - model.sampling_options()
    if unknown:
        raise ValueError(f"a {type(model.head).__name__} has no option {', '.join(sorted(unknown))}; leave it out")


class Writer:
    """Writes texts with a concept model, a decoder and the encoder that both were trained with.

    Args:
        model: predicts the next concept.
        decoder: turns a concept into a sentence, given the text before it.
        encoder: turns the sentence back into a concept, so that the model reads what was really written.
        length: longest sequence that the model was trained on, in rows.
        levels: levels of headings that the model was trained on; none, and it knows no headings.
        decoding: options of the decoder's decode(), such as the level of noise that predicted concepts have.
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
        stop: StopRule | None = None,
        ended: Counter[str] | None = None,
        generator: Generator | None = None,
        **sampling: Any,
    ) -> Iterator[Line]:
        """Yield the lines of the text in order, headings among them, each as soon as it is written.

        Args:
            outline: what to write about.
            sentences_per_point: length of a point for which the outline gives none; where `stop` is given, the most.
            anchor: how far each predicted concept is pulled towards its point's, 0 not at all, 1 all the way.
            stop: ends a point whose length the outline leaves open: by the end of text where the model predicts it, by
                repetition where a sentence is like the last one once more at a second try. A length that the outline
                gives is kept: there the second try is written, and for a second end of text what the point is about.
            ended: counts the points that ended early, by reason.
            generator: source of randomness; the same seed gives the same text.
            **sampling: options of the head's sample().
        """
        if not 0 <= anchor <= 1 or sentences_per_point < 1:
            raise ValueError(
                f"need 0 <= anchor <= 1 and sentences_per_point >= 1, found {anchor} and {sentences_per_point}"
            )
        check_sampling(self.model, sampling)
        reader, ended = SlidingReader(self.model, self.length), Counter() if ended is None else ended
        predict = partial(reader.predict, generator=generator, **sampling)
        written: list[str] = []
        decode = partial(self.decode, written=written, generator=generator)
        yield self.read_heading(reader, outline.title, outline.description, self.levels[0], 0)
        points = outline.points(levels=self.levels[1:] or self.levels)
        counts = outline.sentence_counts(sentences_per_point)
        for point, count, is_open in zip(points, counts, open_points(outline), strict=True):
            heading = self.read_heading(reader, point.text, point.description, point.level, point.depth + 1)
            yield heading
            goal = self.goal(point, heading.concept) if count else heading.concept
            least = max(stop.min_concepts, 1) if stop is not None and is_open else count
            for draft in write_point(partial(draft_sentence, predict, decode, goal, anchor, stop), count, least, ended):
                reader.read(draft.concept, 0)
                written.append(draft.text)
                yield Line(draft.text, 0, point.depth + 1, draft.concept, draft.predicted)

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

    def decode(self, concept: Tensor, *, written: Sequence[str], generator: Generator | None) -> tuple[str, Tensor]:
        """Return the sentence of a concept (D,), behind what is written, and that sentence's own concept (D,)."""
        context = " ".join(written[-REMEMBERED:])
        text = self.decoder.decode(concept[None], [context], generator=generator, **self.decoding)[0]
        return text, self.concept(text)


def draft_sentence(
    predict: Callable[[], Tensor],
    decode: Decode,
    goal: Tensor,
    anchor: float,
    stop: StopRule | None,
    before: Tensor | None,
) -> Draft:
    """Return what comes next, and whether the text should be over instead.

    Args:
        predict: gives the model's next raw concept (D,).
        decode: gives its sentence.
        goal: what the point is about (D,); it takes the place of an end of text.
        anchor: how far the prediction is pulled towards it.
        stop: when a text is over.
        before: concept (D,) of the sentence before in the same point.
    """
    found = predict()
    ends = stop is not None and bool(stop.ends(found))
    predicted = goal if ends else torch.lerp(found, goal, anchor)
    text, concept = decode(predicted)
    repeats = stop is not None and before is not None and bool(stop.repeats(concept, before))
    return Draft(text, concept, predicted, ENDED if ends else REPEATED if repeats else "")


def write_point(
    draft: Callable[[Tensor | None], Draft], count: int, least: int, ended: Counter[str]
) -> Iterator[Draft]:
    """Yield the sentences of a point; each is to be read before the next is asked for.

    Args:
        draft: drafts a sentence behind the concept (D,) of the last one.
        count: sentences at most.
        least: sentences that come at any rate.
        ended: counts why the point ended before `count`.
    """
    before = None
    for number in range(count):
        found = draft(before)
        if found.over == REPEATED or (found.over and number < least):
            found = draft(before)  # once more: chance alone may have done it
        if found.over and number >= least:
            ended[found.over] += 1
            return
        before = found.concept
        yield found


def open_points(outline: Outline) -> list[bool]:
    """Return for each point of the outline whether its length is left open, so that it follows the default."""
    return [one != two for one, two in zip(outline.sentence_counts(1), outline.sentence_counts(2), strict=True)]
