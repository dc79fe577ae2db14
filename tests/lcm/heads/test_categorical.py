import torch

from lcm.heads.categorical import draw, keep_likeliest


def test_top_p_keeps_the_fewest_that_hold_it_and_top_k_the_largest() -> None:
    p = torch.tensor([[0.1, 0.5, 0.25, 0.15], [0.25, 0.25, 0.25, 0.25]])
    for top_p, kept in ((0.5, [[1], [0, 1]]), (0.51, [[1, 2], [0, 1, 2]]), (0.8, [[1, 2, 3], [0, 1, 2, 3]])):
        found = keep_likeliest(p, None, top_p)
        assert [row.nonzero()[:, 0].tolist() for row in found] == kept
        assert torch.equal(found[found > 0], p[found > 0])
    assert keep_likeliest(p, 2, 0.8).nonzero().tolist() == [[0, 1], [0, 2], [1, 0], [1, 1]]
    assert torch.equal(keep_likeliest(p, None, 1.0), p)
    chosen = draw(
        p[:1].log().expand(500, 4), temperature=1, top_k=None, top_p=0.6, generator=torch.Generator().manual_seed(0)
    )
    assert set(chosen.tolist()) == {1, 2}
