import pytest
import torch

from decoders.reading import Reading, running_level

N, M, D = 4, 2, 300


def reading(level: float) -> Reading:
    draw = torch.Generator().manual_seed(0)
    return Reading(
        x=torch.randn(N, D, generator=draw),
        level=torch.full((N,), level),
        keep=torch.ones(N, dtype=torch.bool),
        neighbours=torch.randn(N, M, D, generator=draw),
        near=torch.ones(N, M, dtype=torch.bool),
    )


def test_noise_is_added_where_its_level_is_above_0_and_declared() -> None:
    before = reading(0.0)
    after = before.noised(torch.tensor([0.0, 0.5, 0.0, 0.9]), torch.Generator().manual_seed(1))
    assert after.level.tolist() == pytest.approx([0.0, 0.5, 0.0, 0.9])
    for old, new in ((before.x, after.x), (before.neighbours[:, 1], after.neighbours[:, 1])):
        assert [torch.equal(a, b) for a, b in zip(old, new, strict=True)] == [True, False, True, False]
        cosine = torch.nn.functional.cosine_similarity(old, new, dim=-1)
        torch.testing.assert_close(cosine[1::2], torch.tensor([0.5**0.5, 0.1**0.5]), atol=0.15, rtol=0.0)


def test_levels_of_two_noises_add_up() -> None:
    assert reading(0.5).noised(torch.full((N,), 0.2), None).level.tolist() == pytest.approx([0.6] * N)


def test_the_running_level_is_the_mean_of_predicted_concepts() -> None:
    mean = running_level(torch.zeros(()), torch.tensor([0.0, 0.2, 0.6]))
    assert float(mean) == pytest.approx(0.4)
    assert float(running_level(mean, torch.zeros(3))) == pytest.approx(0.4)
    for _ in range(2000):
        mean = running_level(mean, torch.tensor([0.0, 0.8, 0.8]))
    assert float(mean) == pytest.approx(0.8, abs=0.02)
