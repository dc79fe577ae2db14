from collections.abc import Callable

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

from decoders.generation import Rules, Written
from decoders.prefix import PrefixDecoder
from decoders.prompt import Prompt
from decoders.proposals import Proposals, propose
from decoders.reading import read, soft_tokens

Make = Callable[..., PrefixDecoder]
CONTEXT = ["", "The old king had three sons.", "So they were married.", "", "A horse and a fox.", "Nobody knew."]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def decoder(make_decoder: Make, concepts: torch.Tensor) -> PrefixDecoder:
    """A decoder whose end token is one that it writes, in each row at another place or not at all."""
    decoder = make_decoder()
    rows = write(decoder, concepts, Rules(-1, 24)).ids
    places = {token: {row.index(token) for row in rows if token in row} for row in rows for token in row}
    decoder.llm.end = max(sorted(places), key=lambda token: len(places[token] - {0}))
    ends = [len(ids) for ids in write(decoder, concepts, Rules(decoder.llm.end, 24)).ids]
    assert len(set(ends)) > 2, ends
    return decoder


def write(decoder: PrefixDecoder, concepts: torch.Tensor, rules: Rules, seed: int = 0) -> Written:
    prompt, soft, bias = told(decoder, concepts)
    tokens = decoder.adapter.words.tokens
    return decoder.llm.generate(prompt, soft, tokens=tokens, bias=bias, rules=rules, generator=seeded(seed))


def told(decoder: PrefixDecoder, concepts: torch.Tensor) -> tuple[Prompt, torch.Tensor, torch.Tensor]:
    reading = read(decoder.adapter, concepts, None, None, None, None)
    prompt = decoder.lay_out(CONTEXT, [[] for _ in concepts], pad_left=True)
    with torch.no_grad():
        soft = soft_tokens(decoder.adapter, reading, decoder.llm.embedding.weight)
        return prompt, soft, decoder.adapter.word_bias(reading.x)


def by_transformers(decoder: PrefixDecoder, concepts: torch.Tensor, no_repeat: int, length: int) -> list[str]:
    """What transformers' own greedy search writes."""
    prompt, soft, bias = told(decoder, concepts)

    def raise_words(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.index_add(1, decoder.adapter.words.tokens, bias)
        if not ids.shape[1]:
            scores[:, decoder.llm.end] = -torch.inf
        return scores

    config = GenerationConfig(
        eos_token_id=decoder.llm.end,
        pad_token_id=decoder.llm.end,
        max_new_tokens=length,
        no_repeat_ngram_size=no_repeat,
    )
    ids = decoder.llm.model.generate(
        inputs_embeds=decoder.llm._embed(prompt, soft),
        attention_mask=prompt.mask.long(),
        generation_config=config,
        logits_processor=LogitsProcessorList([raise_words]),
    )
    rows = [row[: row.index(decoder.llm.end)] if decoder.llm.end in row else row for row in ids.tolist()]
    return decoder.llm.texts(rows)


@pytest.mark.parametrize("no_repeat", [0, 2, 3])
def test_greedy_is_transformers_greedy(decoder: PrefixDecoder, concepts: torch.Tensor, no_repeat: int) -> None:
    with torch.no_grad():
        expected = by_transformers(decoder, concepts, no_repeat, 24)
    found = decoder.decode(concepts, CONTEXT, no_repeat=no_repeat, max_new_tokens=24)
    assert found == expected
    assert found != decoder.decode(concepts, CONTEXT, no_repeat=1, max_new_tokens=24)


def drawn(decoder: PrefixDecoder, concepts: torch.Tensor, seed: int = 0, **options: object) -> Proposals:
    settings = {"temperatures": (0.0, 1.2, 1.2), "top_p": 0.9, "max_new_tokens": 12} | options
    return propose(decoder, concepts, CONTEXT[: len(concepts)], generator=seeded(seed), **settings)


def test_a_draw_is_the_seeds_and_not_its_neighbours(decoder: PrefixDecoder, concepts: torch.Tensor) -> None:
    found = drawn(decoder, concepts)
    assert found.texts == drawn(decoder, concepts).texts != drawn(decoder, concepts, 1).texts
    assert drawn(decoder, concepts[:2]).texts == found.texts[:2]  # the rows behind do not matter
    assert [texts[0] for texts in found.texts] == decoder.decode(concepts, CONTEXT, max_new_tokens=12)
    assert any(texts[1] != texts[2] for texts in found.texts)
    others = concepts.clone()
    others[0] = concepts[3]
    assert drawn(decoder, others).texts[1:] == found.texts[1:]  # nor those before
    generator = seeded()
    halves = [
        propose(decoder, concepts[p], CONTEXT[p], temperatures=(1.2,), max_new_tokens=12, generator=generator).texts
        for p in (slice(0, 2), slice(2, 6))
    ]
    whole = propose(decoder, concepts, CONTEXT, temperatures=(1.2,), max_new_tokens=12, generator=seeded())
    assert [*halves[0], *halves[1]] == whole.texts


def test_the_log_probability_is_the_models(decoder: PrefixDecoder, concepts: torch.Tensor) -> None:
    tokens, end = decoder.adapter.words.tokens, decoder.llm.end
    found = write(decoder, concepts, Rules(end, 40, no_repeat=2, temperatures=(1.2,), top_p=0.9))
    ended = [[*ids, end] if num > len(ids) else ids for ids, num in zip(found.ids, found.num_tokens, strict=True)]
    assert len(set(map(len, ended))) > 1
    _, soft, bias = told(decoder, concepts)
    whole = decoder.lay_out(CONTEXT, ended)
    row = whole.target.nonzero()[:, 0]
    with torch.no_grad():
        logits = decoder.llm.target_logits(whole, soft).index_add(1, tokens, bias[row])
        loss = torch.nn.functional.cross_entropy(logits, whole.ids[whole.target], reduction="none")
    expected = -torch.zeros(len(concepts)).index_add(0, row, loss)
    torch.testing.assert_close(found.log_probability, expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(found.num_tokens, row.bincount())
    means = drawn(decoder, concepts, temperatures=(1.2,), no_repeat=2, max_new_tokens=40).log_probability[:, 0]
    torch.testing.assert_close(means, expected / found.num_tokens, atol=1e-3, rtol=1e-3)


def test_a_nucleus_keeps_the_most_probable_tokens(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder()
    greedy = drawn(decoder, concepts)
    narrow = drawn(decoder, concepts, top_p=1e-6)
    assert all(set(texts) == {first[0]} for texts, first in zip(narrow.texts, greedy.texts, strict=True))
    assert drawn(decoder, concepts, top_p=1.0).texts != greedy.texts


def test_bad_rules_are_named(make_decoder: Make, concepts: torch.Tensor) -> None:
    for options in ({"temperatures": ()}, {"temperatures": (-1.0,)}, {"top_p": 0.0}, {"max_new_tokens": 0}):
        with pytest.raises(ValueError, match="temperature >= 0"):
            drawn(make_decoder(), concepts, **options)
    with pytest.raises(ValueError, match="does nothing at temperature 0"):
        drawn(make_decoder(), concepts, temperatures=(0.0,))
    with pytest.raises(ValueError, match="beams do not draw"):
        make_decoder().decode(concepts, num_beams=2, temperature=1.0)
    assert propose(make_decoder(), concepts[:0]).texts == []
