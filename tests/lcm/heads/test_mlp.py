import pytest
import torch

from lcm.heads.mlp import ResidualMLP

B, N, IN, W, OUT = 2, 3, 4, 8, 5


def test_it_returns_zero_before_training() -> None:
    out = ResidualMLP(IN, W, OUT, 2)(torch.randn(B, N, IN), torch.randn(B, N, W))
    torch.testing.assert_close(out, torch.zeros(B, N, OUT))


def test_layers_change_nothing_at_the_start() -> None:
    network, vector, condition = ResidualMLP(IN, W, OUT, 2), torch.randn(B, IN), torch.randn(B, W)
    torch.nn.init.normal_(network.output.weight)
    expected = network.output(network.norm(network.input(vector) + condition))
    torch.testing.assert_close(network(vector, condition), expected)


def test_a_condition_for_many_vectors_equals_one_for_each() -> None:
    network = ResidualMLP(IN, W, OUT, 2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    vector, condition = torch.randn(B, N, IN), torch.randn(B, 1, W)
    one_by_one = [network(vector[:, n], condition[:, 0]) for n in range(N)]
    torch.testing.assert_close(network(vector, condition), torch.stack(one_by_one, 1))


def test_the_parameters_equal_the_closed_form() -> None:
    layers = 3
    network = ResidualMLP(IN, W, OUT, layers)
    layer = 2 * (W * W + W) + 3 * W * W + 3 * W
    assert sum(p.numel() for p in network.parameters()) == layers * layer + (IN * W + W) + W + (W * OUT + OUT)


def test_no_layer_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1, found 0"):
        ResidualMLP(IN, W, OUT, 0)
