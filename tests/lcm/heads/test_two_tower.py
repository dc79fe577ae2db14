import pytest
import torch

from lcm.heads.two_tower import TwoTowerHead, embed_time

B, S, D, H = 2, 5, 7, 16


@pytest.fixture
def head() -> TwoTowerHead:
    torch.manual_seed(0)
    head = TwoTowerHead(D, H, num_layers=2, num_heads=2, dropout=0.0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


def before() -> torch.Tensor:
    return torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)


def test_adaln_zero_starts_without_branches() -> None:
    fresh = TwoTowerHead(D, H, num_layers=2, num_heads=2).eval()
    x_t, t = torch.randn(B, S, D), torch.full((B, S), 0.5)
    out = fresh.denoise(x_t, t, fresh.remember(torch.randn(B, S, H)), before())
    torch.testing.assert_close(out, fresh.output(fresh.norm(fresh.input(x_t))))


def test_a_table_of_modulations_equals_each_times_own(head: TwoTowerHead) -> None:
    num = 60  # more positions than the grid has steps
    x_t, t = torch.randn(B, num, D), torch.randint(1, 101, (B, num)) / 100
    memory, visible = head.remember(torch.randn(B, S, H)), torch.ones(B, num, S, dtype=torch.bool)
    whole = head.denoise(x_t, t, memory, visible)
    parts = [head.denoise(x_t[:, i : i + 1], t[:, i : i + 1], memory, visible[:, i : i + 1]) for i in range(num)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))


def test_memory_grows_by_appending(head: TwoTowerHead) -> None:
    context = torch.randn(B, S, H)
    whole, parts = head.remember(context), head.remember(context[:, 2:], head.remember(context[:, :2]))
    for (k, v), (part_k, part_v) in zip(whole, parts, strict=True):
        assert k.shape == (B, 2, 1 + S, H // 2)
        torch.testing.assert_close((part_k, part_v), (k, v))


def test_without_visible_contexts_only_the_zero_vector_counts(head: TwoTowerHead) -> None:
    unseen = torch.zeros(B, S, S, dtype=torch.bool)
    a, b = (
        head.sample(head.remember(torch.randn(B, S, H)), unseen, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    torch.testing.assert_close(a, b)


def test_guidance_one_is_no_guidance(head: TwoTowerHead) -> None:
    memory = head.remember(torch.randn(B, S, H))
    seen = torch.ones(B, 1, S, dtype=torch.bool)

    def draw(scale: float, visible: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return head.sample(memory, visible, generator=generator, num_steps=7, guidance_scale=scale)

    assert not torch.allclose(draw(1.0, seen), draw(3.0, seen))
    unseen = torch.zeros_like(seen)
    torch.testing.assert_close(draw(3.0, unseen), draw(1.0, unseen))  # nothing to push away from


def test_contexts_are_dropped_position_by_position_and_only_in_training(head: TwoTowerHead) -> None:
    rows = []
    denoise = head.denoise

    def spy(x_t: torch.Tensor, t: torch.Tensor, memory: object, visible: torch.Tensor) -> torch.Tensor:
        rows.append(visible.any(-1)[:, 1:].float().mean(-1))  # position 0 sees nothing anyway
        return denoise(x_t, t, memory, visible)

    head.denoise = spy  # type: ignore[method-assign]
    num = 400
    context, x = torch.randn(3, num, H), torch.randn(3, num, D)
    visible = torch.ones(num, num, dtype=torch.bool).tril(-1).expand(3, num, num)
    target = torch.ones(3, num, dtype=torch.bool)
    head.train().loss(context, x, target, visible, torch.Generator().manual_seed(0))
    head.eval().loss(context, x, target, visible, torch.Generator().manual_seed(0))
    trained, evaluated = rows
    torch.testing.assert_close(trained, torch.full((3,), 0.85), atol=0.06, rtol=0)
    assert len(set(trained.tolist())) > 1  # each row of the batch loses other positions
    assert (evaluated == 1).all()


def test_the_parameters_equal_the_closed_form() -> None:
    d, dim, inner, layers = 32, 7, 256, 3
    layer = 4 * d * d + 4 * d + 3 * d * inner + 2 * inner + d + 2 * d + 6 * d * d + 6 * d  # without self-attention
    rest = (dim * d + d) + (d * dim + dim) + d + (256 * d + d) + (d * d + d)
    head = TwoTowerHead(dim, d, num_layers=layers, num_heads=2)
    assert sum(p.numel() for p in head.parameters()) == layers * layer + rest


def test_times_are_told_apart() -> None:
    embedded = embed_time(torch.arange(1, 101) / 100, 100)
    assert embedded.shape == (100, 256)
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 0.1


def test_a_wrong_dropping_rate_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\), found 1.5"):
        TwoTowerHead(D, H, cond_dropout=1.5)
