"""Several documents in a row are read and predicted as each alone."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from data.batch import ConceptBatch, Piece
from lcm.backbone import CausalTransformer
from lcm.heads.regression import RegressionHead
from lcm.model import ConceptModel, earlier

LENGTHS = ((3, 1, 4), (2, 2), (5,))  # the second and third row are padded


def make_rows(lengths: tuple[tuple[int, ...], ...] = LENGTHS, dim: int = 7) -> list[list[Piece]]:
    random = np.random.default_rng(0)
    return [
        [
            ((1 + 0.1 * random.standard_normal((n, dim))).astype(np.float16), (np.arange(n) % 4 == 3).astype(np.int8))
            for n in row
        ]
        for row in lengths
    ]


def contexts(model: ConceptModel, batch: ConceptBatch) -> Tensor:
    return model.contexts(model.normalizer(batch.concepts), batch.level, None, batch.document)[0]


def places(rows: list[list[Piece]]) -> list[tuple[int, slice, ConceptBatch]]:
    """Returns row, place and a batch of its own for each piece."""
    found = []
    for i, row in enumerate(rows):
        stop = 0
        for piece in row:
            start, stop = stop, stop + len(piece[0])
            found.append((i, slice(start, stop), ConceptBatch.pack([[piece]])))
    return found


def test_contexts_of_a_packed_row_are_those_of_its_pieces(model: ConceptModel) -> None:
    rows = make_rows()
    packed = contexts(model, ConceptBatch.pack(rows))
    for i, place, alone in places(rows):
        assert alone.document is None
        torch.testing.assert_close(packed[i, place], contexts(model, alone)[0])


@pytest.mark.parametrize("model", ["regression"], indirect=True)  # noise is drawn by shape
def test_the_regression_loss_of_packed_rows_is_the_mean_over_their_pieces(model: ConceptModel) -> None:
    rows = make_rows()
    total, num = 0.0, 0
    for _, _, alone in places(rows):
        targets = int(alone.target[:, 1:].sum())  # nothing stands before the first
        total, num = total + model.loss(alone)["loss"].item() * targets, num + targets
    assert model.loss(ConceptBatch.pack(rows))["loss"].item() == pytest.approx(total / num, rel=1e-5)


@pytest.mark.parametrize("model", ["two_tower"], indirect=True)
def test_the_denoiser_sees_its_own_piece_only(model: ConceptModel) -> None:
    rows = make_rows()
    batch = ConceptBatch.pack(rows)
    t = torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(0)).mul(100).round() / 100
    x_t = torch.randn(batch.concepts.shape, generator=torch.Generator().manual_seed(1))

    def denoise(one: ConceptBatch, i: Tensor | slice | list[int], place: slice) -> Tensor:
        memory = model.head.remember(contexts(model, one))
        return model.head.denoise(x_t[i, place], t[i, place], memory, earlier(one))  # type: ignore[attr-defined]

    packed = denoise(batch, slice(None), slice(None))
    for i, place, alone in places(rows):
        torch.testing.assert_close(packed[i, place], denoise(alone, [i], place)[0])


def test_a_changed_piece_changes_no_other_to_the_bit(model: ConceptModel) -> None:
    batch = ConceptBatch.pack(make_rows())
    sampling = {} if isinstance(model.head, RegressionHead) else {"num_steps": 4, "guidance_scale": 2.0}

    def outputs(concepts: Tensor) -> tuple[Tensor, Tensor]:
        changed = dataclasses.replace(batch, concepts=concepts)
        predicted = model.predict(changed, generator=torch.Generator().manual_seed(0), **sampling)
        return contexts(model, changed), predicted

    before = outputs(batch.concepts)
    assert batch.document is not None
    for i, number in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, -1)):
        here = torch.zeros_like(batch.mask)
        here[i] = batch.document[i] == number
        after = outputs(torch.where(here[..., None], batch.concepts + 0.1, batch.concepts))
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old[~here], new[~here])
        assert not torch.isclose(before[0][here], after[0][here]).all(-1).any()


def test_gradients_of_a_piece_stay_with_it(model: ConceptModel) -> None:
    batch = ConceptBatch.pack(make_rows())
    concepts = batch.concepts.clone().requires_grad_()
    out = contexts(model, dataclasses.replace(batch, concepts=concepts))
    assert batch.document is not None
    out[0, batch.document[0] == 1].sum().backward()
    assert concepts.grad is not None
    assert concepts.grad.abs().sum(-1).nonzero().tolist() == [[0, 3]]


def test_a_piece_far_into_a_long_row_is_read_as_at_its_start() -> None:
    torch.manual_seed(0)
    model = ConceptModel(7, CausalTransformer(width=32, num_layers=2, num_heads=2), RegressionHead(7, 32)).eval()
    model.normalizer.fit(torch.randn(50, 7) * 0.1 + 1)
    rows = make_rows(((2000, 48),))
    packed, alone = ConceptBatch.pack(rows), ConceptBatch.pack([[rows[0][1]]])
    torch.testing.assert_close(contexts(model, packed)[0, 2000:], contexts(model, alone)[0], atol=1e-4, rtol=1e-4)
