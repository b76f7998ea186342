"""Cutting what is to be read into the rectangles of single requests."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from icehouse_server.core.grid import Grid, Window

MAX_BYTES = 48 * 1024**2
"""Bytes that Earth Engine computes for one request, a byte of mask for each band and pixel among them."""

MAX_SIDE = 32_000
"""Pixels each way of one request ("32K")."""

MAX_BANDS = 1024

_WHOLE, _HALF, _POLE = 360.0, 180.0, 90.0
"""Degrees."""


@dataclass(frozen=True, slots=True)
class PixelRect:
    """A rectangle of what is to be read, and where on the globe Earth Engine is asked for it."""

    window: Window
    """Pixels of the collection's grid; it may stick out."""
    shift: float = 0.0
    """What is added to x, in units of the CRS: a whole turn where the grid goes beyond 180 degrees."""


def pixel_rects(grid: Grid, window: Window) -> Iterator[PixelRect]:
    """Cut a window at the ends of longitude and latitude.

    A pixel beyond 180 degrees holds what lies there, a turn further; beyond a pole there is nothing. A pixel
    lies where its centre lies. On a grid in other units than degrees nothing is cut.
    """
    if not grid.crs.geographic:
        yield PixelRect(window)
        return
    affine = grid.geobox.affine
    rows = (_first(affine.f, affine.e, _POLE), _first(affine.f, affine.e, -_POLE))
    south, north = window.stop_row, window.row
    north, south = max(north, rows[0]), min(south, rows[1])
    turn = math.floor((affine.c + affine.a * (window.col + 0.5) + _HALF) / _WHOLE)
    col = window.col
    while col < window.stop_col and north < south:
        stop = min(window.stop_col, _first(affine.c, affine.a, turn * _WHOLE + _HALF))
        if stop > col:
            yield PixelRect(Window.from_bounds(north, col, south, stop), -turn * _WHOLE)
        col, turn = max(col, stop), turn + 1


def _first(origin: float, step: float, limit: float) -> int:
    """Return the first row or column whose centre has reached a limit."""
    return math.ceil((limit - origin) / step - 0.5)


def cut(window: Window, *, max_pixels: int, max_side: int = MAX_SIDE) -> tuple[Window, ...]:
    """Cut a window into as few rectangles as a limit of pixels allows; of those, into the squarest."""
    lying = _best(window.height, window.width, max_pixels, max_side)
    standing = _best(window.width, window.height, max_pixels, max_side)
    if (standing.count, standing.longest) < (lying.count, lying.longest):
        return tuple(
            Window(row=window.row + col, col=window.col + row, height=width, width=height)
            for row, col, height, width in standing.rectangles()
        )
    return tuple(
        Window(row=window.row + row, col=window.col + col, height=height, width=width)
        for row, col, height, width in lying.rectangles()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strips:
    """Strips of equal height, each cut into equal rectangles, and a last strip cut into fewer."""

    height: int
    width: int
    strip: int
    """Height of a strip."""
    columns: int
    """Of a strip."""
    last: int
    """Rectangles of the last strip."""

    @property
    def count(self) -> int:
        return (math.ceil(self.height / self.strip) - 1) * self.columns + self.last

    @property
    def longest(self) -> int:
        return max(self.strip, math.ceil(self.width / min(self.columns, self.last)))

    def rectangles(self) -> Iterator[tuple[int, int, int, int]]:
        """Row, column, height and width of each, from the top left."""
        for row in range(0, self.height, self.strip):
            height = min(self.strip, self.height - row)
            columns = self.last if row + self.strip >= self.height else self.columns
            edges = [self.width * n // columns for n in range(columns + 1)]
            for left, right in itertools.pairwise(edges):
                yield row, left, height, right - left


def _best(height: int, width: int, max_pixels: int, max_side: int) -> _Strips:
    """Return the strips that need the fewest rectangles."""
    fewest = math.ceil(width / min(max_side, max_pixels))
    most = max(fewest, min(width, math.ceil(height * width / min(max_pixels, max_side**2))))
    return min(
        (_strips(height, width, columns, max_pixels, max_side) for columns in range(fewest, most + 1)),
        key=lambda strips: (strips.count, strips.longest),
    )


def _strips(height: int, width: int, columns: int, max_pixels: int, max_side: int) -> _Strips:
    tallest = min(max_side, height, max_pixels // math.ceil(width / columns))
    number = math.ceil(height / tallest)
    rest = height - (number - 1) * tallest
    # The last strip is lower, and may need fewer rectangles.
    widest = min(max_side, max_pixels // rest)
    last = min(columns, math.ceil(width / widest))
    strip = math.ceil(height / number) if last == columns else tallest
    return _Strips(height=height, width=width, strip=strip, columns=columns, last=last)
