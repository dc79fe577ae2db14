"""Every model has as many parameters as a closed form says: D width of a concept, d of the model.

The forms with the terms of Meta's LCM give the published totals; ours differ by terms that are named here.
"""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lcm.backbone import CausalTransformer
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead
from lcm.heads.flow_two_tower import FlowTwoTowerHead
from lcm.heads.quantised import QuantisedContinuousHead, QuantisedHead
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import ConceptModel
from lcm.one_tower import OneTowerModel

LEVELS = 5  # each has a vector in our models, which Meta's have not
LAYERS = 3  # of each head below
CODEBOOKS, UNITS, NOISE = 3, 6, 5


def linear(a: int, b: int) -> int:
    return a * b + b


def attention(d: int) -> int:
    return 4 * linear(d, d)


def feed_forward(d: int) -> int:
    f = 256 * -(-8 * d // 768)
    return 3 * d * f + 2 * f + d


def context_layer(d: int) -> int:
    return attention(d) + feed_forward(d) + 2 * d  # two norms


def time(d: int) -> int:
    return linear(256, d) + linear(d, d)


def meta_denoiser_layer(d: int) -> int:
    return 2 * attention(d) + feed_forward(d) + 3 * d + linear(d, 9 * d)


def denoiser_layer(d: int) -> int:
    """Meta's, without the self-attention of one vector to itself, its norm and its three modulations."""
    return meta_denoiser_layer(d) - (attention(d) + d + linear(d, 3 * d))


def base(dim: int, d: int, layers: int) -> int:
    return layers * context_layer(d) + linear(dim, d) + linear(d, dim) + d


def meta_two_tower(dim: int, d: int, context_layers: int, denoiser_layers: int) -> int:
    layers = context_layers * context_layer(d) + denoiser_layers * meta_denoiser_layer(d)
    return layers + 2 * linear(dim, d) + linear(d, dim) + 2 * d + time(d)


def reader(dim: int, d: int, layers: int) -> int:
    """All of our model but its head."""
    return linear(dim, d) + LEVELS * d + layers * context_layer(d) + d


def one_tower(dim: int, d: int, layers: int) -> int:
    return reader(dim, d, layers) + time(d) + d * d + linear(d, dim)  # the last map of the time has no bias


def two_tower(dim: int, d: int) -> int:
    return time(d) + linear(dim, d) + LAYERS * denoiser_layer(d) + d + linear(d, dim)


def residual_mlp(a: int, d: int, b: int) -> int:
    return linear(a, d) + LAYERS * (2 * linear(d, d) + linear(d, 3 * d)) + d + linear(d, b)


HEADS: dict[str, tuple[Callable[[int, int], nn.Module], Callable[[int, int], int]]] = {
    "regression": (RegressionHead, lambda dim, d: linear(d, dim)),
    "two-tower": (lambda dim, d: TwoTowerHead(dim, d, num_layers=LAYERS, num_heads=2), two_tower),
    "flow": (
        lambda dim, d: FlowHead(dim, d, num_layers=LAYERS),
        lambda dim, d: linear(d, d) + time(d) + residual_mlp(dim, d, dim),
    ),
    "flow two-tower": (lambda dim, d: FlowTwoTowerHead(dim, d, num_layers=LAYERS, num_heads=2), two_tower),
    "energy": (
        lambda dim, d: EnergyHead(dim, d, num_layers=LAYERS, noise_dim=NOISE),
        lambda dim, d: linear(d, d) + residual_mlp(NOISE, d, dim),
    ),
    "contrastive": (ContrastiveHead, lambda dim, d: linear(d, dim) + 1),  # and a scale
    "quantised, discrete": (
        lambda dim, d: QuantisedHead(dim, d, num_codebooks=CODEBOOKS, num_units=UNITS, num_layers=LAYERS),
        lambda dim, d: CODEBOOKS * d + residual_mlp(dim, d, UNITS),
    ),
    "quantised, continuous": (
        lambda dim, d: QuantisedContinuousHead(dim, d, num_codebooks=CODEBOOKS, num_units=UNITS, num_layers=LAYERS),
        lambda dim, d: CODEBOOKS * d + residual_mlp(dim, d, dim) + CODEBOOKS,  # and a beta a codebook
    ),
    "regression with contrast": (
        lambda dim, d: WithContrast(RegressionHead(dim, d), dim, d),
        lambda dim, d: 2 * linear(d, dim) + 1,
    ),
}
SIZES = [(7, 32, 2), (384, 512, 3)]  # D, d, layers of the backbone; the inner widths are 256 and 1536


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_forms_give_the_published_totals() -> None:
    assert base(1024, 2048, 32) == 1_649_185_792
    assert meta_two_tower(1024, 2048, 5, 13) == 1_645_538_304
    assert meta_two_tower(1024, 4096, 5, 14) == 6_930_781_696


@pytest.mark.parametrize(("dim", "d", "layers"), SIZES)
@pytest.mark.parametrize("name", HEADS)
def test_a_model_has_the_parameters_of_its_closed_form(name: str, dim: int, d: int, layers: int) -> None:
    make, form = HEADS[name]
    with torch.device("meta"):
        model = ConceptModel(dim, CausalTransformer(d, layers, num_heads=2), make(dim, d))
    assert count(model) == reader(dim, d, layers) + form(dim, d)


@pytest.mark.parametrize(("dim", "d", "layers"), SIZES)
def test_a_one_tower_has_the_parameters_of_its_closed_form(dim: int, d: int, layers: int) -> None:
    with torch.device("meta"):
        model = OneTowerModel(dim, CausalTransformer(d, layers, num_heads=2))
    assert count(model) == one_tower(dim, d, layers)


@pytest.mark.parametrize(("dim", "d", "layers"), SIZES)
def test_ours_differ_from_metas_by_the_terms_that_are_named(dim: int, d: int, layers: int) -> None:
    levels, self_attention = LEVELS * d, attention(d) + d + linear(d, 3 * d)
    assert reader(dim, d, layers) + linear(d, dim) == base(dim, d, layers) + levels
    ours = reader(dim, d, layers) + two_tower(dim, d)
    assert ours == meta_two_tower(dim, d, layers, LAYERS) - LAYERS * self_attention + levels
