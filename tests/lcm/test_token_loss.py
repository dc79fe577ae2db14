from copy import deepcopy

import pytest
import torch
from torch import Generator, Tensor

from data.store import ConceptStore
from data.texts_module import PlacedBatch, SentenceText, TextDataModule
from decoders.prefix import PrefixDecoder
from encoders.hashing import HashingEncoder
from lcm.backbone import CausalTransformer
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead
from lcm.heads.regression import RegressionHead
from lcm.heads.with_contrast import WithContrast
from lcm.model import ConceptModel, earlier
from lcm.one_tower import OneTowerModel
from lcm.token_loss import TokenLoss, check_options, draw_targets

D, H = 16, 24


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def module(store: ConceptStore) -> TextDataModule:
    return TextDataModule(str(store.path), length=16, stride=8, batch_size=4)


@pytest.fixture
def batch(module: TextDataModule) -> PlacedBatch:
    return next(iter(module.train_dataloader()))


@pytest.fixture(scope="module")
def decoder(llm: str, store: ConceptStore) -> PrefixDecoder:
    """Reads the hashed concepts of the tales; its guesses of words make the text depend on the concept."""
    sizes = {"num_tokens": 3, "word_tokens": 2, "hidden_dim": 24, "num_words": 60, "lora_rank": 2}
    decoder = PrefixDecoder(D, store.encoder, store.encoder_name, llm=llm, **sizes)
    documents = [int(i) for i in store.split("train")]
    concepts = torch.cat([torch.from_numpy(store[i].astype("float32")) for i in documents])
    decoder.fit(concepts, [sentence for i in documents for sentence in store.sentences(i)])
    torch.manual_seed(1)
    for parameter in [*decoder.adapter_parameters(), *decoder.lora_parameters()]:
        torch.nn.init.normal_(parameter, std=0.1)
    return decoder


def make_model(
    module: TextDataModule, kind: type[ConceptModel] = ConceptModel, head: str = "regression"
) -> ConceptModel:
    torch.manual_seed(0)
    backbone = CausalTransformer(width=H, num_layers=1, num_heads=2, dropout=0.0)
    heads = {"regression": RegressionHead, "energy": EnergyHead}
    model = kind(D, backbone, heads[head](D, H))
    model.fit(module.sample_concepts())
    return model


class Oracle(ConceptModel):
    """Knows the next concept."""

    def estimate(self, batch: PlacedBatch, generator: Generator | None = None) -> Tensor:  # type: ignore[override]
        """Return the true concepts (B, S, D)."""
        return batch.concepts


def test_gradients_reach_the_model_and_nothing_of_the_decoder(
    module: TextDataModule, batch: PlacedBatch, decoder: PrefixDecoder
) -> None:
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    model, loss = make_model(module), TokenLoss(decoder, module.texts, num_texts=6)
    loss(model, batch, seeded()).backward()
    for name, weight in model.named_parameters():
        assert name == "level.weight" or (weight.grad is not None and weight.grad.any()), name
    assert not any(weight.requires_grad or weight.grad is not None for weight in decoder.parameters())
    assert not decoder.training
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())


def test_each_target_is_paired_with_its_own_text(
    module: TextDataModule, batch: PlacedBatch, decoder: PrefixDecoder, store: ConceptStore
) -> None:
    asked: list[SentenceText] = []

    def texts(places: Tensor) -> list[SentenceText]:
        asked.extend(module.texts(places))
        return asked

    found = TokenLoss(decoder, texts, num_texts=9)(make_model(module, Oracle), batch, seeded())
    sentences = [text.text for text in asked]
    assert len(set(sentences)) > 5
    concepts = torch.from_numpy(HashingEncoder(D).encode(sentences))  # what the decoder must have read beside each
    nll = decoder.nll(concepts, sentences, [text.before for text in asked])
    torch.testing.assert_close(found, nll.total.sum() / nll.num_tokens.sum(), atol=2e-3, rtol=0)  # float16 on disk
    wrong = decoder.nll(concepts.roll(1, 0), sentences, [text.before for text in asked])
    assert abs(float(found) - float(wrong.total.sum() / wrong.num_tokens.sum())) > 0.02  # a wrong pairing would show
    for text in asked:
        document = next(i for i in range(len(store)) if {text.text, text.before} <= {*store.sentences(i), ""})
        lines = store.sentences(document)
        assert text.before in ("", *(lines[i - 1] for i in range(1, len(lines)) if lines[i] == text.text))


def test_targets_have_a_text_a_level_and_something_before_them(batch: PlacedBatch) -> None:
    every = draw_targets(batch, 10_000, seeded())
    row, position = every.unbind(-1)
    fit = batch.target & (batch.place[..., 0] >= 0) & earlier(batch).any(-1)
    assert len(every) == len(every.unique(dim=0)) == int(fit.sum())
    assert fit[row, position].all()
    some = draw_targets(batch, 5, seeded())
    assert len(some) == 5 and torch.equal(some, draw_targets(batch, 5, seeded()))
    assert not torch.equal(some, draw_targets(batch, 5, seeded(1)))


def test_a_batch_without_targets_costs_nothing(
    module: TextDataModule, batch: PlacedBatch, decoder: PrefixDecoder
) -> None:
    alone = PlacedBatch(batch.concepts[:, :1], batch.mask[:, :1], batch.level[:, :1], place=batch.place[:, :1])
    loss = TokenLoss(decoder, module.texts)(make_model(module), alone, seeded())
    assert loss.item() == 0 and loss.requires_grad


@pytest.mark.parametrize("head", ["regression", "energy"])
def test_it_falls_on_a_batch_that_is_learnt_by_heart(
    module: TextDataModule, batch: PlacedBatch, decoder: PrefixDecoder, head: str
) -> None:
    model, loss = make_model(module, head=head), TokenLoss(decoder, module.texts, num_texts=12)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    values = []
    for _ in range(60):
        values.append(loss(model, batch, seeded()))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    true = TokenLoss(decoder, module.texts, num_texts=12)(make_model(module, Oracle), batch, seeded())
    assert values[-1] < values[0] - 0.5
    assert values[-1] < true  # what decodes best is not the true concept


def test_a_copy_of_a_model_shares_the_decoder(module: TextDataModule, decoder: PrefixDecoder) -> None:
    loss = TokenLoss(decoder, module.texts)
    assert deepcopy({"a": loss})["a"] is loss


def test_it_works_in_bfloat16(module: TextDataModule, batch: PlacedBatch, decoder: PrefixDecoder) -> None:
    model, loss = make_model(module), TokenLoss(decoder, module.texts, num_texts=6)
    plain = loss(model, batch, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(model, batch, seeded())
    half.backward()
    torch.testing.assert_close(half, plain, atol=0.1, rtol=0)
    assert model.head.output.weight.grad.isfinite().all()  # type: ignore[attr-defined]


def test_an_option_that_no_estimate_has_is_refused() -> None:
    def model(head: torch.nn.Module) -> ConceptModel:
        return ConceptModel(D, CausalTransformer(width=H, num_layers=1, num_heads=2), head)

    check_options(model(FlowHead(D, H)), {"num_steps": 2})
    check_options(model(WithContrast(FlowHead(D, H), D, H)), {"num_steps": 2})
    check_options(OneTowerModel(D, CausalTransformer(width=H, num_layers=1, num_heads=2)), {"num_steps": 2})
    with pytest.raises(ValueError, match="the estimate of a RegressionHead has no option num_steps"):
        check_options(model(RegressionHead(D, H)), {"num_steps": 2})


def test_no_texts_at_all_are_refused(module: TextDataModule, decoder: PrefixDecoder) -> None:
    with pytest.raises(ValueError, match="num_texts must be at least 1, found 0"):
        TokenLoss(decoder, module.texts, num_texts=0)
