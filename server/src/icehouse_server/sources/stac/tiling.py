"""Regular tilings: which items lie under a window, by arithmetic alone.

A mosaic such as ArcticDEM is cut into square tiles whose ids follow from their place. No search is needed,
and so none of the traps of footprints in degrees (the antimeridian, the pole) can be stepped into.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from icehouse_server.core.grid import Grid, Window

_TOLERANCE = 1e-6
"""Pixels by which an edge may be off through rounding without touching one more pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One place of a tiling; whether an item exists there only the source knows."""

    item: str
    extent: Window
    """Pixels of the grid that it touches; may stick out of the grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Square tiles in rows from south to north and columns from west to east, both counted from 1."""

    origin: tuple[float, float]
    """x, y of the lower left corner of row 1, column 1, without buffer, in the unit of the CRS."""
    size: float
    """Distance between tiles, in the unit of the CRS."""
    buffer: float
    """How far a tile reaches beyond its cell on each side, in the unit of the CRS."""
    rows: tuple[int, int]
    """First and last row."""
    columns: tuple[int, int]
    """First and last column."""
    divisions: int
    """Items each way within a tile; they are counted as rows and columns are."""
    item: str
    """Format of an id with ``row``, ``col``, ``subrow`` and ``subcol``."""

    def tiles_under(self, grid: Grid, window: Window) -> tuple[Tile, ...]:
        """Return the tiles that touch a window of the grid, sorted by item id."""
        found = [
            Tile(item=self._item(row, col), extent=extent)
            for row, col in self._candidates(grid, window)
            if (extent := self._extent(grid, row, col)).intersection(window)
        ]
        return tuple(sorted(found, key=lambda tile: tile.item))

    @property
    def _step(self) -> float:
        return self.size / self.divisions

    def _candidates(self, grid: Grid, window: Window) -> Iterator[tuple[int, int]]:
        """Yield (row, column) of cells, counted from 0 over all divisions, around a window."""
        left, bottom, right, top = grid.geobox_of(window).boundingbox
        first_col, last_col = self._span(left, right, self.origin[0], self.columns)
        first_row, last_row = self._span(bottom, top, self.origin[1], self.rows)
        for row in range(first_row, last_row + 1):
            for col in range(first_col, last_col + 1):
                yield row, col

    def _span(self, low: float, high: float, origin: float, numbers: tuple[int, int]) -> tuple[int, int]:
        first = math.floor((low - self.buffer - origin) / self._step) - 1
        last = math.ceil((high + self.buffer - origin) / self._step)
        return (
            max(first, (numbers[0] - 1) * self.divisions),
            min(last, numbers[1] * self.divisions - 1),
        )

    def _item(self, row: int, col: int) -> str:
        return self.item.format(
            row=row // self.divisions + 1,
            col=col // self.divisions + 1,
            subrow=row % self.divisions + 1,
            subcol=col % self.divisions + 1,
        )

    def _extent(self, grid: Grid, row: int, col: int) -> Window:
        left = self.origin[0] + col * self._step - self.buffer
        bottom = self.origin[1] + row * self._step - self.buffer
        across = self._step + 2 * self.buffer
        first_col, first_row = ~grid.geobox.affine @ (left, bottom + across)
        last_col, last_row = ~grid.geobox.affine @ (left + across, bottom)
        return Window.from_bounds(
            math.floor(first_row + _TOLERANCE),
            math.floor(first_col + _TOLERANCE),
            math.ceil(last_row - _TOLERANCE),
            math.ceil(last_col - _TOLERANCE),
        )
