import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from data.store import ConceptStore
from decoders.retrieval import RetrievalDecoder
from encoders.hashing import HashingEncoder
from lcm.backbone import CausalTransformer
from lcm.heads.two_tower import TwoTowerHead
from lcm.manuscript import to_text
from lcm.model import ConceptModel
from lcm.outline import Outline, Point
from lcm.stopping import StopRule
from lcm.writer import ENDED, REPEATED, Draft, Line, SlidingReader, Writer, open_points, write_point

OUTLINE = Outline("The fox", (Point("It comes", num_sentences=2), Point("Later", children=(Point("It goes"),))))


@pytest.fixture
def writer(store: ConceptStore) -> Writer:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=16, num_layers=1, num_heads=2)
    model = ConceptModel(16, backbone, TwoTowerHead(16, 16, num_layers=1, num_heads=2)).eval()
    for parameter in model.parameters():  # AdaLN-zero would make it deaf to its context
        torch.nn.init.normal_(parameter, std=0.3)
    model.normalizer.fit(torch.from_numpy(store[0].astype("float32")))
    return Writer(model, RetrievalDecoder.from_store(store), HashingEncoder(16), length=8)


def write(writer: Writer, seed: int = 0, **options: Any) -> list[Line]:
    generator = torch.Generator().manual_seed(seed)
    return list(writer.write(OUTLINE, sentences_per_point=3, generator=generator, num_steps=4, **options))


def test_every_point_gets_its_sentences_in_order(writer: Writer) -> None:
    lines = write(writer)
    assert [line.level > 0 for line in lines] == [True, True, False, False, True, True, False, False, False]
    assert [line.text for line in lines if line.level] == ["The fox", "It comes", "Later", "It goes"]
    assert [line.predicted is None for line in lines] == [line.level > 0 for line in lines]


def test_the_same_seed_writes_the_same_text_and_another_another(writer: Writer) -> None:
    first, again, other = (write(writer, seed) for seed in (0, 0, 1))
    assert [line.text for line in first] == [line.text for line in again]
    for one, same, another in zip(first, again, other, strict=True):
        if one.predicted is not None and same.predicted is not None and another.predicted is not None:
            assert torch.equal(one.predicted, same.predicted)
            assert not torch.equal(one.predicted, another.predicted)


def test_what_is_read_back_is_what_was_written(writer: Writer) -> None:
    for line in write(writer):
        torch.testing.assert_close(line.concept, torch.from_numpy(HashingEncoder(16).encode([line.text])[0]))


def test_a_full_anchor_predicts_the_point_itself(writer: Writer) -> None:
    lines = write(writer, anchor=1.0)
    heading = None
    for line in lines:
        if line.predicted is None:
            heading = line.concept
        else:
            torch.testing.assert_close(line.predicted, heading)
    with pytest.raises(ValueError, match=r"0 <= anchor <= 1 .* found 2 and 3"):
        write(writer, anchor=2)


def test_headings_get_levels_that_the_model_knows(writer: Writer) -> None:
    assert [line.level for line in write(writer) if line.level] == [4, 2, 2, 1]
    known = Writer(writer.model, writer.decoder, writer.encoder, length=8, levels=[2])
    assert {line.level for line in write(known)} == {0, 2}


def test_a_description_is_read_but_not_written(writer: Writer) -> None:
    told = Outline("The fox", (Point("It comes", "At night, over the hill.", num_sentences=2),))
    plain = Outline("The fox", (Point("It comes", num_sentences=2),))
    texts = []
    for outline in (told, plain):
        generator = torch.Generator().manual_seed(0)
        lines = list(writer.write(outline, generator=generator, num_steps=4))
        assert [line.text for line in lines[:2]] == ["The fox", "It comes"]
        texts.append(torch.stack([line.predicted for line in lines if line.predicted is not None]))
    assert not torch.allclose(*texts)


def test_a_long_text_slides_over_the_window_that_was_trained(writer: Writer) -> None:
    reader = SlidingReader(writer.model, 8)
    concepts = torch.randn(30, 16)
    longest = 0
    for concept in concepts:
        reader.read(concept, 0)
        assert reader.state is not None
        longest = max(longest, reader.state.mask.shape[1])
        fresh: ConceptModel = writer.model
        window = torch.stack([c for c, _ in reader.rows])[None]
        expected = fresh.predict_next(
            window,
            level=torch.zeros(1, window.shape[1], dtype=torch.long),
            generator=torch.Generator().manual_seed(1),
            num_steps=3,
        )[0]
        found = reader.predict(generator=torch.Generator().manual_seed(1), num_steps=3)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert longest == 8


def test_lines_become_markdown(writer: Writer) -> None:
    lines = write(writer)
    text = "".join(to_text(line, before) for before, line in zip([None, *lines], lines, strict=False))
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# The fox", "## It comes", "## Later", "### It goes"]
    assert "\n\n\n" not in text
    paragraphs = [p for p in text.split("\n\n") if p and not p.startswith("#")]
    assert [p.split() for p in paragraphs] == [
        [word for line in group for word in line.text.split()]
        for is_text, group in itertools.groupby(lines, key=lambda line: line.level == 0)
        if is_text
    ]


def test_an_option_that_the_head_does_not_have_is_an_error(writer: Writer) -> None:
    with pytest.raises(ValueError, match="a TwoTowerHead has no option temperatur"):
        write(writer, temperatur=1.0)


def test_the_decoder_is_given_what_was_written(writer: Writer) -> None:
    seen: list[str] = []

    class Listening(RetrievalDecoder):
        def decode(self, concepts: torch.Tensor, context: Sequence[str] | None = None, **options: Any) -> list[str]:
            seen.extend(context or [])
            return super().decode(concepts, context)

    nearest = writer.decoder
    assert isinstance(nearest, RetrievalDecoder)
    nearest.__class__ = Listening
    texts = [line.text for line in write(writer) if not line.level]
    assert seen == [" ".join(texts[:i]) for i in range(len(texts))]


# --- where a point is over --------------------------------------------------------------------------------------------


def test_only_points_without_a_length_of_their_own_are_open() -> None:
    free, fixed = Point("free"), Point("fixed", num_sentences=3)
    shared = Point("shared", num_sentences=5, children=(free, fixed))
    assert open_points(Outline("T", (free, fixed, Point("inner", children=(free, fixed)), shared))) == [
        *(True, False),
        *(False, True, False),
        *(False, False, False),
    ]


def played(overs: Sequence[str], count: int, least: int) -> tuple[int, int, Counter[str]]:
    """Returns how many sentences a point of drafts that say this became, how many were drafted, and what was told."""
    left, ended = iter(overs), Counter[str]()
    drafts = (Draft(str(i), torch.ones(1), torch.ones(1), over) for i, over in enumerate(left))
    made = len(list(write_point(lambda before: next(drafts), count, least, ended)))
    return made, len(overs) - len(list(left)), ended


@pytest.mark.parametrize(
    ("overs", "least", "expected"),
    [
        (["", "", "", ""], 1, (3, 3, {})),
        (["", ENDED, "", ""], 1, (1, 2, {ENDED: 1})),  # an end is believed at once
        (["", REPEATED, "", ""], 1, (3, 4, {})),  # a repetition is drawn once more
        (["", REPEATED, REPEATED, ""], 1, (1, 3, {REPEATED: 1})),
        (["", REPEATED, ENDED, ""], 1, (1, 3, {ENDED: 1})),
        ([ENDED, "", "", ""], 1, (3, 4, {})),  # a point has a sentence
        ([ENDED, ENDED, "", ""], 1, (3, 4, {})),
        (["", ENDED, REPEATED, ENDED, ENDED], 3, (3, 5, {})),  # a length that is asked for is kept
    ],
)
def test_a_point_is_over_where_it_may_be(
    overs: list[str], least: int, expected: tuple[int, int, dict[str, int]]
) -> None:
    assert played(overs, 3, least) == expected


def test_the_end_of_text_shortens_open_points_alone_and_is_counted(writer: Writer) -> None:
    ended: Counter[str] = Counter()
    always = StopRule(torch.ones(16), end_cosine=-0.999)
    lines = write(writer, stop=always, ended=ended)
    assert [line.level > 0 for line in lines] == [True, True, False, False, True, True, False]
    assert ended == {ENDED: 1}
    heading = lines[0].concept
    for line in lines:  # what would have been an end of text is about its point
        heading = line.concept if line.level else heading
        assert line.predicted is None or torch.equal(line.predicted, heading)
    assert [line.text for line in write(writer, stop=StopRule(torch.ones(16), 1.0))] == [x.text for x in write(writer)]


def test_a_sentence_said_again_ends_an_open_point_by_what_was_written(writer: Writer) -> None:
    ended: Counter[str] = Counter()
    lines = write(writer, stop=StopRule(repeat_cosine=-0.999), ended=ended)
    assert [line.level > 0 for line in lines] == [True, True, False, False, True, True, False]
    assert ended == {REPEATED: 1}
    for threshold in (0.5, 0.9, 0.999):
        lines = write(writer, stop=StopRule(repeat_cosine=threshold))
        open_point = torch.stack([line.concept for line in lines[6:]])
        assert (torch.cosine_similarity(open_point[1:], open_point[:-1]) < threshold).all()
    assert len({line.text for line in write(writer)[6:]}) < 3  # without a rule it does say a sentence again
