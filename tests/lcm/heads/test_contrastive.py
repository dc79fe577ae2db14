import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.contrastive import ContrastiveHead
from lcm.model import ConceptModel, earlier

B, S, D, H = 2, 5, 7, 6


def before(num_rows: int = B, num: int = S) -> torch.Tensor:
    return torch.ones(num, num, dtype=torch.bool).tril(-1).expand(num_rows, num, num)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_query(query: torch.Tensor, **options: float) -> tuple[ContrastiveHead, torch.Tensor]:
    """A head, and contexts for which it asks query (B, S, D) at each position but the first."""
    head = ContrastiveHead(query.shape[-1], query.shape[-1], **options)  # type: ignore[arg-type]
    with torch.no_grad():
        head.query.weight.copy_(torch.eye(query.shape[-1]))
        head.query.bias.zero_()
    return head, query.roll(-1, dims=1)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_loss_on_orthogonal_concepts_has_a_closed_form(rows: int) -> None:
    x = 4 * torch.eye(rows * S).view(rows, S, rows * S)
    head, context = with_query(x, window=0, scale=3.0)
    values = head.loss(context, x, torch.ones(rows, S, dtype=torch.bool), before(rows))
    rivals = rows * S - 1  # each at cosine 0, the true one at 1
    assert_close(values["loss"], torch.tensor(math.log(1 + rivals * math.exp(-3))))
    assert values["accuracy"] == 1


def test_a_query_that_knows_nothing_costs_the_logarithm_of_the_candidates() -> None:
    x = torch.eye(S + 1)[:S].expand(1, S, S + 1)
    head, context = with_query(torch.eye(S + 1)[S].expand(1, S, S + 1), window=0)
    assert_close(head.loss(context, x, torch.ones(1, S, dtype=torch.bool), before(1))["loss"], torch.tensor(5.0).log())


def test_the_true_density_ratio_is_the_best_critic_and_its_loss_the_bayes_error() -> None:
    """Concepts on a circle, the next one at a von Mises angle from the context: the scale is its concentration."""
    concentration, num = 4.0, 2000
    generator = seeded()
    angle = 2 * math.pi * torch.rand(num, 1, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        turn = torch.distributions.VonMises(torch.tensor(0.0), torch.tensor(concentration)).sample((num, 1))
    x = torch.cat(((angle + turn).cos(), (angle + turn).sin()), dim=-1)[:, None].expand(num, 2, 2)
    losses = {}
    for scale in (1.0, 2.0, concentration, 8.0, 16.0):
        head, context = with_query(
            torch.cat((angle.cos(), angle.sin()), dim=-1)[:, None].expand(num, 2, 2), scale=scale
        )
        target = torch.tensor([False, True]).expand(num, 2)
        losses[scale] = head.loss(context, x, target, before(num, 2), seeded())["loss"].item()
    assert min(losses, key=losses.__getitem__) == concentration
    # With many rivals K, log(K + 1) - loss tends to the mutual information (arXiv:1807.03748, section 2.3).
    bessel = torch.special.i0(torch.tensor(concentration)), torch.special.i1(torch.tensor(concentration))
    information = concentration * bessel[1] / bessel[0] - bessel[0].log()
    assert math.log(512) - losses[concentration] == pytest.approx(information.item(), abs=0.05)


def definition(head: ContrastiveHead, query: torch.Tensor, x: torch.Tensor, target: torch.Tensor, doc: torch.Tensor):  # type: ignore[no-untyped-def]
    """Losses and accuracies of all positions that are asked, one by one."""
    losses, shares = [], []
    for b, s in target.nonzero().tolist():
        if s == 0 or doc[b, s - 1] != doc[b, s]:
            continue
        score = {
            (c, r): head.scale() * torch.cosine_similarity(query[b, s], x[c, r], dim=0)
            for c, r in target.nonzero().tolist()
        }
        true = score.pop((b, s))
        for c, r in list(score):
            near = c == b and doc[c, r] == doc[b, s] and abs(r - s) <= head.window
            if near or torch.equal(x[c, r], x[b, s]):
                del score[c, r]
        losses.append(torch.stack([true, *score.values()]).logsumexp(0) - true)
        own = [v < true for (c, r), v in score.items() if c == b and doc[c, r] == doc[b, s]]
        shares += [sum(own) / len(own)] if own else []
    return torch.stack(losses).mean(), torch.stack(shares).mean()


@pytest.mark.parametrize("window", [0, 1, 2])
def test_the_loss_equals_its_definition(window: int) -> None:
    num_rows, num = 3, 9
    doc = torch.tensor([[0] * 9, [0] * 4 + [1] * 5, [0] * 8 + [-1]])
    x, query = torch.randn(num_rows, num, D, generator=seeded(1)), torch.randn(num_rows, num, D, generator=seeded(2))
    x[1, 2], x[0, 7] = x[0, 3], x[0, 3]  # a sentence that occurs three times
    target = doc >= 0
    target[0, 5] = False  # a heading
    visible = before(num_rows, num) & (doc[:, :, None] == doc[:, None]) & (doc >= 0)[:, None]
    head, context = with_query(query, window=window)
    values = head.loss(context, x, target, visible, seeded())
    loss, accuracy = definition(head, query, x, target, doc)
    assert_close(values["loss"], loss)
    assert_close(values["accuracy"], accuracy)


def test_neighbours_are_no_rivals_but_those_of_another_document_are() -> None:
    x = torch.randn(1, 4, D, generator=seeded())
    head, context = with_query(torch.randn(1, 4, D, generator=seeded(1)), window=3)
    target = torch.ones(1, 4, dtype=torch.bool)
    assert head.loss(context, x, target, before(1, 4))["loss"] == 0  # nothing to be told apart from
    doc = torch.tensor([[0, 0, 1, 1]])
    packed = before(1, 4) & (doc[:, :, None] == doc[:, None])
    assert head.loss(context, x, target, packed)["loss"] > 0.1


def test_rivals_of_other_rows_are_drawn_by_the_seed_up_to_their_number() -> None:
    x, context = torch.randn(8, S, D, generator=seeded(1)), torch.randn(8, S, H, generator=seeded(2))
    torch.manual_seed(0)
    head, target = ContrastiveHead(D, H, num_negatives=6), torch.ones(8, S, dtype=torch.bool)
    drawn = [head.loss(context, x, target, before(8), seeded(seed))["loss"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    other, rival = head.draw_others(x, target, seeded())
    assert other.shape == (6, D) and rival.shape == (8, S, 6)
    head.num_negatives = 0
    alone = [head.loss(context[b : b + 1], x[b : b + 1], target[:1], before(1))["loss"] for b in range(8)]
    assert_close(head.loss(context, x, target, before(8))["loss"], torch.stack(alone).mean())


def test_the_scale_is_capped() -> None:
    head = ContrastiveHead(D, H, scale=50.0, max_scale=60.0)
    assert_close(head.scale(), torch.tensor(50.0))
    head.log_scale.data += 1
    assert head.scale() == 60


def test_a_position_that_sees_nothing_is_not_asked() -> None:
    head, target = ContrastiveHead(D, H), torch.zeros(B, S, dtype=torch.bool)
    target[:, 0] = True
    assert head.loss(torch.randn(B, S, H), torch.randn(B, S, D), target, before())["loss"] == 0
    unseen = head.sample(torch.randn(B, S, H), torch.zeros(B, 1, S, dtype=torch.bool))
    assert_close(unseen[0, 0], math.sqrt(D) * F.normalize(head.query.bias, dim=0))


def test_without_a_bank_the_prediction_is_the_query_at_its_reach() -> None:
    query = torch.randn(B, S, D, generator=seeded())
    head, context = with_query(query)
    memory = head.remember(context[:, 2:], head.remember(context[:, :2]))
    found = head.sample(memory, before(), reach=1.0)
    assert_close(found[:, 1:], math.sqrt(D) * F.normalize(query[:, 1:], dim=-1))
    assert_close(head.sample(memory, before(), reach=5.0), 5 * found)


def test_far_out_the_nearest_by_distance_is_the_nearest_by_cosine() -> None:
    torch.manual_seed(0)
    head, bank, memory = ContrastiveHead(D, H), F.normalize(torch.randn(200, D), dim=-1), torch.randn(B, S, H)
    far = head.sample(memory, before(), reach=1000.0).double()
    assert torch.equal(bank[torch.cdist(far, bank.double()).argmin(-1)], head.sample(memory, before(), bank=bank))


def test_the_bank_answers_by_the_softmax_over_its_nearest() -> None:
    bank, num = torch.randn(20, D, generator=seeded(3)), 4000
    head, context = with_query(torch.randn(1, 2, D, generator=seeded()), scale=2.0)
    memory, visible = context[:, :1], torch.ones(1, num, 1, dtype=torch.bool)
    score = F.normalize(bank, dim=-1) @ head.find(memory, visible)[0, 0]
    nearest = score.argsort(descending=True)[:4]
    assert torch.equal(head.sample(memory, visible, bank=bank)[0, 0], bank[nearest[0]])
    for temperature in (0.5, 1.0):
        found = head.sample(memory, visible, bank=bank, temperature=temperature, top_k=4, generator=seeded())
        counts = torch.stack([(found[0] == bank[i]).all(-1).sum() for i in nearest]) / num
        assert_close(counts, (2 * score[nearest] / temperature).softmax(0), atol=0.03, rtol=0)  # only these four


def test_the_same_seed_draws_the_same_concepts_and_another_seed_others() -> None:
    torch.manual_seed(0)
    head, bank, memory = ContrastiveHead(D, H), torch.randn(99, D), torch.randn(B, S, H)
    a, b, c = (
        head.sample(memory, before(), bank=bank, temperature=1.0, top_k=50, generator=seeded(s)) for s in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


def small_model(dim: int = D) -> ConceptModel:
    torch.manual_seed(0)
    model = ConceptModel(dim, CausalTransformer(32, num_layers=2, num_heads=2, dropout=0.0), ContrastiveHead(dim, 32))
    model.normalizer.fit(torch.randn(50, dim) * 0.1 + 1)
    return model


def documents(num: int, dim: int, length: int = 10) -> ConceptBatch:
    concepts = torch.randn(num, length, dim, generator=seeded(1)) * 0.1 + 1
    return ConceptBatch(concepts, torch.ones(num, length, dtype=torch.bool), torch.zeros(num, length, dtype=torch.long))


def test_three_documents_are_learnt_by_heart() -> None:
    model, batch = small_model(16), documents(3, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = model.loss(batch, seeded())["loss"].item()
    for _ in range(150):
        optimizer.zero_grad()
        values = model.loss(batch, seeded())
        values["loss"].backward()
        optimizer.step()
    assert values["loss"] < first / 5
    x = model.normalizer(batch.concepts)
    found = model.predict(batch, bank=x.flatten(0, 1))
    assert_close(found[:, 1:], batch.concepts[:, 1:])  # every answer is the true next concept


def test_packed_documents_do_not_read_each_other() -> None:
    model = small_model().eval()
    batch = replace(documents(1, D), document=torch.tensor([[0] * 4 + [1] * 6]))
    changed = batch.concepts.clone()
    changed[:, :4] += 0.1
    a, b = model.predict(batch), model.predict(replace(batch, concepts=changed))
    assert torch.equal(a[:, 4:], b[:, 4:]) and not torch.isclose(a[:, 1:4], b[:, 1:4]).all(-1).any()
    assert not earlier(batch)[0, 4].any()


def test_the_gradient_reaches_the_backbone() -> None:
    model = small_model()
    model.loss(documents(B, D), seeded())["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None or name == "level.weight", name
        assert name == "level.weight" or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "found -1 and 1024"),
        ({"num_negatives": -5}, "found 1 and -5"),
        ({"scale": 0.0}, "found 0.0 and 100.0"),
        ({"scale": 200.0}, "found 200.0 and 100.0"),
    ],
)
def test_a_wrong_setting_is_an_error(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContrastiveHead(D, H, **options)  # type: ignore[arg-type]


def test_a_temperature_without_a_bank_and_an_empty_bank_are_errors() -> None:
    head, memory = ContrastiveHead(D, H), torch.randn(B, S, H)
    with pytest.raises(ValueError, match="needs a bank"):
        head.sample(memory, before(), temperature=1.0)
    with pytest.raises(ValueError, match="0 concepts"):
        head.sample(memory, before(), bank=torch.empty(0, D))


def test_a_bank_adds_its_concepts_as_rivals_but_never_the_true_one() -> None:
    x = F.normalize(torch.randn(1, S, D, generator=seeded()), dim=-1)
    head, context = with_query(x, window=0, num_negatives=0, num_banked=3, bank_size=S)
    head.fit(x[0, 2:3])  # one concept, over and over
    score = head.scale() * x[0] @ x[0].T
    score = torch.cat((score, score[:, 2:3].expand(-1, 3)), dim=1)
    score[2, S:] = -torch.inf
    expected = F.cross_entropy(score[1:], torch.arange(1, S))  # the first position has no context
    found = head.loss(context, x, torch.ones(1, S, dtype=torch.bool), before(1), seeded())["loss"]
    assert_close(found, expected, rtol=1e-3, atol=1e-5)  # the bank is kept in float16


def test_without_a_bank_there_is_nothing_to_choose_from() -> None:
    head, visible = ContrastiveHead(D, H), torch.ones(B, 1, S, dtype=torch.bool)
    with pytest.raises(ValueError, match="a top_k of 3 needs a bank"):
        head.sample(torch.randn(B, S, H), visible, top_k=3)


def test_a_bank_that_is_smaller_than_what_is_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="num_banked <= bank_size, found 9 and 8"):
        ContrastiveHead(D, H, num_banked=9, bank_size=8)
