from pathlib import Path

import pytest
import torch

from data.store import ConceptStore
from decoders.retrieval import RetrievalDecoder
from encoders.hashing import HashingEncoder
from lcm.backbone import CausalTransformer
from lcm.heads.flow import FlowHead
from lcm.manuscript import stream
from lcm.model import ConceptModel
from lcm.outline import Outline, Point
from lcm.stopping import StopRule
from lcm.writer import Writer

OUTLINE = Outline("The fox", (Point("It comes", num_sentences=2), Point("It goes"), Point("It stays")))


@pytest.fixture
def writer(store: ConceptStore) -> Writer:
    torch.manual_seed(0)
    model = ConceptModel(16, CausalTransformer(width=16, num_layers=1, num_heads=2), FlowHead(16, 16)).eval()
    model.fit(torch.from_numpy(store[0].astype("float32")))
    return Writer(model, RetrievalDecoder.from_store(store), HashingEncoder(16), length=8)


def test_a_seed_and_options_by_name_say_what_is_written(
    writer: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for temperature in (1.0, 1.0, 0.0):
        sampling = {"solver": "euler", "num_steps": 3, "temperature": temperature}
        stream(writer, OUTLINE, out=tmp_path / "t.md", seed=1, sampling=sampling)
        shown = capsys.readouterr()
        assert (tmp_path / "t.md").read_text() == shown.out and not shown.err
        texts.append(shown.out)
    assert texts[0] == texts[1] != texts[2]
    with pytest.raises(ValueError, match=r"a FlowHead has no sampling option sampler; its options are .*solver"):
        stream(writer, OUTLINE, out=None, seed=1, sampling={"sampler": "heun"})


def test_points_that_end_early_are_told_on_stderr(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    stop = StopRule(torch.ones(16), end_cosine=-0.999)
    stream(writer, OUTLINE, out=None, seed=0, sampling={"num_steps": 2}, stop=stop)
    assert capsys.readouterr().err == "2 points ended early, where the model would end the text\n"
