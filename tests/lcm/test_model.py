import dataclasses

import pytest
import torch

from data.batch import ConceptBatch
from lcm.backbone import CausalTransformer
from lcm.denoiser import Denoiser
from lcm.generation import continue_concepts
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import ConceptModel


def sampling(model: ConceptModel) -> dict[str, float]:
    return {} if isinstance(model.head, RegressionHead) else {"num_steps": 8, "guidance_scale": 2.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_later_concept_changes_no_earlier_prediction_to_the_bit(model: ConceptModel, batch: ConceptBatch) -> None:
    before = model.predict(batch, generator=seeded(), **sampling(model))
    for s in range(batch.concepts.shape[1]):
        concepts = batch.concepts.clone()
        concepts[:, s] += 0.1
        after = model.predict(dataclasses.replace(batch, concepts=concepts), generator=seeded(), **sampling(model))
        assert torch.equal(after[:, : s + 1], before[:, : s + 1])  # position s is predicted from those before s
        assert not torch.isclose(after[:, s + 1 :], before[:, s + 1 :]).all(-1).any()


def test_padding_changes_neither_loss_nor_prediction(model: ConceptModel, batch: ConceptBatch) -> None:
    if isinstance(model.head, RegressionHead):  # noise is drawn by shape, so only this loss can be compared
        padded = ConceptBatch.pad([*batch.concepts, torch.randn(9, 7)], [*batch.level, torch.zeros(9)])
        padded = ConceptBatch(padded.concepts[:2], padded.mask[:2], padded.level[:2])
        torch.testing.assert_close(model.loss(padded)["loss"], model.loss(batch)["loss"])
    plain = model.predict_next(batch.concepts, level=batch.level, generator=seeded(), **sampling(model))
    for left, right in ((0, 3), (2, 0), (1, 2)):
        concepts = torch.nn.functional.pad(batch.concepts, (0, 0, left, right), value=7.0)
        mask = torch.nn.functional.pad(batch.mask, (left, right))
        level = torch.nn.functional.pad(batch.level, (left, right))
        next_concept = model.predict_next(concepts, mask, level=level, generator=seeded(), **sampling(model))
        torch.testing.assert_close(next_concept, plain)


def test_cached_continuation_equals_predicting_each_concept_from_scratch(
    model: ConceptModel, batch: ConceptBatch
) -> None:
    cached = continue_concepts(model, batch.concepts, 4, level=batch.level, generator=seeded(), **sampling(model))
    generator, prefix, level = seeded(), batch.concepts, batch.level
    for n in range(4):
        concept = model.predict_next(prefix, level=level, generator=generator, **sampling(model))
        torch.testing.assert_close(cached[:, n], concept)
        prefix = torch.cat((prefix, concept[:, None]), dim=1)
        level = torch.nn.functional.pad(level, (0, 1))


def test_ragged_prefixes_continue_as_each_alone(model: ConceptModel, batch: ConceptBatch) -> None:
    if not isinstance(model.head, RegressionHead):
        pytest.skip("noise is drawn for the whole batch, rows alone draw other noise")
    mask = batch.mask.clone()
    mask[1, 4:] = False
    both = continue_concepts(model, batch.concepts, 3, mask, level=batch.level)
    alone = continue_concepts(model, batch.concepts[1:, :4], 3, level=batch.level[1:, :4])
    torch.testing.assert_close(both[1:], alone)


def test_teacher_forced_prediction_equals_predicting_the_next(model: ConceptModel, batch: ConceptBatch) -> None:
    if isinstance(model.head, Denoiser):
        model.head.sample = _same_noise_everywhere(model.head.sample)  # type: ignore[method-assign]
    forced = model.predict(batch, **sampling(model))
    for s in range(1, batch.concepts.shape[1]):
        alone = model.predict_next(batch.concepts[:, :s], level=batch.level[:, :s], **sampling(model))
        torch.testing.assert_close(forced[:, s], alone)


def _same_noise_everywhere(sample):  # type: ignore[no-untyped-def]
    return lambda memory, visible, **options: sample(memory, visible, initial_noise=0.0, **options)


def test_the_same_seed_gives_the_same_concepts_and_another_seed_others(
    model: ConceptModel, batch: ConceptBatch
) -> None:
    first, again, other = (
        continue_concepts(model, batch.concepts, 3, generator=seeded(seed), **sampling(model)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (isinstance(model.head, RegressionHead))


def test_headings_and_padding_are_no_targets(model: ConceptModel, batch: ConceptBatch) -> None:
    assert batch.target.sum() == batch.mask.sum() - len(batch)
    level = torch.full_like(batch.level, 2)
    assert model.loss(dataclasses.replace(batch, level=level), seeded())["loss"] == 0


def test_levels_are_read(model: ConceptModel, batch: ConceptBatch) -> None:
    plain = model.predict_next(batch.concepts, generator=seeded(), **sampling(model))
    level = model.predict_next(batch.concepts, level=batch.level, generator=seeded(), **sampling(model))
    assert not torch.allclose(plain, level)


def test_it_learns_three_documents(model: ConceptModel) -> None:
    torch.manual_seed(0)
    concepts = torch.randn(3, 8, 7) * 0.1 + 1
    batch = ConceptBatch(concepts, torch.ones(3, 8, dtype=torch.bool), torch.zeros(3, 8, dtype=torch.long))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    if isinstance(model.head, Denoiser):
        model.head.cond_dropout = 0.0  # what is trained without context cannot be learnt by heart
    for step in range(300):
        loss = model.train().loss(batch, seeded(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < 0.25  # of a variance of 1; other documents at every step leave 0.55 and more


def test_other_rows_can_be_read_in_place_of_the_batch(model: ConceptModel, batch: ConceptBatch) -> None:
    own = model.loss(batch, seeded())["loss"]
    assert torch.equal(model.loss(batch, seeded(), read=batch)["loss"], own)
    other = dataclasses.replace(batch, concepts=batch.concepts.flip(0), level=torch.zeros_like(batch.level))
    assert not torch.isclose(model.loss(batch, seeded(), read=other)["loss"], own)
    # The batch says what is predicted, and from where: a model that is deaf to its context does not notice.
    deaf = dataclasses.replace(batch, document=torch.arange(batch.mask.shape[1]).expand_as(batch.mask))
    assert torch.equal(model.loss(deaf, seeded(), read=other)["loss"], model.loss(deaf, seeded())["loss"])


def test_what_is_read_is_seen_up_to_the_target_and_without_padding(model: ConceptModel, batch: ConceptBatch) -> None:
    level = torch.full_like(batch.level, 1)
    level[:, 4] = 0
    one = dataclasses.replace(batch, level=level)  # position 4 is the only target
    own = model.loss(one, seeded(), read=one)["loss"]
    for s in range(batch.mask.shape[1]):
        concepts = batch.concepts.clone()
        concepts[:, s] += 0.1
        changed = dataclasses.replace(one, concepts=concepts)
        assert torch.equal(model.loss(one, seeded(), read=changed)["loss"], own) == (s >= 4)
    short = dataclasses.replace(one, mask=torch.arange(batch.mask.shape[1]).expand_as(batch.mask) < 2)
    noise = dataclasses.replace(short, concepts=torch.where(short.mask[..., None], batch.concepts, 9.0))
    assert torch.equal(model.loss(one, seeded(), read=short)["loss"], model.loss(one, seeded(), read=noise)["loss"])


def test_a_model_tells_its_sampling_options() -> None:
    backbone = CausalTransformer(width=16, num_layers=1, num_heads=2)
    diffusion = {"num_steps", "guidance_scale", "guidance_rescale", "initial_noise", "temperature", "epsilon_scale"}
    inner = TwoTowerHead(7, 16)
    assert ConceptModel(7, backbone, RegressionHead(7, 16)).sampling_options() == set()
    for head in (inner, WithContrast(inner, 7, 16)):
        assert ConceptModel(7, backbone, head).sampling_options() == diffusion | {"sampler"}


@pytest.mark.parametrize("width", [12, 40])
def test_an_untrained_model_repeats_the_part_of_what_it_reads_that_fits_its_width(width: int) -> None:
    """Contrastive and regression heads start as the inverse of the input layer, so training starts at copying."""
    torch.manual_seed(0)
    x = torch.randn(2, 9, 24)
    for head in (ContrastiveHead(24, width), RegressionHead(24, width)):
        model = ConceptModel(24, CausalTransformer(width, 2, 2, dropout=0.0), head).eval()
        model.fit(x.flatten(0, 1))
        predicted = model.normalizer(model.predict_next(x))
        like = torch.cosine_similarity(predicted, model.normalizer(x[:, -1]), dim=-1)
        assert (like > 0.9 * min(1, width / 24) ** 0.5).all() if width >= 24 else (like > 0.4).all()
