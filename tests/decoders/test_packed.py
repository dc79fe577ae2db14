import torch
from torch import nn

from decoders.packed import PackedLinear, pack_linear


def test_a_packed_layer_is_the_layer() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8, bias=False)).bfloat16().requires_grad_(False)
    x = torch.randn(3, 5, 24).bfloat16()
    expected, state = plain(x), {key: value.clone() for key, value in plain.state_dict().items()}
    assert pack_linear(plain) == 2 and pack_linear(plain) == 0
    torch.testing.assert_close(plain(x), expected, atol=2e-2, rtol=2e-2)
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    with torch.no_grad():
        plain[0].weight.mul_(-1)  # what was laid out is not kept beyond a change
        plain[0].bias.mul_(-1)
    packed, fresh = plain[0](x), nn.functional.linear(x, plain[0].weight, plain[0].bias)
    torch.testing.assert_close(packed, fresh, atol=2e-2, rtol=2e-2)
    x.requires_grad_()
    plain(x).sum().backward()
    assert x.grad is not None and x.grad.any()


def test_what_learns_or_is_float32_is_left_alone() -> None:
    assert pack_linear(nn.Linear(4, 4).requires_grad_(False)) == 0
    learning = nn.Linear(4, 4).bfloat16()
    assert pack_linear(learning) == 0 and not isinstance(learning, PackedLinear)
