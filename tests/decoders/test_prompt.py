import pytest

from decoders.prompt import lay_out, tokenize


def test_rows_hold_parts_then_the_target() -> None:
    prompt = lay_out([[[1], [7], 2], [[1], 2]], [[3, 4], [5]])
    assert prompt.ids.tolist() == [[1, 7, 0, 0, 3, 4], [1, 0, 0, 5, 0, 0]]
    assert prompt.mask.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert prompt.soft.tolist() == [[False, False, True, True, False, False], [False, True, True, False, False, False]]
    assert prompt.target.tolist() == [[False] * 4 + [True] * 2, [False] * 3 + [True] + [False] * 2]


def test_padding_on_the_left_moves_rows_to_the_right() -> None:
    rows, targets = [[[1, 9], 1, [8], 2], [[], 0, 3]], [[], []]
    right, left = lay_out(rows, targets), lay_out(rows, targets, pad_left=True)
    assert left.mask.tolist() == [[True] * 6, [False] * 3 + [True] * 3]
    for name in ("ids", "soft", "target"):
        for i in range(2):
            assert getattr(left, name)[i][left.mask[i]].tolist() == getattr(right, name)[i][right.mask[i]].tolist()


def test_soft_places_and_tokens_take_turns() -> None:
    prompt = lay_out([[[1], 1, [7, 8], 2]], [[3]])
    assert prompt.ids.tolist() == [[1, 0, 7, 8, 0, 0, 3]]
    assert prompt.soft.tolist() == [[False, True, False, False, True, True, False]]
    assert not (prompt.soft & prompt.target).any()


def test_every_row_needs_a_target() -> None:
    with pytest.raises(ValueError, match="zip"):
        lay_out([[1]], [])


def test_text_reads_as_in_running_text(llm: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llm)
    some, same, none = tokenize(tokenizer, ["The  old\nking", "The old king", " "])
    assert some == same and none == []
    assert tokenizer.decode(some) == " The old king"
    assert tokenize(tokenizer, []) == []
