"""A set of chunk positions that stays small and quick with millions of members."""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from icehouse_server.core.grid import Window

_SIDE = 64
"""Positions are kept in square bitmaps of this side: 4 kB each, allocated where something is."""

type _Bitmap = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


class ChunkSet:
    """A mutable set of (row, col) positions, stored as sparse bitmaps.

    A set of tuples needs about 130 bytes a member; this needs less than one where the members lie close
    together, as chunks do, and answers for a rectangle in one look.
    """

    __slots__ = ("_maps", "_size")

    def __init__(self, positions: Iterable[tuple[int, int]] = ()) -> None:
        self._maps: dict[tuple[int, int], _Bitmap] = {}
        self._size = 0
        for row, col in positions:
            self.add(row, col)

    def __len__(self) -> int:
        return self._size

    def __contains__(self, position: tuple[int, int]) -> bool:
        row, col = position
        bitmap = self._maps.get((row // _SIDE, col // _SIDE))
        return bitmap is not None and bool(bitmap[row % _SIDE, col % _SIDE])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for (map_row, map_col), bitmap in self._maps.items():
            for row, col in np.argwhere(bitmap):
                yield map_row * _SIDE + int(row), map_col * _SIDE + int(col)

    def add(self, row: int, col: int) -> None:
        """Put a position in."""
        key = (row // _SIDE, col // _SIDE)
        bitmap = self._maps.get(key)
        if bitmap is None:
            bitmap = self._maps[key] = np.zeros((_SIDE, _SIDE), dtype=np.bool_)
        cell = row % _SIDE, col % _SIDE
        self._size += not bitmap[cell]
        bitmap[cell] = True

    def discard(self, row: int, col: int) -> None:
        """Take a position out, if it is in."""
        bitmap = self._maps.get((row // _SIDE, col // _SIDE))
        if bitmap is None:
            return
        cell = row % _SIDE, col % _SIDE
        self._size -= int(bitmap[cell])
        bitmap[cell] = False
        if not bitmap.any():
            del self._maps[row // _SIDE, col // _SIDE]

    def copy(self) -> "ChunkSet":
        """Return a set of the same positions."""
        other = ChunkSet()
        other._maps = {place: bitmap.copy() for place, bitmap in self._maps.items()}
        other._size = self._size
        return other

    def within(self, chunks: Window) -> _Bitmap:
        """Return a boolean array (rows, columns) over a rectangle of chunks: True where a member is."""
        found = np.zeros((chunks.height, chunks.width), dtype=np.bool_)
        for common, members in self._pieces(chunks):
            found[common.slices(chunks)] = members
        return found

    def listed(self, chunks: Window) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return the members (row, col) in a rectangle of chunks, an array (members, 2) in no order.

        It takes as long as there are members there, however large the rectangle.
        """
        pieces = [
            np.add(np.argwhere(members), (common.row, common.col)) for common, members in self._pieces(chunks)
        ]
        return np.concatenate([np.empty((0, 2), dtype=np.int64), *pieces])

    def _pieces(self, chunks: Window) -> Iterator[tuple[Window, _Bitmap]]:
        """Yield what bitmaps say of a rectangle of chunks, wherever there is one: where, and the members."""
        rows = range(chunks.row // _SIDE, -(-chunks.stop_row // _SIDE))
        cols = range(chunks.col // _SIDE, -(-chunks.stop_col // _SIDE))
        few = len(self._maps) < len(rows) * len(cols)
        # The list is made at once: others may add members meanwhile, in another thread.
        for place in list(self._maps) if few else product(rows, cols):
            bitmap = self._maps.get(place)
            if bitmap is None:
                continue
            area = Window(row=place[0] * _SIDE, col=place[1] * _SIDE, height=_SIDE, width=_SIDE)
            common = area.intersection(chunks)
            if common is not None:
                yield common, bitmap[common.slices(area)]
