"""Columns of a stranger's table as a store holds them: each is checked, and what is wrong is named by its row."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from data.document import BOOK
from encoders.text import clean_text

Where = Callable[[int], str]  # names a row, as in "row 7 of a.parquet"


def is_text(kind: pa.DataType) -> bool:
    """Says whether a column holds texts."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def read_texts(column: pa.Array, where: Where) -> pa.Array:
    """Returns the texts of a column, with what a store cannot hold replaced.

    Raises:
        ValueError: the column holds something else, or a row holds no text.
    """
    if not is_text(column.type):
        raise ValueError(f"{where(0)} holds no text but {column.type}; name the column of the sentences")
    if column.null_count:
        raise ValueError(f"{where(_first(column.is_null()))} holds no text")
    texts = column.cast(pa.string())
    bytes_of_texts = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    if (bytes_of_texts == 0).any():  # perhaps a NUL
        texts = pa.array([clean_text(text) for text in texts.to_pylist()], pa.string())
    return texts


def read_concepts(column: pa.Array, dim: int, where: Where) -> np.ndarray:
    """Returns the concepts of a column of lists of numbers, float16 (N, D); float16 is taken over bit for bit.

    Args:
        column: of lists, of fixed or of any length, or of tensors.
        dim: width D that each must have.
        where: names a row.

    Raises:
        ValueError: the column holds something else; a row holds no concept, one of another width, NaN, infinity, or a
            number that float16 cannot hold.
    """
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    fixed = pa.types.is_fixed_size_list(column.type)
    if not (fixed or pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or not pa.types.is_floating(
        column.type.value_type
    ):
        raise ValueError(f"{where(0)} holds no list of numbers but {column.type}; name the column of the concepts")
    if column.null_count:
        raise ValueError(f"{where(_first(column.is_null()))} holds no concept")
    widths = np.full(len(column), column.type.list_size) if fixed else column.value_lengths().to_numpy()
    if (widths != dim).any():
        row = _first(widths != dim)
        raise ValueError(f"{where(row)} holds a concept of width {widths[row]}, the encoder makes {dim}")
    values = column.flatten()
    if values.null_count:
        raise ValueError(f"{where(_first(values.is_null()) // dim)} holds a concept with a missing number")
    read = values.to_numpy(zero_copy_only=False).reshape(-1, dim)
    with np.errstate(over="ignore"):  # infinity is refused below, by name
        concepts = read.astype(np.float16, copy=False)
    finite = np.isfinite(concepts).all(axis=1)
    if not finite.all():
        row = _first(~finite)
        what = "numbers beyond 65,504, too large for float16" if np.isfinite(read[row]).all() else "NaN or infinity"
        raise ValueError(f"{where(row)} holds a concept with {what}")
    return concepts


def read_levels(column: pa.Array | None, num_rows: int, where: Where) -> np.ndarray:
    """Returns the levels of a column, int8 (N,); where there is none all rows are of the text."""
    if column is None:
        return np.zeros(num_rows, np.int8)
    levels = column.fill_null(0).to_numpy(zero_copy_only=False)
    wrong = (levels < 0) | (levels > BOOK)
    if wrong.any():
        row = _first(wrong)
        raise ValueError(f"{where(row)} is of level {levels[row]}; a level is 0 (text) to {BOOK} (book)")
    return levels.astype(np.int8)


def read_roles(column: pa.Array | None, num_rows: int, where: Where) -> pa.Array:
    """Returns the roles of a column; where there is none, or nothing in a row, it is "sentence"."""
    if column is None:
        return pa.array(["sentence"] * num_rows, pa.string())
    return read_texts(column.cast(pa.string()).fill_null("sentence"), where)


def read_numbers(column: pa.Array, where: Where) -> np.ndarray:
    """Returns for each row, int64 (N,), a number that changes where the value of the column does.

    Raises:
        ValueError: the column holds neither whole numbers nor texts, or a row holds none.
    """
    if column.null_count:
        raise ValueError(f"{where(_first(column.is_null()))} does not say of which document it is")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        return column.dictionary_encode().indices.to_numpy().astype(np.int64)
    if not pa.types.is_integer(column.type):
        raise ValueError(f"{where(0)} names its document by {column.type}; it must be a whole number or a text")
    return column.to_numpy().astype(np.int64)


def _first(wrong: pa.Array | np.ndarray) -> int:
    """Returns the first row for which this is true."""
    return int(np.argmax(wrong if isinstance(wrong, np.ndarray) else wrong.to_numpy(zero_copy_only=False)))
