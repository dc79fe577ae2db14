"""The means of what was read lately, against a loop over positions."""

import pytest
import torch
from torch import Tensor

from lcm.recent_means import CHUNK, RecentMeans

B, S, H = 2, CHUNK + 7, 5


def slowly(means: RecentMeans, h: Tensor) -> Tensor:
    """One document (S, H), position by position."""
    out = []
    for s in range(len(h)):
        mixed = means.gains[0] * h[s]
        for gain, log_decay in zip(means.gains[1:], means.log_decays, strict=True):
            weight = (log_decay * torch.arange(s, -1, -1)).exp()
            mixed = mixed + gain * (weight[:, None] * h[: s + 1]).sum(0) / weight.sum()
        out.append(mixed)
    return torch.stack(out)


@pytest.fixture
def means() -> RecentMeans:
    torch.manual_seed(0)
    means = RecentMeans(H, (0.5, 0.75, 0.9, 1.0))
    torch.nn.init.normal_(means.gains)
    return means


def places(num: int) -> Tensor:
    return torch.arange(num)[None]


def test_chunks_equal_a_loop_over_positions(means: RecentMeans) -> None:
    h = torch.randn(B, S, H)
    mixed, _ = means(h, places(S))
    torch.testing.assert_close(mixed, torch.stack([slowly(means, row) for row in h]), rtol=1e-4, atol=1e-5)


def test_a_border_between_documents_is_never_crossed(means: RecentMeans) -> None:
    h, cut = torch.randn(1, S, H), CHUNK - 3
    document = (torch.arange(S) >= cut).long()[None]
    mixed, _ = means(h, places(S), None, document)
    expected = torch.cat((slowly(means, h[0, :cut]), slowly(means, h[0, cut:])))
    torch.testing.assert_close(mixed[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [1, 3, CHUNK, CHUNK + 1])
def test_going_on_from_a_state_equals_reading_at_once(means: RecentMeans, first: int) -> None:
    h = torch.randn(B, S, H)
    whole, _ = means(h, places(S))
    begun, state = means(h[:, :first], places(S)[:, :first])
    rest, _ = means(h[:, first:], places(S)[:, first:], state=state)
    torch.testing.assert_close(torch.cat((begun, rest), 1), whole, rtol=1e-4, atol=1e-5)


def test_padding_anywhere_changes_nothing(means: RecentMeans) -> None:
    h = torch.randn(1, 9, H)
    mask = torch.tensor([[False, True, True, False, False, True, True, True, False]])
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    mixed, _ = means(h, positions, mask)
    torch.testing.assert_close(mixed[mask], slowly(means, h[mask]), rtol=1e-4, atol=1e-5)


def test_the_future_is_not_seen_to_the_bit(means: RecentMeans) -> None:
    h = torch.randn(1, S, H)
    changed = h.clone()
    changed[:, 50:] += 1
    before, after = means(h, places(S))[0], means(changed, places(S))[0]
    assert torch.equal(before[:, :50], after[:, :50]) and not torch.equal(before[:, 50:], after[:, 50:])


def test_it_has_a_gain_a_channel_and_mean() -> None:
    assert sum(p.numel() for p in RecentMeans(H, (0.5, 1.0)).parameters()) == 3 * H


@pytest.mark.parametrize("decays", [(), (0.0,), (1.5,), (-0.5, 0.5)])
def test_decays_that_are_none_are_refused(decays: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="decays must be above 0"):
        RecentMeans(H, decays)
