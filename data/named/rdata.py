"""Read R's lazy-load databases (`NAME.rdx`, `NAME.rdb`): lists of strings, the standard library only."""

import bz2
import lzma
import struct
import zlib
from pathlib import Path
from typing import Any

# SEXP types of R's serialisation, manual "R Internals", section 1.8
_NIL, _GLOBAL, _MISSING, _BASE, _EMPTY, _REFERENCE = 254, 253, 251, 247, 242, 255
_SYMBOL, _PAIRLIST, _CHAR, _LOGICAL, _INTEGER, _REAL, _STRING, _LIST = 1, 2, 9, 10, 13, 14, 16, 19


def read_lazy_data(rdx: Path) -> dict[str, Any]:
    """Returns the objects of a lazy-load database by name: character vectors as lists of str or None.

    Args:
        rdx: the index; the data lie beside it in a file with the ending .rdb.

    Raises:
        ValueError: the files are damaged, or hold something else than lists, strings and numbers.
    """
    database = rdx.with_suffix(".rdb").read_bytes()
    try:  # the index is gzip or zlib; 32 tells by its header
        index = _Reader(zlib.decompress(rdx.read_bytes(), zlib.MAX_WBITS | 32)).read_all()
        variables = {name: (int(offset), int(length)) for name, (offset, length) in index["variables"].items()}
        return {name: _read_chunk(database[start : start + size]) for name, (start, size) in variables.items()}
    except (zlib.error, lzma.LZMAError, OSError, struct.error, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{rdx} is not a lazy-load index that can be read ({type(error).__name__}: {error})"
        ) from error


def _read_chunk(chunk: bytes) -> Any:
    """Returns one object: four bytes of length, for the newer codecs a letter, the compressed serialisation."""
    kind, packed = chunk[4:5], chunk[5:]
    if kind == b"2":
        return _Reader(bz2.decompress(packed)).read_all()
    if kind == b"Z":
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
        return _Reader(lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=filters)).read_all()
    return _Reader(zlib.decompress(chunk[4:])).read_all()


class _Reader:
    """Reads R's XDR serialisation, version 2 or 3."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.references: list[Any] = []

    def read_all(self) -> Any:
        if self._take(2) != b"X\n":
            raise ValueError("this is no XDR serialisation of R")
        version, _, _ = self._int(), self._int(), self._int()
        if version == 3:
            self._take(self._int())  # the native encoding; strings carry their own
        return self._item()

    def _take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise IndexError("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def _int(self) -> int:
        return struct.unpack(">i", self._take(4))[0]

    def _item(self) -> Any:
        flags = self._int()
        kind, has_attributes, has_tag = flags & 0xFF, bool(flags & 0x200), bool(flags & 0x400)
        if kind in (_NIL, _GLOBAL, _MISSING, _BASE, _EMPTY):
            return None
        if kind == _REFERENCE:
            return self.references[(flags >> 8 or self._int()) - 1]
        if kind == _SYMBOL:
            self.references.append(self._item())
            return self.references[-1]
        if kind == _PAIRLIST:
            return self._pairs(has_attributes, has_tag)
        if kind == _CHAR:
            length = self._int()
            encoding = "latin-1" if flags >> 12 & 4 else "utf-8"
            return None if length < 0 else self._take(length).decode(encoding, "replace")
        return self._vector(kind, has_attributes)

    def _pairs(self, has_attributes: bool, has_tag: bool) -> dict[str, Any]:
        """Returns a pairlist as a dictionary of its tags; a pair without one gets its place as a name."""
        pairs: dict[str, Any] = {}
        while True:
            if has_attributes:
                self._item()
            name = self._item() if has_tag else str(len(pairs))
            pairs[name] = self._item()
            flags = self._int()
            if flags & 0xFF == _NIL:
                return pairs
            if flags & 0xFF != _PAIRLIST:
                raise ValueError(f"a pairlist goes on with an object of type {flags & 0xFF}")
            has_attributes, has_tag = bool(flags & 0x200), bool(flags & 0x400)

    def _vector(self, kind: int, has_attributes: bool) -> Any:
        length = self._int()
        values: list[Any]
        if kind in (_STRING, _LIST):
            values = [self._item() for _ in range(length)]
        elif kind in (_INTEGER, _LOGICAL):
            values = list(struct.unpack(f">{length}i", self._take(4 * length)))
        elif kind == _REAL:
            values = list(struct.unpack(f">{length}d", self._take(8 * length)))
        else:
            raise ValueError(f"it holds an object of type {kind}, which is none of list, string and number")
        attributes = self._item() if has_attributes else None
        names = (attributes or {}).get("names")
        return dict(zip(names, values, strict=True)) if names else values
