import pytest
import torch
from torch import Tensor

from lcm.diffusion import SigmoidSchedule, add_noise
from lcm.predictions import ClampedSNR, EpsilonPrediction, Prediction, VPrediction, X0Prediction

B, S, D = 2, 5, 7
every_prediction = pytest.mark.parametrize("prediction", [X0Prediction(), VPrediction(), EpsilonPrediction()])


def target(prediction: Prediction, x: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of this prediction is to put out, from the definitions."""
    return {X0Prediction: x, VPrediction: alpha * noise - sigma * x, EpsilonPrediction: noise}[type(prediction)]


@pytest.fixture
def noised(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, noise = torch.randn(2, B, S, D, generator=generator, dtype=torch.float64)
    t = torch.randint(1, 100, (B, S), generator=generator) / 100
    schedule = SigmoidSchedule(zero_terminal_snr=False).double()
    alpha, sigma = schedule(t)
    return x, noise, add_noise(x, noise, t, schedule), alpha[..., None], sigma[..., None]


@every_prediction
def test_the_right_output_gives_back_the_data(prediction: Prediction, noised: tuple[Tensor, ...]) -> None:
    x, noise, x_t, alpha, sigma = noised
    output = target(prediction, x, noise, alpha, sigma)
    torch.testing.assert_close(prediction.x0(output, x_t, alpha, sigma), x, atol=1e-4, rtol=1e-4)


@every_prediction
def test_the_weighted_error_of_x0_is_the_error_of_the_output(
    prediction: Prediction, noised: tuple[Tensor, ...], generator: torch.Generator
) -> None:
    x, noise, x_t, alpha, sigma = noised
    output = torch.randn(B, S, D, generator=generator, dtype=torch.float64)
    direct = (output - target(prediction, x, noise, alpha, sigma)).square().sum(-1)
    x0 = prediction.x0(output, x_t, alpha, sigma)
    weight = prediction.weight(alpha, sigma)[..., 0]
    torch.testing.assert_close(weight * (x0 - x).square().sum(-1), direct, atol=1e-4, rtol=1e-4)


def test_the_predictions_agree_on_what_remains_of_the_noise(noised: tuple[Tensor, ...]) -> None:
    x, noise, x_t, alpha, sigma = noised
    v = target(VPrediction(), x, noise, alpha, sigma)
    torch.testing.assert_close(alpha * v + sigma * x_t, noise, atol=1e-4, rtol=1e-4)  # meta_lcm.md, section 5


def test_v_says_the_data_in_pure_noise_and_epsilon_does_not() -> None:
    x_t, output = torch.randn(2, 3, D)
    nothing, all_of_it = torch.zeros(3, 1), torch.ones(3, 1)
    assert torch.equal(VPrediction().x0(output, x_t, nothing, all_of_it), -output)
    assert not EpsilonPrediction().x0(output, x_t, nothing, all_of_it).isfinite().any()
    assert EpsilonPrediction.divides_by_alpha and not VPrediction.divides_by_alpha


def test_min_snr_is_the_published_weight_whatever_is_predicted() -> None:
    snr, gamma = torch.tensor([0.01, 1.0, 4.9, 5.1, 400.0]), 5.0
    sigma = (1 / (1 + snr)).sqrt()
    alpha = (1 - sigma**2).sqrt()
    weight, least = ClampedSNR(maximum=gamma)(alpha, sigma), snr.clamp(max=gamma)
    torch.testing.assert_close(weight / X0Prediction().weight(alpha, sigma), least)
    torch.testing.assert_close(weight / EpsilonPrediction().weight(alpha, sigma), least / snr)
    torch.testing.assert_close(weight / VPrediction().weight(alpha, sigma), least / (snr + 1))


def test_a_clamped_snr_is_finite_without_noise_and_without_data() -> None:
    alpha, sigma = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert ClampedSNR(0.001, 5.0)(alpha, sigma).tolist() == pytest.approx([5.0, 0.001])


@pytest.mark.parametrize(("minimum", "maximum"), [(-1.0, 5.0), (5.0, 5.0), (0.0, float("inf"))])
def test_wrong_bounds_are_an_error(minimum: float, maximum: float) -> None:
    with pytest.raises(ValueError, match=f"found {minimum} and {maximum}"):
        ClampedSNR(minimum, maximum)
