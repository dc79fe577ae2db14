import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcm import tiles
from lcm.tiles import TiledAttention, causal_tiles, first_positions

B, S, HEADS, D = 3, 11, 2, 5
PACKED = torch.tensor([[0] * 4 + [1] * 5 + [2] * 2, [0] * 11, [7] + [3] * 5 + [-1] * 5])


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "QUERIES", 4)
    monkeypatch.setattr(tiles, "PAIRS", 64)


def seen(document: Tensor | None) -> Tensor:
    causal = torch.ones(S, S, dtype=torch.bool).tril().expand(B, -1, -1)
    return causal if document is None else causal & (document[:, :, None] == document[:, None])


@pytest.mark.parametrize("document", [None, PACKED])
def test_tiles_hold_each_pair_that_is_seen_once(document: Tensor | None) -> None:
    held = torch.zeros(B, S, S, dtype=torch.long)
    for tile in causal_tiles(B, S, document):
        part = held[tile.rows, tile.queries, tile.keys]
        hidden = torch.zeros(part.shape, dtype=torch.bool)
        hidden[..., part.shape[-1] - tile.hidden.shape[-1] :] = tile.hidden[:, 0]
        part += ~hidden
    assert torch.equal(held, seen(document).long())


@pytest.mark.parametrize("document", [None, PACKED])
def test_attention_and_gradients_are_those_under_a_mask(document: Tensor | None) -> None:
    torch.manual_seed(0)
    q, k, v, weight = torch.randn(4, B, HEADS, S, D, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    y = TiledAttention.apply(q, k, v, causal_tiles(B, S, document))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen(document)[:, None])
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(
        torch.autograd.grad((y * weight).sum(), inputs), torch.autograd.grad((expected * weight).sum(), inputs)
    )


def test_first_positions() -> None:
    assert first_positions(PACKED)[0].tolist() == [0] * 4 + [4] * 5 + [9] * 2


def test_work_follows_the_documents_not_the_row() -> None:
    document = torch.repeat_interleave(torch.arange(4), 4)[None]
    pairs = [tile.hidden.shape[2] * (tile.keys.stop - tile.keys.start) for tile in causal_tiles(1, 16, document)]
    assert pairs == [16] * 4
