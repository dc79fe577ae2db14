import warnings

import numpy as np
import torch

from data.batch import ConceptBatch, Piece

LENGTHS = ((3, 1, 4), (2, 2), (5,))


def make_piece(num: int, seed: int = 0) -> Piece:
    concepts = np.random.default_rng(seed).standard_normal((num, 7)).astype(np.float16)
    concepts.flags.writeable = False  # as the views of a store are
    return concepts, (np.arange(num) % 3 == 2).astype(np.int8)


ROWS = [[make_piece(num, 10 * i + k) for k, num in enumerate(row)] for i, row in enumerate(LENGTHS)]


def test_a_packed_batch_holds_its_pieces_and_their_numbers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = ConceptBatch.pack(ROWS)
    assert batch.document is not None
    assert batch.document.tolist() == [[0, 0, 0, 1, 2, 2, 2, 2], [0, 0, 1, 1, *[-1] * 4], [0] * 5 + [-1] * 3]
    assert torch.equal(batch.mask, batch.document >= 0)
    for i, row in enumerate(ROWS):
        concepts, levels = (np.concatenate(parts) for parts in zip(*row, strict=True))
        assert np.array_equal(batch.concepts[i, : len(concepts)].numpy(), concepts.astype(np.float32))
        assert batch.level[i, : len(levels)].tolist() == levels.tolist()
    assert not batch.concepts[~batch.mask].any() and not batch.level[~batch.mask].any()


def test_rows_of_one_window_each_are_a_padded_batch() -> None:
    windows = [row[:1] for row in ROWS]
    batch = ConceptBatch.pack(windows)
    padded = ConceptBatch.pad(
        [torch.from_numpy(c.astype(np.float32)) for [(c, _)] in windows],
        [torch.from_numpy(v.copy()) for [(_, v)] in windows],
    )
    assert batch.document is None
    for name in ("concepts", "mask", "level"):
        assert torch.equal(getattr(batch, name), getattr(padded, name))
        assert getattr(batch, name).dtype == getattr(padded, name).dtype


def test_a_batch_of_its_own_does_not_touch_the_store() -> None:
    before = ROWS[2][0][0].copy()
    ConceptBatch.pack([ROWS[2]]).concepts.zero_()
    assert np.array_equal(ROWS[2][0][0], before)
