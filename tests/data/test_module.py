import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from data.batch import ConceptBatch
from data.document import Block, Document
from data.encode import encode_corpus
from data.module import ConceptDataModule
from encoders.hashing import HashingEncoder

QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def encode(path: Path, name: str, num: int, dim: int = 8) -> str:
    """Writes a store of tales of 1 + 2 to 1 + 12 rows, all of them different."""

    def tale(i: int) -> Document:
        heading = Block(f"{name} {i}", level=2, role="heading")
        text = Block(" ".join(f"The {name} saw {i} or {j} crows." for j in range(2 + 7 * i % 11)))
        return Document(f"{name} {i}", (heading, text), source="test")

    return str(encode_corpus([tale(i) for i in range(num)], HashingEncoder(dim), path, progress=False).path)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return encode(tmp_path_factory.mktemp("stores") / "fox", "fox", 30)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return encode(tmp_path_factory.mktemp("stores") / "owl", "owl", 12)


def key(batch: ConceptBatch) -> list[str]:
    """Returns a name for the content of each row of a batch."""
    rows = zip(batch.concepts, batch.mask, strict=True)
    return [hashlib.sha256(concepts[mask].numpy().tobytes()).hexdigest()[:16] for concepts, mask in rows]


def epoch(module: ConceptDataModule, number: int = 0) -> list[list[str]]:
    loader = module.train_dataloader()
    loader.batches.set_epoch(number)
    return [key(batch) for batch in loader]


def test_batches_hold_what_the_store_holds(path: str) -> None:
    module = ConceptDataModule(path, length=5, stride=3, batch_size=4)
    batch: ConceptBatch = next(iter(module.predict_dataloader()))
    store, document = module.stores[0], int(module.documents("test")[0][0])
    expected = torch.from_numpy(store[document][:5].astype("float32"))
    torch.testing.assert_close(batch.concepts[0, : len(expected)], expected)
    assert batch.level[0].tolist()[:3] == [2, 0, 0]
    assert batch.target[0].tolist()[:3] == [False, True, True]


def test_held_out_windows_have_a_row_each_and_every_row_of_the_store_is_in_one(path: str) -> None:
    module = ConceptDataModule(path, length=5, stride=3, batch_size=3)
    for split, loader in (("validation", module.val_dataloader()), ("test", module.test_dataloader())):
        batches: list[ConceptBatch] = list(loader)
        assert all(batch.document is None for batch in batches)
        assert [key(batch) for batch in loader] == [key(batch) for batch in batches]
        lengths = [module.stores[0].documents[i].num_sentences + 1 for i in module.documents(split)[0]]  # and the end
        assert sum(int(batch.mask.sum()) for batch in batches) == sum(lengths)
        assert sum(map(len, batches)) == sum(-(-length // 5) for length in lengths)


def test_predictions_follow_the_order_of_the_stores(path: str, other: str) -> None:
    one, two = (ConceptDataModule(store, length=5, batch_size=100, stride=5) for store in (path, other))
    both = ConceptDataModule([path, other], length=5, batch_size=100, stride=5)
    keys = [row for module in (one, two) for batch in module.predict_dataloader() for row in key(batch)]
    assert [row for batch in both.predict_dataloader() for row in key(batch)] == keys


@pytest.mark.parametrize("packing", [False, True])
def test_an_epoch_holds_every_window_once_and_batches_are_no_longer_than_their_longest_row(
    path: str, packing: bool
) -> None:
    module = ConceptDataModule(path, length=20, stride=20, batch_size=4, packing=packing)
    batches = list(module.train_dataloader())
    store = module.stores[0]
    expected = sum(store.documents[i].num_sentences + 1 for i in module.documents("train")[0])  # and the end
    assert sum(int(batch.mask.sum()) for batch in batches) == expected
    assert all(batch.mask.any(0).all() for batch in batches)
    pieces = sum(
        len(batch) if batch.document is None else int(batch.document.amax(1).add(1).sum()) for batch in batches
    )
    assert pieces == len(module.documents("train")[0])
    assert any(batch.document is not None for batch in batches) == packing


@pytest.mark.parametrize("packing", [False, True])
def test_each_document_ends_with_the_end_of_text_once_where_a_window_reaches_it(path: str, packing: bool) -> None:
    module, plain = (
        ConceptDataModule(path, length=6, stride=4, batch_size=4, packing=packing, end_of_text=ends)
        for ends in (True, False)
    )
    end = module.end_concept()
    assert end is not None and plain.end_concept() is None
    np.testing.assert_array_equal(end, module.stores[0].end_of_text)
    for split in ("train", "validation"):
        pieces = [piece for rows in module.rows(split) for row in rows for piece in row]
        assert max(len(concepts) for concepts, _ in pieces) == 6
        last = [np.array_equal(concepts[-1], end) for concepts, _ in pieces]
        assert sum(last) == len(module.documents(split)[0])
        assert sum((concepts == end.numpy()).all(-1).sum() for concepts, _ in pieces) == sum(last)
        assert all(levels[-1] == 0 for (_, levels), ends in zip(pieces, last, strict=True) if ends)
        without = [piece for rows in plain.rows(split) for row in rows for piece in row]
        assert not any((concepts == end.numpy()).all(-1).any() for concepts, _ in without)
    assert all(batch.concepts.shape[1] <= 6 for batch in module.train_dataloader())


def test_nothing_is_predicted_behind_the_end_of_text(path: str) -> None:
    module, plain = (ConceptDataModule(path, length=5, end_of_text=ends, stride=5) for ends in (True, False))
    rows, expected = ([key(batch) for batch in each.predict_dataloader()] for each in (module, plain))
    assert rows == expected


def test_a_store_of_old_code_trains_without_ends_and_says_so(path: str, other: str, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    manifest.pop("end_of_text")
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match=f"no concept of the end of text in {tmp_path}/old, .* run the command"):
        module = ConceptDataModule(str(tmp_path / "old"), length=20, stride=10)
    assert module.end_concept() is None
    plain = ConceptDataModule(path, length=20, stride=10, end_of_text=False)
    assert epoch(module) == epoch(plain)
    with pytest.warns(UserWarning, match="no concept of the end of text"):
        both = ConceptDataModule([str(tmp_path / "old"), other], length=20, stride=10)
    assert both.end_concept() is not None
    assert [rows.end is None for rows in both.rows("train")] == [True, False]


@pytest.mark.parametrize("packing", [False, True])
def test_fill_is_that_of_the_batches(path: str, packing: bool) -> None:
    module = ConceptDataModule(path, length=20, stride=10, batch_size=4, packing=packing)
    masks = [batch.mask for batch in module.train_dataloader()]
    assert module.fill() == pytest.approx(sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks))
    assert module.fill("validation") > 0


@pytest.mark.parametrize("length", [64, 128])
def test_packed_batches_are_full(path: str, length: int) -> None:
    packed, padded = (
        ConceptDataModule(path, length=length, stride=length // 2, packing=packing).fill() for packing in (True, False)
    )
    assert packed >= 0.97 > padded


def test_windows_may_be_as_long_as_8192_rows(path: str) -> None:
    module = ConceptDataModule(path, length=8192, stride=4096)
    (batch,) = module.train_dataloader()
    assert len(batch) == 1 and batch.mask.all()


def test_splits_share_no_document(path: str) -> None:
    module = ConceptDataModule(path)
    splits = [set(module.documents(name)[0].tolist()) for name in ("train", "validation", "test")]
    assert len(set.union(*splits)) == sum(map(len, splits)) == 30


def test_the_normalisers_sample_comes_from_training_documents(path: str) -> None:
    module = ConceptDataModule(path)
    rows = sum(module.stores[0].documents[i].num_sentences for i in module.documents("train")[0])
    assert module.sample_concepts().shape == (rows, 8)
    assert module.sample_concepts(20).shape == (20, 8)
    torch.testing.assert_close(module.sample_concepts(20), ConceptDataModule(path).sample_concepts(20))


def test_the_normalisers_sample_follows_the_weights(path: str, other: str) -> None:
    def count(weights: list[float] | None, num: int) -> list[int]:
        found = ConceptDataModule([path, other], weights=weights).sample_concepts(num)
        return [int((found[:, None] == rows).all(-1).any(1).sum()) for rows in own]

    own = [ConceptDataModule(store).sample_concepts() for store in (path, other)]
    assert count(None, 10**6) == [len(own[0]), len(own[1])]
    assert count([3.0, 1.0], 80) == [60, 20]
    assert count([0.0, 1.0], 10**6) == [0, len(own[1])]
    total = len(own[0]) + len(own[1])
    assert count([1.0, 3.0], 10**6)[1] == pytest.approx(0.75 * total, abs=1)  # the small store comes again


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_mixed_epochs_are_equally_long_and_hold_the_shares_of_the_stores(
    path: str, other: str, weights: list[float] | None
) -> None:
    size: dict[str, Any] = {"length": 20, "stride": 10, "batch_size": 4}
    alone = [[row for batch in epoch(ConceptDataModule(store, **size)) for row in batch] for store in (path, other)]
    sizes, of_other = [len(rows) for rows in alone], set(alone[1])
    module = ConceptDataModule([path, other], weights=weights, **size)
    for number in range(3):
        rows = [row for batch in epoch(module, number) for row in batch]
        assert len(rows) == sum(sizes)
        share = 0.75 if weights else sizes[1] / sum(sizes)
        assert sum(row in of_other for row in rows) == pytest.approx(share * len(rows), abs=1)


MIXED: dict[str, Any] = {"length": 20, "stride": 10, "batch_size": 2, "weights": [1.0, 2.0], "seed": 5}


@pytest.mark.parametrize("packing", [False, True])
def test_the_order_is_the_same_for_any_number_of_workers(path: str, other: str, packing: bool) -> None:
    orders = [
        epoch(ConceptDataModule([path, other], packing=packing, num_workers=num, **MIXED), 1) for num in (0, 1, 2)
    ]
    assert orders[0] == orders[1] == orders[2]
    assert orders[0] != epoch(ConceptDataModule([path, other], packing=packing, **MIXED), 2)


class Reader(LightningModule):
    """Learns nothing and notes the rows of every batch, by epoch; saves a checkpoint behind batch `stop`."""

    def __init__(self, stop: tuple[int, int] | None = None, path: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.stop, self.path = stop, path
        self.seen: list[tuple[int, list[str]]] = []

    def training_step(self, batch: ConceptBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, key(batch)))
        return self.weight * 0

    def on_train_batch_end(self, outputs: Any, batch: ConceptBatch, batch_idx: int) -> None:
        if self.stop == (self.current_epoch, batch_idx):
            self.trainer.save_checkpoint(str(self.path))
            raise KeyboardInterrupt

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("stop", [(0, 2), (1, 4)])
def test_a_resumed_training_sees_exactly_the_remaining_batches(
    path: str, other: str, packing: bool, num_workers: int, stop: tuple[int, int], tmp_path: Path
) -> None:
    def run(reader: Reader, ckpt_path: str | None = None) -> list[tuple[int, list[str]]]:
        module = ConceptDataModule([path, other], packing=packing, num_workers=num_workers, **MIXED)
        trainer = Trainer(
            max_epochs=3,
            accelerator="cpu",
            limit_val_batches=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            **QUIET,
        )
        try:
            trainer.fit(reader, datamodule=module, ckpt_path=ckpt_path, weights_only=True)
        except SystemExit:
            assert reader.stop
        return reader.seen

    whole = run(Reader())
    assert {number for number, _ in whole} == {0, 1, 2}
    checkpoint = tmp_path / "mid.ckpt"
    begun = run(Reader(stop, checkpoint))
    assert begun + run(Reader(), str(checkpoint)) == whole


DDP = """
import json, sys
from lightning import Trainer
sys.path.insert(0, {tests!r})
from test_module import QUIET, Reader
from data.module import ConceptDataModule
if __name__ == "__main__":
    module = ConceptDataModule({stores!r}, length=20, stride=10, batch_size=2, seed=5)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", limit_val_batches=0,
        use_distributed_sampler=False, enable_checkpointing=False, **QUIET,
    )
    reader = Reader()
    trainer.fit(reader, datamodule=module)
    with open({out!r} + f"/{{trainer.global_rank}}.json", "w") as file:
        json.dump(reader.seen, file)
"""


@pytest.mark.slow
def test_two_processes_see_disjoint_rows(path: str, other: str, tmp_path: Path) -> None:
    tests = Path(__file__).parent
    script = tmp_path / "train.py"
    script.write_text(DDP.format(tests=str(tests), stores=[path, other], out=str(tmp_path)))
    settings = {"PYTHONPATH": str(tests.parents[1]), "OMP_NUM_THREADS": "1", "PL_TORCH_DISTRIBUTED_BACKEND": "gloo"}
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    module = ConceptDataModule([path, other], length=20, stride=10, batch_size=2, seed=5)
    for number in range(2):
        batches = epoch(module, number)
        seen = [[batch for found, batch in rank if found == number] for rank in ranks]
        assert seen == [batches[0 : len(batches) // 2 * 2 : 2], batches[1::2]]
        rows = [{row for batch in rank for row in batch} for rank in seen]
        assert not rows[0] & rows[1]
        assert len(rows[0] | rows[1]) >= sum(map(len, batches)) - 2  # but for a batch that one rank alone would have


def test_impossible_settings_and_an_empty_split_are_errors(path: str, other: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need length >= 2"):
        ConceptDataModule(path, length=1)
    with pytest.raises(ValueError, match="need a weight for each store, found 1 weights and 2 stores"):
        ConceptDataModule([path, other], weights=[1.0])
    documents = [Document(f"T{i}", (Block("One thing."),), source="test") for i in range(4)]
    store = str(encode_corpus(documents, HashingEncoder(8), tmp_path / "s", progress=False).path)
    with pytest.raises(ValueError, match=f"no test document of two sentences or more in {store}; encode more"):
        ConceptDataModule(store).test_dataloader()
    with pytest.raises(ValueError, match=f"no train document of two sentences or more in {store}; encode more"):
        ConceptDataModule([path, store], weights=[1.0, 1.0]).train_dataloader()
    mixed = ConceptDataModule([store, path])  # what has nothing to give takes no part
    assert epoch(mixed) and list(mixed.test_dataloader())


def test_stores_of_different_encoders_are_not_mixed(path: str, tmp_path: Path) -> None:
    wide = encode(tmp_path / "wide", "elk", 4, dim=16)
    with pytest.raises(ValueError, match=f"{path} holds concepts of .* {wide} of"):
        ConceptDataModule([path, wide])
