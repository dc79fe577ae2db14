"""Short pieces into full rows, by best fit."""

import numpy as np

from data.loader import shuffled

_FULL = 0.99  # share of filled positions that is good enough


def pack(lengths: np.ndarray, capacity: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pieces row by row, and where each row starts among them: row r is `order[starts[r] : starts[r + 1]]`.

    Which of the pieces of a length go into a row is drawn. It changes no loss, for attention never crosses the border
    between two pieces: one packing serves all epochs.

    Args:
        lengths: of the pieces, int64 (P,), each from 1 to `capacity`.
        capacity: positions in a row.
        seed: of the draw.
    """
    assert not len(lengths) or (lengths.min() >= 1 and lengths.max() <= capacity), "a piece is longer than a row"
    order = shuffled(len(lengths), seed, 0)
    order = order[np.argsort(-lengths[order], kind="stable")]  # longest first
    row = even_fit(np.bincount(lengths), capacity)
    starts = np.concatenate(([0], np.bincount(row).cumsum()))
    return order[np.argsort(row, kind="stable")], starts


def even_fit(counts: np.ndarray, capacity: int) -> np.ndarray:
    """Returns the row of each piece, longest piece first, by best fit into as few but as even rows as it finds.

    The last row of a small corpus would remain almost empty. A batch is as long as its longest row, so as many rows of
    less length waste less. Where nearly all positions are filled there is nothing to gain.

    Args:
        counts: number of pieces of each length, from 0 to the longest.
        capacity: positions in a row.
    """
    row = best_fit(counts, capacity)
    num_rows, total = int(row.max(initial=-1)) + 1, int(counts @ np.arange(len(counts)))
    if total >= _FULL * num_rows * capacity:
        return row
    low, high = max(len(counts) - 1, -(-total // num_rows)), capacity
    while low < high:
        middle = (low + high) // 2
        found = best_fit(counts, middle)
        if found.max() < num_rows:
            row, high = found, middle
        else:
            low = middle + 1
    return row


def best_fit(counts: np.ndarray, capacity: int) -> np.ndarray:
    """Returns the row of each piece, longest piece first, by best fit decreasing: the fullest row that has room.

    Pieces of one length are placed together, row after row: the fullest row with room for one of them remains so until
    it has room for none. So the work grows with the number of lengths, not with that of the pieces.

    Args:
        counts: number of pieces of each length, from 0 to the longest.
        capacity: positions in a row.
    """
    open_rows: list[list[np.ndarray]] = [[] for _ in range(capacity + 1)]  # by the room that is left in them
    is_open = np.zeros(capacity, dtype=bool)
    placed: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    num_rows = 0

    def leave(rows: np.ndarray, room: int) -> None:
        if len(rows) and room:
            open_rows[room].append(rows)
            is_open[room] = True

    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        rooms = (length + np.flatnonzero(is_open[length:])).tolist()
        for room in (*rooms, capacity):  # the last are new rows
            if not left:
                break
            a_row = room // length  # pieces that go into a row
            needed = -(-left // a_row)
            if room == capacity:
                rows = np.arange(num_rows, num_rows + needed)
                num_rows += needed
            else:
                found = np.concatenate(open_rows[room])
                rows, open_rows[room], is_open[room] = found[:needed], [], False
                leave(found[needed:], room)
            here = min(left, len(rows) * a_row)
            left -= here
            placed.append(np.repeat(rows, a_row)[:here])
            num_full = here // a_row
            leave(rows[:num_full], room - a_row * length)
            leave(rows[num_full:], room - here % a_row * length)
    return np.concatenate(placed)
