"""The pixel grid of a request, cut into strips, and the places of its pixels in any CRS."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

if TYPE_CHECKING:
    from collections.abc import Iterator

    from affine import Affine
    from numpy.typing import NDArray

type Numbers = NDArray[Any]

_STRIP_PIXELS = 1 << 18
"""Pixels computed at a time: what a long expression holds meanwhile stays small."""
_NOWHERE = 1e12
"""Coordinate of a place that a CRS does not know."""


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """What `grid` of a request says: an affine from pixel corners to a CRS."""

    width: int
    height: int
    affine: Affine
    crs: str
    """A code or WKT."""

    def strips(self) -> Iterator[PixelCoordinates]:
        """The grid from its first row to its last."""
        step = max(_STRIP_PIXELS // max(self.width, 1), 1)
        for row in range(0, self.height, step):
            yield PixelCoordinates(self, row, min(step, self.height - row))


class PixelCoordinates:
    """Some rows of a grid, with the places of their pixels' centres.

    Args:
        grid: The grid.
        row: The first row.
        rows: How many.
    """

    def __init__(self, grid: PixelGrid, row: int, rows: int) -> None:
        self.grid, self.row = grid, row
        self.shape = rows, grid.width
        self.memo: dict[object, Any] = {}
        """What expressions keep while this strip is computed."""
        self._known: dict[str, tuple[Numbers, Numbers]] = {}

    @property
    def own(self) -> tuple[Numbers, Numbers]:
        """Centres in the grid's own CRS, as its affine has them: a row and a column if nothing is sheared."""
        affine = self.grid.affine
        col = np.arange(self.shape[1])[None, :] + 0.5
        row = np.arange(self.row, self.row + self.shape[0])[:, None] + 0.5
        if affine.b == 0 and affine.d == 0:
            return affine.a * col + affine.c, affine.e * row + affine.f
        return affine.a * col + affine.b * row + affine.c, affine.d * col + affine.e * row + affine.f

    def at(self, crs: str) -> tuple[Numbers, Numbers]:
        """Centres in a CRS, which broadcast to the strip's shape. Longitudes are in -180 to 180."""
        if crs not in self._known:
            self._known[crs] = self._transformed(crs)
        return self._known[crs]

    def bounds(self, crs: str) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of the centres in a CRS."""
        x, y = self.at(crs)
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def _transformed(self, crs: str) -> tuple[Numbers, Numbers]:
        x, y = self.own
        if not same(self.grid.crs, crs):
            x, y = np.broadcast_arrays(x, y)
            x, y = transformer(self.grid.crs, crs).transform(x, y)
            x, y = (np.where(np.isfinite(part), part, _NOWHERE) for part in (x, y))
        if not read_crs(crs).is_geographic:
            return x, y
        # Only what lies outside is wrapped: the rest keeps its last bit.
        beyond = (x < -180) | (x >= 180)
        return np.where(beyond, (x + 180) % 360 - 180, x), y


@functools.lru_cache(maxsize=64)
def read_crs(text: str) -> pyproj.CRS:
    """A CRS by code (in any case) or WKT.

    Raises:
        ValueError: there is none.
    """
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise ValueError(f"The CRS of a map projection could not be parsed: {text}") from error


@functools.lru_cache(maxsize=256)
def same(one: str, other: str) -> bool:
    """True if two texts are about one CRS."""
    return one == other or read_crs(one).equals(read_crs(other), ignore_axis_order=True)


@functools.lru_cache(maxsize=64)
def transformer(source: str, target: str) -> pyproj.Transformer:
    """From one CRS to another, x before y."""
    return pyproj.Transformer.from_crs(read_crs(source), read_crs(target), always_xy=True)
