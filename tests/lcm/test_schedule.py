import pytest
import torch

from lcm.schedule import WarmupCosine


def rates(total_steps: int, warmup: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = WarmupCosine(optimizer, total_steps, warmup)
    found = []
    for _ in range(total_steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [*found, scheduler.get_last_lr()[0]]


@pytest.mark.parametrize("total_steps", [2, 3, 20, 200])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5])
def test_the_rate_rises_to_the_optimisers_and_falls_to_zero(total_steps: int, warmup: float) -> None:
    found = rates(total_steps, warmup)
    top = found.index(max(found))
    assert max(found) == 2.0
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] == pytest.approx(0, abs=1e-9)


def test_impossible_lengths_are_errors() -> None:
    with pytest.raises(ValueError, match="found 0 and"):
        rates(0, 0.1)
