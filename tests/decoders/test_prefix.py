from collections.abc import Callable

import pytest
import torch

from decoders.prefix import PrefixDecoder
from decoders.prompt import Hypothesis

Make = Callable[..., PrefixDecoder]
SENTENCES = ["The old king had three sons.", "One day a fox came to the gate.", "She took the golden apple!"]
CONTEXT = ["", "The old king had three sons.", "So they were married and lived happily, and nobody knew where."]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_loss_is_finite_and_falls(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(trained=False, noise_share=0.0, concept_drop=0.0, context_drop=0.0).train()
    learning = [*decoder.adapter_parameters(), *decoder.lora_parameters()]
    optimizer = torch.optim.AdamW(learning, lr=2e-2)
    losses = []
    for step in range(60):
        loss = decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(torch.isfinite, torch.tensor(losses)))
    assert losses[-1] < losses[0] / 5
    decoder.eval()
    assert decoder.decode(concepts[:3], CONTEXT) == SENTENCES
    carried = decoder.nll(concepts[:3].roll(1, 0), SENTENCES).total - decoder.nll(concepts[:3], SENTENCES).total
    assert (carried > 1).all()  # the text depends on the concept


def test_only_adapter_and_lora_learn(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder().train()
    decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"].backward()
    learning = {id(p) for p in [*decoder.adapter_parameters(), *decoder.lora_parameters()]}
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in learning) == (not decoder.is_base(name)), name


def test_randomness_is_the_generators(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(max_noise=0.9).train()

    def loss(seed: int) -> float:
        return decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded(seed))["loss"].item()

    torch.manual_seed(5)
    first, state = loss(0), torch.get_rng_state()
    torch.manual_seed(6)
    assert loss(0) == first and len({loss(seed) for seed in range(4)}) > 1
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)  # the global stream is not touched
    decoder.eval()
    assert loss(0) == loss(1)


@pytest.mark.parametrize("search", [{}, {"num_beams": 2}, {"temperature": 1.5, "top_p": 0.9}, {"noise_level": 0.3}])
def test_one_seed_gives_one_text(make_decoder: Make, concepts: torch.Tensor, search: dict[str, float]) -> None:
    decoder = make_decoder()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    texts = [decoder.decode(concepts, max_new_tokens=8, generator=seeded(), **search) for _ in range(2)]
    assert texts[0] == texts[1] and len(texts[0]) == len(concepts)
    assert torch.equal(torch.get_rng_state(), state)
    assert all("\n" not in text and text == text.strip() for text in texts[0])
    if "temperature" in search:
        assert decoder.decode(concepts, max_new_tokens=8, generator=seeded(1), **search) != texts[0]


def test_a_batch_equals_its_sentences_one_by_one(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder()
    together = decoder.nll(concepts[:3], SENTENCES, CONTEXT)
    for i in range(3):
        alone = decoder.nll(concepts[i : i + 1], SENTENCES[i : i + 1], CONTEXT[i : i + 1])
        torch.testing.assert_close(alone.total[0], together.total[i])
        assert alone.num_tokens[0] == together.num_tokens[i]
    texts = decoder.decode(concepts[:3], CONTEXT, max_new_tokens=12)
    alone_texts = [decoder.decode(concepts[i : i + 1], CONTEXT[i : i + 1], max_new_tokens=12)[0] for i in range(3)]
    assert texts == alone_texts


def test_a_dropped_concept_changes_nothing(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(concept_drop=1.0, noise_share=0.0).train()
    one = decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"]
    other = decoder.loss(-concepts[3:6], SENTENCES, CONTEXT, seeded())["loss"]
    assert torch.equal(one, other)
    kept = make_decoder(concept_drop=0.0, noise_share=0.0).train()
    assert kept.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"] != one
    kept.context_drop = 0.0
    none = kept.nll(None, SENTENCES, CONTEXT)
    kept.concept_drop = 1.0
    torch.testing.assert_close(
        kept.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"], none.total.sum() / none.num_tokens.sum()
    )


def test_dropped_context_is_no_context(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(context_drop=1.0, concept_drop=0.0, noise_share=0.0).train()
    dropped = decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"]
    torch.testing.assert_close(dropped, decoder.loss(concepts[:3], SENTENCES, None, seeded())["loss"])
    assert decoder.nll(concepts[:3], SENTENCES, CONTEXT).total[0] == pytest.approx(
        decoder.nll(concepts[:3], SENTENCES, None).total[0].item(), rel=1e-5
    )  # the first context is empty


def test_soft_tokens_have_the_size_of_embeddings(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(trained=False)
    adapter, table = decoder.adapter, decoder.llm.embedding.weight
    x = adapter.normalize(concepts)
    soft = adapter(x, torch.zeros(len(x)), table)
    rms = soft.square().mean(-1).sqrt()
    torch.testing.assert_close(rms, table.square().mean().sqrt().expand_as(rms), rtol=1e-2, atol=0.0)
    torch.testing.assert_close(x.mean(0), torch.zeros(16), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("options", [{"num_tokens": 0}, {"max_noise": 1.0}, {"num_tokens": 2, "word_tokens": 3}])
def test_bad_sizes_are_named(make_decoder: Make, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"num_tokens|max_noise"):
        make_decoder(**options)


def test_bad_search_is_named(make_decoder: Make, concepts: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="temperature"):
        make_decoder().decode(concepts, temperature=-1.0)
    assert make_decoder().decode(concepts[:0]) == []


def test_a_neighbour_reads_as_missing_until_it_has_learnt(make_decoder: Make, concepts: torch.Tensor) -> None:
    around = torch.stack([concepts[3:6], concepts[:3]], 1)  # (3, 2, D)
    fresh, trained = (make_decoder(before=1, after=1, trained=trained) for trained in (False, True))
    for decoder, equal in ((fresh, True), (trained, False)):
        without = decoder.nll(concepts[:3], SENTENCES, CONTEXT).total
        assert torch.equal(decoder.nll(concepts[:3], SENTENCES, CONTEXT, neighbours=around).total, without) == equal
        far = torch.zeros(3, 2, dtype=torch.bool)
        assert torch.equal(
            decoder.nll(concepts[:3], SENTENCES, CONTEXT, neighbours=around.fill_(torch.nan), near=far).total, without
        )
        around = torch.stack([concepts[3:6], concepts[:3]], 1)


def test_each_place_of_a_neighbour_counts_and_can_be_dropped(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(before=1, after=1, neighbour_drop=1.0, concept_drop=0.0, context_drop=0.0, noise_share=0.0)
    around = torch.stack([concepts[3:6], concepts[:3]], 1)
    near = torch.tensor([[True, False]]).expand(3, 2)
    found = {
        tuple(decoder.nll(concepts[:3], SENTENCES, neighbours=some, near=which).total.tolist())
        for some, which in ((around, None), (around, near), (around, ~near), (around.flip(1), None))
    }
    assert len(found) == 4
    decoder.train()
    dropped = decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded(), neighbours=around)["loss"]
    assert torch.equal(dropped, decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"])
    decoder.neighbour_drop = 0.0
    assert decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded(), neighbours=around)["loss"] != dropped


def test_neighbours_that_are_not_read_are_an_error(make_decoder: Make, concepts: torch.Tensor) -> None:
    for decoder, num in ((make_decoder(), 1), (make_decoder(before=1), 2)):
        with pytest.raises(ValueError, match="set before and after"):
            decoder.nll(concepts[:3], SENTENCES, neighbours=concepts[:3, None].expand(3, num, -1))


def test_a_declared_level_is_read_and_adds_nothing(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder()
    level = torch.tensor([0.0, 0.4, 0.7])
    plain = decoder.nll(concepts[:3], SENTENCES).total
    told = decoder.nll(concepts[:3], SENTENCES, level=level).total
    assert (plain == told).tolist() == [True, False, False]
    assert decoder.decode(concepts[:3], declared_level=0.0) == decoder.decode(concepts[:3])
    one, other = (decoder.decode(concepts, declared_level=0.6, generator=seeded(seed)) for seed in (0, 1))
    assert one == other  # no noise was drawn
    with pytest.raises(ValueError, match="declared_level"):
        decoder.decode(concepts, declared_level=1.0)


def test_predicted_concepts_are_not_noised_and_their_level_is_kept(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(noise_share=1.0, max_noise=0.9, concept_drop=0.0, context_drop=0.0)
    level = torch.tensor([0.3, 0.5, 0.7])
    expected = decoder.loss(concepts[:3], SENTENCES, CONTEXT, level=level)["loss"]
    assert decoder.predicted_level == 0  # nothing was learnt
    decoder.train()
    torch.testing.assert_close(decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded(), level=level)["loss"], expected)
    assert float(decoder.predicted_level) == pytest.approx(0.5)
    decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded())
    assert float(decoder.predicted_level) == pytest.approx(0.5)  # true concepts do not count
    assert decoder.decode(concepts[:1], declared_level=decoder.predicted_level)


def test_a_hypothesis_is_read_with_its_concept(make_decoder: Make, concepts: torch.Tensor) -> None:
    decoder = make_decoder(corrects=True)
    said = [Hypothesis(SENTENCES[::-1], concepts[3:6]), Hypothesis(CONTEXT, concepts[3:6])]
    said.append(Hypothesis(CONTEXT, concepts[:3]))
    found = [decoder.nll(concepts[:3], SENTENCES, CONTEXT, hypothesis=h) for h in (None, *said)]
    assert all((one.num_tokens == found[0].num_tokens).all() for one in found)  # only the sentence counts
    assert len({one.total[2].item() for one in found}) == 4
    for i in range(3):
        alone = decoder.nll(
            concepts[i : i + 1],
            SENTENCES[i : i + 1],
            CONTEXT[i : i + 1],
            hypothesis=Hypothesis(CONTEXT[i : i + 1], concepts[i : i + 1]),
        )
        torch.testing.assert_close(alone.total[0], found[3].total[i])
    texts = decoder.decode(concepts[:3], CONTEXT, hypothesis=said[0], max_new_tokens=6)
    assert len(texts) == 3 and texts != decoder.decode(concepts[:3], CONTEXT, max_new_tokens=6)
    with pytest.raises(ValueError, match="corrects: true"):
        make_decoder().decode(concepts[:3], hypothesis=said[0])


def test_a_decoder_that_corrects_starts_as_one_that_does_not(make_decoder: Make, concepts: torch.Tensor) -> None:
    plain, corrector = make_decoder(trained=False), make_decoder(trained=False, corrects=True, before=1)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, corrector.state_dict()[name]), name
    corrector = make_decoder(trained=False, corrects=True)
    assert torch.equal(
        plain.nll(concepts[:3], SENTENCES, CONTEXT).total, corrector.nll(concepts[:3], SENTENCES, CONTEXT).total
    )


@pytest.mark.parametrize("tuning", ["adapter", "lora", "full"])
def test_what_is_to_learn_learns(make_decoder: Make, concepts: torch.Tensor, tuning: str) -> None:
    options = {"lora_rank": 2 if tuning == "lora" else None}
    decoder = make_decoder(tuning=tuning, trained=False, noise_share=0.0, context_drop=0.0, **options).train()
    decoder.loss(concepts[:3], SENTENCES, CONTEXT, seeded())["loss"].backward()
    groups = (decoder.adapter_parameters(), decoder.lora_parameters(), decoder.llm_parameters())
    assert [bool(group) for group in groups] == [True, tuning == "lora", tuning == "full"]
    learning = {id(p) for group in groups for p in group}
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in learning) == (not decoder.is_base(name)), name
        assert not parameter.requires_grad or parameter.dtype == torch.float32
