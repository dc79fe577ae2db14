import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.head import SHRUNK
from lcm.heads.quantised import QuantisedContinuousHead, QuantisedHead
from lcm.model import ConceptModel

pytest.importorskip("faiss", reason="faiss is an extra")

B, S, D, H, M, U = 2, 5, 7, 16, 3, 4
HEADS = (QuantisedHead, QuantisedContinuousHead)
Make = Callable[..., QuantisedHead]


@pytest.fixture(params=[(kind, guess) for kind in HEADS for guess in (False, True)], ids=str)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a fitted head with weights that do something."""

    kind, first_guess = request.param

    def build(**options: Any) -> QuantisedHead:
        torch.manual_seed(0)
        given = {"num_codebooks": M, "num_units": U, "num_layers": 2, "first_guess": first_guess} | options
        head: QuantisedHead = kind(D, H, **given)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        head.fit(torch.randn(300, D))
        return head.eval()

    return build


def before(num: int = S) -> Tensor:
    return torch.ones(num, num, dtype=torch.bool).tril(-1).expand(B, num, num)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", HEADS)
def test_a_network_that_knows_the_answer_writes_it(kind: type[QuantisedHead]) -> None:
    head = kind(D, H, num_codebooks=M, num_units=U)
    head.fit(torch.randn(300, D, generator=seeded()))
    x = torch.randn(B, S, D, generator=seeded(1))
    units = head.quantizer.encode(x)

    def predict(partial: Tensor, index: Tensor, context: Tensor) -> Tensor:
        if kind is QuantisedContinuousHead:
            return x.view(B, S, *[1] * (partial.ndim - 3), D) - partial
        return 50.0 * F.one_hot(units.gather(-1, index.view(B, S, -1)).view(index.shape), U)

    head.predict = predict  # type: ignore[method-assign]
    target = torch.ones(B, S, dtype=torch.bool)
    found = head.sample(torch.randn(B, S, H), before(), temperature=0)
    torch.testing.assert_close(found, head.quantizer.decode(units))
    assert head.loss(torch.randn(B, S, H), x, target, before(), seeded())["loss"] < 1e-6


def test_the_loss_is_a_share_of_the_likelihood_of_all_units() -> None:
    torch.manual_seed(0)
    head = QuantisedHead(D, H, num_codebooks=M, num_units=U, num_layers=1).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    head.fit(torch.randn(300, D))
    num = 1000
    context, x = torch.randn(1, 2, H).expand(num, 2, H), torch.randn(1, 2, D).expand(num, 2, D)
    visible, target = torch.tensor([[[0, 0], [1, 0]]]).bool(), torch.tensor([[False, True]])
    found = head.loss(context, x, target.expand(num, 2), visible.expand(num, 2, 2), seeded())["loss"]
    # By the chain rule: the probability of every sequence of units is the product along it, and they sum to one.
    sequences = torch.tensor(list(product(range(U), repeat=M)))
    seen, log_p = context[:1, :1].expand(len(sequences), 1, H), torch.zeros(len(sequences))
    for k in range(M):
        logits = head.logits(head.quantizer.decode(sequences[:, :k])[:, None], k, seen)[:, 0]
        log_p += logits.log_softmax(-1).gather(-1, sequences[:, k : k + 1])[:, 0]
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))
    truth = (sequences == head.quantizer.encode(x[0, 1])).all(-1)
    torch.testing.assert_close(M * found, -log_p[truth][0], rtol=0.03, atol=0)


def test_samples_come_as_often_as_the_softmax_says(make: Make) -> None:
    head, num = make(num_codebooks=2), 20_000
    memory = torch.randn(1, 1, H)
    seen = torch.ones(1, num, 1, dtype=torch.bool)
    x = head.sample(memory, seen, generator=seeded())[0]
    first = head.logits(torch.zeros(1, 1, D), 0, memory)[0, 0].softmax(-1)
    after = [
        head.logits(centroid.view(1, 1, D), 1, memory)[0, 0].softmax(-1) for centroid in head.quantizer.codebooks[0]
    ]
    expected = first[:, None] * torch.stack(after)  # (U, U)
    pairs = torch.tensor(list(product(range(U), repeat=2)))
    which = torch.cdist(x, head.quantizer.decode(pairs)).argmin(-1)
    found = which.bincount(minlength=U * U) / num
    torch.testing.assert_close(found, expected.flatten(), atol=4 * 0.5 / math.sqrt(num), rtol=0)


def test_eq_23_of_the_paper() -> None:
    head = QuantisedContinuousHead(D, H, num_codebooks=M, num_units=U)
    head.fit(torch.randn(300, D, generator=seeded()))
    torch.nn.init.normal_(head.log_beta)
    residual, k = torch.randn(B, S, D), 1
    beta = head.log_beta[k].exp() / head.quantizer.codebooks[k].square().sum(-1).mean()
    distance = torch.cdist(residual, head.quantizer.codebooks[k]).square()
    weights = torch.exp(-beta * distance)
    torch.testing.assert_close(head.by_distance(residual, k).softmax(-1), weights / weights.sum(-1, keepdim=True))


def test_beta_is_learnt_by_maximum_likelihood_and_leaves_the_loss_alone() -> None:
    torch.manual_seed(0)
    head = QuantisedContinuousHead(D, H, num_codebooks=1, num_units=16, num_draws=1)
    head.fit(torch.randn(2000, D))
    num = 2000
    wanted = torch.tensor([1.1])
    square = head.quantizer.codebooks[0].square().sum(-1).mean()
    residual = torch.randn(B, num, D)
    logits = wanted.exp() / square * head.quantizer.closeness(residual, 0)
    unit = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1, generator=seeded()).view(B, num)
    x = head.quantizer.codebooks[0][unit]
    head.predict = lambda partial, index, context: residual[:, :, None].expand_as(partial)  # type: ignore[method-assign]
    optimizer = torch.optim.Adam([head.log_beta], lr=0.1)
    visible, target = torch.ones(B, num, 1, dtype=torch.bool), torch.ones(B, num, dtype=torch.bool)
    for _ in range(60):
        values = head.loss(torch.zeros(B, 1, H), x, target, visible, seeded())
        torch.testing.assert_close(values["loss"], F.mse_loss(residual, x))
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
    torch.testing.assert_close(head.log_beta.detach(), wanted, atol=0.1, rtol=0)


def test_temperature_zero_is_the_likeliest_and_needs_no_seed(make: Make) -> None:
    head, memory = make(), torch.randn(B, S, H)
    greedy = head.sample(memory, before(), temperature=0)
    torch.testing.assert_close(head.sample(memory, before(), temperature=0, generator=seeded(3)), greedy)
    torch.testing.assert_close(head.sample(memory, before(), top_k=1, generator=seeded(3)), greedy)
    torch.testing.assert_close(head.sample(memory, before(), top_p=1e-6, generator=seeded(3)), greedy)
    torch.testing.assert_close(head.sample(memory, before(), temperature=1e-6, generator=seeded(3)), greedy)


def test_the_same_seed_draws_the_same_concept(make: Make) -> None:
    head, memory = make(), torch.randn(B, S, H)
    first, second, other = (head.sample(memory, before(), generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_heat_spreads(make: Make) -> None:
    head, memory, seen = make(), torch.randn(1, 1, H), torch.ones(1, 2000, 1, dtype=torch.bool)
    kinds = [
        len(head.sample(memory, seen, temperature=heat, generator=seeded())[0].unique(dim=0)) for heat in (0, 0.3, 1, 9)
    ]
    assert kinds[0] == 1
    assert kinds == sorted(kinds), kinds


@pytest.mark.parametrize("kind", HEADS)
def test_codebooks_to_which_nothing_is_left_do_no_harm(kind: type[QuantisedHead]) -> None:
    x = torch.eye(D).repeat(9, 1)  # the first codebook has a unit for each of the different concepts
    head = kind(D, H, num_codebooks=M, num_units=16)
    head.fit(x)
    context, target = torch.randn(B, S, H), torch.ones(B, S, dtype=torch.bool)
    loss = head.loss(context, x[: B * S].view(B, S, D), target, before(), seeded())["loss"]
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    lengths = head.sample(context, before(), generator=seeded()).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(B, S), atol=1e-2, rtol=0)  # k-means moves twins a little apart


def test_guidance_one_is_no_guidance(make: Make) -> None:
    head, memory = make(), torch.randn(B, S, H)
    plain, pushed = (head.sample(memory, before(), temperature=0, guidance_scale=scale) for scale in (1.0, 3.0))
    assert not torch.equal(plain, pushed)
    torch.testing.assert_close(plain[:, 0], pushed[:, 0])  # nothing is visible there, so nothing to push away from


def test_guiding_logits_guides_the_residual() -> None:
    head = QuantisedContinuousHead(D, H, num_codebooks=M, num_units=U)
    head.fit(torch.randn(300, D))
    with_context, without = torch.randn(2, B, S, D)
    mixed = torch.lerp(head.by_distance(without, 0), head.by_distance(with_context, 0), 2.5)
    torch.testing.assert_close(head.by_distance(torch.lerp(without, with_context, 2.5), 0), mixed)


def test_without_a_visible_context_no_context_counts(make: Make) -> None:
    head, unseen = make(), torch.zeros(B, S, S, dtype=torch.bool)
    first, second = (head.sample(torch.randn(B, S, H), unseen, generator=seeded()) for _ in range(2))
    assert torch.equal(first, second)


def test_hidden_contexts_do_not_leak(make: Make) -> None:
    head = make()
    x, context = torch.randn(B, S, D), torch.randn(B, S, H)
    document = torch.tensor([0, 0, 0, 1, 1])  # two packed documents
    visible = before() & (document[:, None] == document)
    target = document.eq(1).expand(B, S)
    changed = torch.where(document.eq(0)[:, None], torch.randn(B, S, H), context)
    for method in (
        lambda c: head.loss(c, x, target, visible, seeded())["loss"],
        lambda c: head.sample(c, visible, generator=seeded())[:, 3:],
    ):
        torch.testing.assert_close(method(changed), method(context))


def test_memory_grows_by_appending(make: Make) -> None:
    head, context = make(), torch.randn(B, S, H)
    assert torch.equal(head.remember(context[:, 2:], head.remember(context[:, :2])), context)


def test_contexts_are_dropped_in_training_only(make: Make) -> None:
    head, num = make(cond_dropout=0.4), 500
    x = torch.randn(B, num, D)
    rows = []
    predict = head.predict

    def spy(partial: Tensor, index: Tensor, context: Tensor) -> Tensor:
        rows.append(context.any(-1)[:, 1:].float().mean())  # position 0 sees nothing anyway
        return predict(partial, index, context)

    head.predict = spy  # type: ignore[method-assign]
    for mode in (True, False):
        head.train(mode).loss(torch.randn(B, num, H), x, torch.ones(B, num, dtype=torch.bool), before(num), seeded())
    torch.testing.assert_close(rows[0], torch.tensor(0.6), atol=0.06, rtol=0)
    assert rows[1] == 1


def test_a_gradient_reaches_every_context_that_is_used(make: Make) -> None:
    head, x = make(), torch.randn(B, S, D)
    context = torch.randn(B, S, H, requires_grad=True)
    head.loss(context, x, torch.ones(B, S, dtype=torch.bool), before(), seeded())["loss"].backward()
    assert context.grad is not None
    assert context.grad[:, :-1].abs().sum(-1).gt(0).all()
    assert not context.grad[:, -1].any()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_wrong_option_is_an_error(make: Make) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\), found 1.5"):
        make(cond_dropout=1.5)
    with pytest.raises(ValueError, match="found 3 and 1"):
        make(num_units=1)
    head, memory = make(), torch.randn(B, S, H)
    for options, said in (
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            head.sample(memory, before(), **options)


def knowing(kind: type[QuantisedHead]) -> tuple[QuantisedHead, Tensor, Tensor]:
    """A fresh head whose regression reads the mean of x off the first D entries of a context, contexts and means."""
    head = kind(D, H, num_codebooks=M, num_units=U, first_guess=True)
    head.fit(torch.randn(2000, D, generator=seeded()))
    head.align(torch.eye(H, D) / SHRUNK)
    context = torch.randn(B, S, H)
    return head.eval(), context, context[..., :D]


@pytest.mark.parametrize("k", range(M))
def test_a_first_guess_favours_units_as_a_gaussian_about_it_does(k: int) -> None:
    head, context, mean = knowing(QuantisedHead)
    torch.nn.init.zeros_(head.log_tilt)  # variance 1
    partial = torch.randn(B, S, D)
    x = partial[:, :, None] + head.quantizer.codebooks[k]  # (B, S, U, D)
    expected = -(x - mean[:, :, None]).square().sum(-1) / 2 + x.square().sum(-1) / 2  # log N(mean, 1) - log N(0, 1)
    found = head.logits(partial, k, context)
    torch.testing.assert_close(found.log_softmax(-1), expected.log_softmax(-1), atol=1e-4, rtol=1e-4)


def test_a_first_guess_of_the_residual_is_what_the_codebooks_have_left_of_it() -> None:
    head, context, mean = knowing(QuantisedContinuousHead)
    assert isinstance(head, QuantisedContinuousHead)
    x = torch.randn(2000, D, generator=seeded())
    units = head.quantizer.encode(x)
    for k in range(M):
        left = (x - head.quantizer.decode(units[:, :k])).var() / x.var()
        found = head.predict(torch.randn(B, S, D), torch.full((B, S), k), context)
        torch.testing.assert_close(found, left * mean, atol=0.01, rtol=0.01)
    assert head.left[0] == 1 and head.left.diff().lt(0).all()


@pytest.mark.parametrize("first_guess", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_three_documents_are_learnt_by_heart(kind: type[QuantisedHead], first_guess: bool) -> None:
    torch.manual_seed(0)
    num, dim = 12, 16
    backbone = CausalTransformer(width=64, num_layers=2, num_heads=4, dropout=0.0)
    head = kind(dim, 64, num_codebooks=3, num_units=16, num_layers=2, first_guess=first_guess)
    model = ConceptModel(dim, backbone, head)
    concepts = torch.randn(3, num, dim)
    level = torch.zeros(3, num, dtype=torch.long)
    level[:, 0] = 1  # a first sentence follows from nothing
    batch = ConceptBatch(concepts, torch.ones(3, num, dtype=torch.bool), level)
    model.normalizer.fit(concepts.flatten(0, 1))
    x = model.normalizer(concepts)
    head.fit(x.flatten(0, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    start = model.eval().loss(batch, seeded())["loss"]
    model.train()
    for step in range(200):
        loss = model.loss(batch, seeded(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.eval().loss(batch, seeded())["loss"] < 0.1 * start
    found = model.normalizer(model.predict(batch, temperature=0))[:, 1:]
    quantised = head.quantizer.decode(head.quantizer.encode(x))[:, 1:]
    assert torch.isclose(found, quantised, atol=1e-3).all(-1).float().mean() > 0.9
