import pytest
import torch
import torch.nn.functional as F

from lcm.heads.regression import Error, RegressionHead, cosine_error, huber_error

B, S, D, H = 2, 4, 5, 6


def test_each_query_reads_the_last_context_that_it_sees() -> None:
    head, context = RegressionHead(D, H), torch.randn(B, S, H)
    visible = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool).expand(B, 4, S)
    found = head.sample(context, visible)
    for query, last in enumerate((0, 1, 2)):
        torch.testing.assert_close(found[:, query], head.output(context[:, last]))
    torch.testing.assert_close(found[:, 3], head.output.bias.expand(B, D))


def test_a_position_that_sees_nothing_is_no_target() -> None:
    head, context, x = RegressionHead(D, H), torch.randn(B, S, H), torch.randn(B, S, D)
    visible = torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)
    target = torch.zeros(B, S, dtype=torch.bool)
    target[:, 0] = True
    assert head.loss(context, x, target, visible)["loss"] == 0


def test_the_loss_is_the_mean_squared_error() -> None:
    head, context, x = RegressionHead(D, H), torch.randn(B, S, H), torch.randn(B, S, D)
    visible = torch.ones(S, S, dtype=torch.bool).tril(-1).expand(B, S, S)
    loss = head.loss(context, x, torch.ones(B, S, dtype=torch.bool), visible)["loss"]
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(head.output(context[:, :-1]), x[:, 1:]))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (huber_error, lambda found, x: F.huber_loss(found, x)),
        (cosine_error, lambda found, x: F.cosine_embedding_loss(found[0], x[0], torch.ones(len(x[0])))),
    ],
)
def test_another_error_is_torch_s(error: Error, expected: Error) -> None:
    head, context, x = RegressionHead(D, H, error), torch.randn(1, S, H), 3 * torch.randn(1, S, D)
    visible = torch.ones(1, S, S, dtype=torch.bool).tril(-1)
    loss = head.loss(context, x, torch.ones(1, S, dtype=torch.bool), visible)["loss"]
    torch.testing.assert_close(loss, expected(head.output(context[:, :-1]), x[:, 1:]))
