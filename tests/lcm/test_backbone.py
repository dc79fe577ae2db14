import pytest
import torch

from lcm.backbone import CausalTransformer, attendable, feed_forward_width, rotary_angles

B, S, H = 2, 5, 16


@pytest.fixture(params=[None, (0.5, 1.0)], ids=["attention alone", "with means"])
def backbone(request: pytest.FixtureRequest) -> CausalTransformer:
    torch.manual_seed(0)
    return CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.1, decays=request.param).eval()


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_later_concept_changes_nothing_before_it_to_the_bit(backbone: CausalTransformer, with_mask: bool) -> None:
    h = torch.randn(B, S, H)
    mask = torch.ones(B, S, dtype=torch.bool) if with_mask else None
    before, _ = backbone(h, mask)
    for s in range(S):
        changed = h.clone()
        changed[:, s] += 1
        after, _ = backbone(changed, mask)
        assert torch.equal(after[:, :s], before[:, :s])
        assert not torch.isclose(after[:, s:], before[:, s:]).all(-1).any()


def test_padding_changes_nothing_wherever_it_stands(backbone: CausalTransformer) -> None:
    h = torch.randn(1, S, H)
    plain, _ = backbone(h)
    for where in ([0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [0, 1, 3, 5, 6]):
        padded, mask = torch.randn(1, 7, H), torch.zeros(1, 7, dtype=torch.bool)
        padded[:, where], mask[:, where] = h, True
        context, _ = backbone(padded, mask)
        torch.testing.assert_close(context[:, where], plain)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("split", [1, 3, 4])
def test_cached_equals_uncached(backbone: CausalTransformer, split: int, with_mask: bool) -> None:
    h = torch.randn(B, S, H)
    mask = torch.ones(B, S, dtype=torch.bool) if with_mask else None
    if mask is not None:
        mask[0, 1] = False
    whole, _ = backbone(h, mask)
    first, cache = backbone(h[:, :split], None if mask is None else mask[:, :split])
    second, cache = backbone(h[:, split:], mask, cache=cache)
    both = torch.cat((first, second), dim=1)
    real = torch.ones(B, S, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(both[real], whole[real])
    assert len(cache) == S


def test_packed_documents_do_not_see_each_other(backbone: CausalTransformer) -> None:
    a, b = torch.randn(1, 2, H), torch.randn(1, 3, H)
    packed, _ = backbone(torch.cat((a, b), 1), document=torch.tensor([[0, 0, 1, 1, 1]]))
    torch.testing.assert_close(packed[:, :2], backbone(a)[0])
    torch.testing.assert_close(packed[:, 2:], backbone(b)[0])


@pytest.mark.parametrize("documents", [None, [[0, 0, 1, 1, 1], [0, 0, 0, 0, -1]]])
def test_tiles_give_what_a_mask_gives_and_so_do_their_gradients(
    backbone: CausalTransformer, documents: list[list[int]] | None
) -> None:
    document = None if documents is None else torch.tensor(documents)
    h = torch.randn(B, S, H, requires_grad=True)
    seen = attendable(torch.ones(B, S, dtype=torch.bool), document, 0, S)
    y, positions = h, torch.arange(S).expand(B, -1)
    if backbone.recent_means is not None:
        y, _ = backbone.recent_means(h, positions, None, document)
    for block in backbone.blocks:
        y, _ = block(y, rotary_angles(positions, backbone.head_dim), seen, None)
    expected, (got, _) = backbone.norm(y), backbone(h, document=document)
    torch.testing.assert_close(got, expected)
    weight = torch.randn(B, S, H)
    gradients = [torch.autograd.grad((out * weight).sum(), h) for out in (got, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_in_bfloat16_too_a_later_concept_changes_nothing_before_it(backbone: CausalTransformer, packed: bool) -> None:
    h = torch.randn(1, 300, H)
    document = torch.repeat_interleave(torch.arange(3), 100)[None] if packed else None
    exact, _ = backbone(h, document=document)
    changed = h.clone()
    changed[:, 150:] += 1
    with torch.autocast("cpu", torch.bfloat16):
        before, _ = backbone(h, document=document)
        after, _ = backbone(changed, document=document)
        last, _ = backbone(h[:, -1:], cache=backbone(h[:, :-1])[1])
    assert torch.equal(after[:, :150], before[:, :150])
    assert not torch.isclose(after[:, 150:], before[:, 150:]).all(-1).any()
    torch.testing.assert_close(before, exact, atol=0.1, rtol=0)
    if not packed:
        torch.testing.assert_close(before[:, -1:], last, atol=0.1, rtol=0)


def test_angles_of_all_layers_at_once_are_those_of_each(backbone: CausalTransformer) -> None:
    h, positions = torch.randn(B, S, H), torch.tensor([[0, 1, 1, 2, 3], [4, 5, 6, 7, 9]])
    each = h
    for block in backbone.blocks:
        each, _ = block(each, rotary_angles(positions, H // 2), None, None)
    plain = backbone.norm(each)
    given, _ = backbone.through(h, positions, None, [None, None])
    assert torch.equal(plain, given)


def test_parameter_count_equals_the_closed_form() -> None:
    d, f, layers = 32, feed_forward_width(32), 3
    block = 4 * d * d + 4 * d + 3 * d * f + 2 * f + d + 2 * d
    backbone = CausalTransformer(width=d, num_layers=layers, num_heads=2)
    assert sum(p.numel() for p in backbone.parameters()) == layers * block + d


def test_feed_forward_width_is_the_papers() -> None:
    assert (feed_forward_width(2048), feed_forward_width(4096)) == (5632, 11008)


def test_a_width_that_heads_do_not_divide_is_an_error() -> None:
    with pytest.raises(ValueError, match="multiple of 2 \\* num_heads"):
        CausalTransformer(width=10, num_heads=4)
