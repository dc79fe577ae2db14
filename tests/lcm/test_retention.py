import pytest
import torch
from torch import Tensor

from data.batch import ConceptBatch
from lcm.backbone import feed_forward_width
from lcm.generation import continue_concepts
from lcm.heads.regression import RegressionHead
from lcm.model import ConceptModel
from lcm.retention import (
    Places,
    RetentiveTransformer,
    empty_state,
    log_decays,
    retain_chunks,
    retain_parallel,
    retain_step,
)

B, S, H = 2, 11, 16
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.fixture
def backbone() -> RetentiveTransformer:
    torch.manual_seed(0)
    return RetentiveTransformer(width=H, num_layers=2, num_heads=2, dropout=0.1, chunk=4).eval()


def heads(dtype: torch.dtype, num: int = S) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, B, 3, num, 5, dtype=dtype)
    return q, k, v, log_decays(3).to(dtype)


@pytest.mark.parametrize("dtype", CLOSE)
def test_the_definition(dtype: torch.dtype) -> None:
    q, k, v, logs = heads(dtype)
    places = Places(torch.arange(S)[None])
    expected = torch.zeros_like(v)
    for head, decay in enumerate((1 - 2**-5, 1 - 2**-6, 1 - 2**-7)):
        for n in range(S):
            for m in range(n + 1):
                score = (q[:, head, n] * k[:, head, m]).sum(-1, keepdim=True)
                expected[:, head, n] += decay ** (n - m) * score * v[:, head, m]
    y, _ = retain_parallel(q, k, v, logs, places, empty_state(k, places.position))
    torch.testing.assert_close(y, expected, atol=CLOSE[dtype], rtol=0)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 20])
def test_three_forms_agree(dtype: torch.dtype, chunk: int) -> None:
    q, k, v, logs = heads(dtype, 300)
    position = torch.arange(300)[None]
    past = empty_state(k, position)
    parallel, state = retain_parallel(q, k, v, logs, Places(position), past)
    chunked, of_chunks = retain_chunks(q, k, v, logs, Places(position), past, chunk)
    ys = []
    for n in range(300):
        here = slice(n, n + 1)
        y, past = retain_step(q[:, :, here], k[:, :, here], v[:, :, here], logs, Places(position[:, here]), past)
        ys.append(y)
    for y, last in ((chunked, of_chunks), (torch.cat(ys, 2), past)):
        torch.testing.assert_close(y, parallel, atol=CLOSE[dtype], rtol=CLOSE[dtype])
        torch.testing.assert_close(last[0], state[0], atol=CLOSE[dtype], rtol=CLOSE[dtype])


def test_gradients_of_chunks_are_those_of_all_pairs() -> None:
    q, k, v, logs = heads(torch.float64)
    places = Places(torch.arange(S)[None], begin=torch.tensor([[0] * 5 + [5] * 6, [0] * 11]))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    weight, past = torch.randn_like(v), empty_state(k, places.position)
    whole = torch.autograd.grad((retain_parallel(q, k, v, logs, places, past)[0] * weight).sum(), inputs)
    parts = torch.autograd.grad((retain_chunks(q, k, v, logs, places, past, 3)[0] * weight).sum(), inputs)
    torch.testing.assert_close(parts, whole, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_later_concept_changes_nothing_before_it_to_the_bit(backbone: RetentiveTransformer, with_mask: bool) -> None:
    h = torch.randn(B, S, H)
    mask = torch.ones(B, S, dtype=torch.bool) if with_mask else None
    before, _ = backbone(h, mask)
    for s in range(S):
        changed = h.clone()
        changed[:, s] += 1
        after, _ = backbone(changed, mask)
        assert torch.equal(after[:, :s], before[:, :s])
        assert not torch.isclose(after[:, s:], before[:, s:]).all(-1).any()


def test_padding_changes_nothing_wherever_it_stands(backbone: RetentiveTransformer) -> None:
    h = torch.randn(1, 5, H)
    plain, _ = backbone(h)
    for where in ([0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [4, 5, 6, 7, 8], [0, 1, 3, 7, 8]):
        padded, mask = torch.randn(1, 9, H), torch.zeros(1, 9, dtype=torch.bool)
        padded[:, where], mask[:, where] = h, True
        context, _ = backbone(padded, mask)
        torch.testing.assert_close(context[:, where], plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("split", [1, 3, 4, 9, 10])
@pytest.mark.parametrize("ragged", [False, True])
def test_cached_equals_uncached(backbone: RetentiveTransformer, dtype: torch.dtype, split: int, ragged: bool) -> None:
    backbone, h = backbone.to(dtype), torch.randn(B, S, H, dtype=dtype)
    mask = torch.ones(B, S, dtype=torch.bool)
    if ragged:
        mask[0, :2], mask[0, 5], mask[1, 3:5] = False, False, False
    seen = mask if ragged else None
    whole, _ = backbone(h, seen)
    first, cache = backbone(h[:, :split], None if seen is None else seen[:, :split])
    parts = [first]
    for s in range(split, S):
        part, cache = backbone(h[:, s : s + 1], None if seen is None else seen[:, : s + 1], cache=cache)
        parts.append(part)
    several, _ = backbone(
        h[:, split:], seen, cache=backbone(h[:, :split], None if seen is None else seen[:, :split])[1]
    )
    for both in (torch.cat(parts, dim=1), torch.cat((first, several), dim=1)):
        torch.testing.assert_close(both[mask], whole[mask], atol=CLOSE[dtype], rtol=CLOSE[dtype])
    assert len(cache) == S


def test_the_cache_does_not_grow(backbone: RetentiveTransformer) -> None:
    _, short = backbone(torch.randn(B, 1, H))
    _, long = backbone(torch.randn(B, 50, H))
    assert [s[0].shape for s in short.layers] == [s[0].shape for s in long.layers] == [(B, 2, H // 2, H // 2)] * 2


@pytest.mark.parametrize("lengths", [(2, 3), (4, 4), (3, 6), (9, 1, 1), (1, 2, 8), (5, 6)])
def test_packed_documents_do_not_see_each_other(backbone: RetentiveTransformer, lengths: tuple[int, ...]) -> None:
    documents = [torch.randn(1, num, H) for num in lengths]
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    packed, _ = backbone(torch.cat(documents, 1), document=ids)
    alone = torch.cat([backbone(h)[0] for h in documents], 1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_gradients_of_a_document_stay_with_it(backbone: RetentiveTransformer) -> None:
    h = torch.randn(1, 9, H, requires_grad=True)
    out, _ = backbone(h, document=torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 2]]))
    out[0, 3:8].sum().backward()
    assert h.grad is not None
    assert h.grad.abs().sum(-1).bool().tolist() == [[False] * 3 + [True] * 5 + [False]]


def test_parameter_count_equals_the_closed_form() -> None:
    d, f, layers = 32, feed_forward_width(32), 3
    block = 5 * d * d + 5 * d + 3 * d * f + 2 * f + d + 2 * d
    backbone = RetentiveTransformer(width=d, num_layers=layers, num_heads=2)
    assert sum(p.numel() for p in backbone.parameters()) == layers * block + d


@pytest.mark.parametrize(("options", "message"), [({"width": 10}, "2 \\* num_heads"), ({"chunk": 0}, "chunk must be")])
def test_what_cannot_be_is_an_error(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetentiveTransformer(**options)


def test_a_model_over_retention_learns_and_generates() -> None:
    torch.manual_seed(0)
    backbone = RetentiveTransformer(width=H, num_layers=1, num_heads=2, dropout=0.0, chunk=4)
    model = ConceptModel(3, backbone, RegressionHead(3, H))
    concepts = torch.randn(2, 9, 3)
    model.fit(concepts.flatten(0, 1))
    level = torch.zeros(2, 11, dtype=torch.long)
    batch = ConceptBatch(concepts, torch.ones(2, 9, dtype=torch.bool), level[:, :9])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5
    model.eval()
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, :2] = False
    both = continue_concepts(model, concepts, 3, mask, level=level[:, :9])
    alone = continue_concepts(model, concepts[1:, 2:], 3, level=level[1:, :7])
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)
    longer = torch.cat((concepts[:1], both[:1, :2]), 1)
    torch.testing.assert_close(model.predict_next(longer, level=level[:1]), both[:1, 2], atol=1e-4, rtol=1e-4)
