"""A tiny fitted concept model of each head."""

import pytest
import torch

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.model import ConceptModel

B, S, D, H = 2, 6, 7, 16


def make_model(kind: str) -> ConceptModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=2, num_heads=2, dropout=0.0)
    head = RegressionHead(D, H) if kind == "regression" else TwoTowerHead(D, H, num_layers=2, num_heads=2, dropout=0.0)
    model = ConceptModel(D, backbone, head)
    for parameter in model.parameters():  # AdaLN-zero and the level table start at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    model.normalizer.fit(torch.randn(50, D) * 0.1 + 1)
    return model.eval()


@pytest.fixture(params=["regression", "two_tower"])
def model(request: pytest.FixtureRequest) -> ConceptModel:
    return make_model(request.param)


@pytest.fixture
def batch() -> ConceptBatch:
    concepts = torch.randn(B, S, D, generator=torch.Generator().manual_seed(1)) * 0.1 + 1
    level = torch.zeros(B, S, dtype=torch.long)
    level[:, 0] = 2
    return ConceptBatch(concepts, torch.ones(B, S, dtype=torch.bool), level)
