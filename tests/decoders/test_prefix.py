from collections.abc import Callable

import pytest
import torch

from decoders.prefix import PrefixDecoder
from decoders.prompt import lay_out

Make = Callable[..., PrefixDecoder]
SENTENCES = ["The old king had three sons.", "One day a fox came to the gate.", "She took the golden apple!"]
CONTEXT = ["", "The old king had three sons.", "So they were married and lived happily, and nobody knew where."]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_hold_begin_context_soft_tokens_sentence() -> None:
    prompt = lay_out([[7], []], [[3, 4], [5]], num_soft=2, begin=[1])
    assert prompt.ids.tolist() == [[1, 7, 0, 0, 3, 4], [1, 0, 0, 5, 0, 0]]
    assert prompt.soft.tolist() == [[False, False, True, True, False, False], [False, True, True, False, False, False]]
    assert prompt.target.tolist() == [[False] * 4 + [True] * 2, [False] * 3 + [True] + [False] * 2]
    left = lay_out([[7], []], [[], []], num_soft=2, begin=[1], pad_left=True)
    assert left.mask.tolist() == [[True] * 4, [False] + [True] * 3]


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
