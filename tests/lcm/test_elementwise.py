import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from lcm.elementwise import Dropout, Normalise, RMSNorm, rotated_heads

B, S, H = 2, 3, 8


def test_the_norm_is_torchs_and_so_are_its_gradients() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(B, S, H, dtype=torch.float64, requires_grad=True), torch.randn(H, dtype=torch.float64)
    norm = RMSNorm(H).double()
    norm.weight.data.copy_(weight)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (H,), weight))
    assert gradcheck(lambda a, w: Normalise.apply(a, w, 1e-6), (x, norm.weight))
    assert norm(torch.zeros(1, H, dtype=torch.float64)).abs().max() == 0


def test_rotation_is_that_of_complex_numbers_and_so_are_its_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(B, S, 3, 2, H, dtype=torch.float64, requires_grad=True)
    angle = torch.randn(B, 1, S, H // 2, dtype=torch.float64)
    q, k, v = rotated_heads(x, angle.cos(), angle.sin())
    for got, given in ((q, x[:, :, 0]), (k, x[:, :, 1])):
        pairs = torch.complex(*given.transpose(1, 2).chunk(2, dim=-1)) * torch.exp(1j * angle)
        torch.testing.assert_close(got, torch.cat((pairs.real, pairs.imag), dim=-1))
    assert torch.equal(v, x[:, :, 2].transpose(1, 2))
    assert gradcheck(lambda a: rotated_heads(a, angle.cos(), angle.sin()), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_a_share_and_keeps_the_mean(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(301, 1001, dtype=dtype, requires_grad=True)
    y = Dropout(0.3)(x)
    assert y.dtype == dtype
    assert abs((y == 0).float().mean() - 0.3) < 0.005
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.7))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_dropout_follows_the_seed_and_rests_outside_training() -> None:
    x, dropout = torch.randn(5, 7), Dropout(0.5)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(dropout(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))
