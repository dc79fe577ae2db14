import pytest
import torch

from lcm.backbone import CausalTransformer, feed_forward_width

B, S, H = 2, 5, 16


@pytest.fixture
def backbone() -> CausalTransformer:
    torch.manual_seed(0)
    return CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.1).eval()


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
