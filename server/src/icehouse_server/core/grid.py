"""The canonical pixel grid of a collection: a GeoBox cut into square chunks, with levels."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

LATTICE_TOLERANCE = 1e-3
"""Largest distance from the lattice, in pixels over the whole extent, that still counts as aligned.

Published transforms are rounded to six digits; a shift of a thousandth of a pixel is the tolerance that
odc-geo and smart-geocubes use as well.
"""

_CHUNK_PATH = re.compile(r"(?:([1-9][0-9]*)/)?([^/]+)/c/(?:(0|[1-9][0-9]*)/)?(0|[1-9][0-9]*)/(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """A pixel rectangle of a grid. Offsets count from the grid's top left corner."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise ValueError(f"a window has at least one pixel each way, not {self.height} x {self.width}")

    @classmethod
    def from_bounds(cls, row: int, col: int, stop_row: int, stop_col: int) -> Self:
        """Make a window of the rows ``row:stop_row`` and the columns ``col:stop_col``."""
        return cls(row=row, col=col, height=stop_row - row, width=stop_col - col)

    @property
    def stop_row(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def intersection(self, other: "Window") -> "Window | None":
        """Return what both windows cover, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        stop_row, stop_col = min(self.stop_row, other.stop_row), min(self.stop_col, other.stop_col)
        if row >= stop_row or col >= stop_col:
            return None
        return Window.from_bounds(row, col, stop_row, stop_col)

    def union(self, other: "Window") -> "Window":
        """Return the smallest window that holds both."""
        return Window.from_bounds(
            min(self.row, other.row),
            min(self.col, other.col),
            max(self.stop_row, other.stop_row),
            max(self.stop_col, other.stop_col),
        )

    def slices(self, origin: "Window") -> tuple[slice, slice]:
        """Return (rows, columns) of this window inside an array that starts at ``origin``."""
        row, col = self.row - origin.row, self.col - origin.col
        return slice(row, row + self.height), slice(col, col + self.width)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ChunkKey:
    """The address of one chunk, the unit of caching."""

    collection: str
    level: int
    band: str
    time: int | None
    row: int
    col: int

    @property
    def array(self) -> str:
        """Path of the array that holds the chunk: levels above 0 are groups of their own."""
        return f"{self.level}/{self.band}" if self.level else self.band

    @property
    def place(self) -> tuple[int, ...]:
        """The chunk's index in its array: (row, col), before them the time step where there is one."""
        return (self.row, self.col) if self.time is None else (self.time, self.row, self.col)

    @property
    def path(self) -> str:
        """The chunk's key in its repository, by Zarr v3's default key encoding."""
        step = "" if self.time is None else f"{self.time}/"
        return f"{self.array}/c/{step}{self.row}/{self.col}"

    @classmethod
    def from_path(cls, collection: str, path: str) -> "ChunkKey":
        """Return the key that has this path.

        Raises:
            ValueError: it is the path of no chunk.
        """
        found = _CHUNK_PATH.fullmatch(path)
        if found is None:
            raise ValueError(f"{path!r} is not a path of a chunk, such as dem/c/120/7")
        level, band, time, row, col = found.groups()
        return cls(
            collection=collection,
            level=int(level or 0),
            band=band,
            time=None if time is None else int(time),
            row=int(row),
            col=int(col),
        )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A collection's pixel grid, cut into square chunks.

    Attributes:
        geobox: CRS, affine and shape at level 0; north up, no rotation.
        chunk: side of a chunk in pixels.
    """

    geobox: GeoBox
    chunk: int

    def __post_init__(self) -> None:
        affine = self.geobox.affine
        if self.geobox.crs is None:
            raise ValueError("a grid needs a CRS")
        if affine.b or affine.d or affine.a <= 0 or affine.e >= 0:
            raise ValueError("a grid is north up: positive x step, negative y step, no rotation")
        if self.chunk <= 0:
            raise ValueError("a chunk has at least one pixel")

    @property
    def crs(self) -> CRS:
        """The grid's CRS."""
        crs = self.geobox.crs
        if crs is None:  # refused at construction; said again for the type checker
            raise ValueError("a grid needs a CRS")
        return crs

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the grid at level 0."""
        rows, cols = self.geobox.shape
        return int(rows), int(cols)

    @cached_property
    def window(self) -> Window:
        """The whole grid as a window."""
        rows, cols = self.shape
        return Window(row=0, col=0, height=rows, width=cols)

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """(rows, columns) of chunks at level 0."""
        rows, cols = self.shape
        return math.ceil(rows / self.chunk), math.ceil(cols / self.chunk)

    @property
    def levels(self) -> int:
        """Number of levels, this one included: the last is the first that fits into one chunk."""
        rows, cols = self.shape
        return 1 + max(0, math.ceil(math.log2(max(rows, cols) / self.chunk)))

    def shrunk(self, level: int) -> "Grid":
        """Return the grid of a level: cells 2^level as wide and high, from the same top left corner.

        The last row and column may stick out of this grid.
        """
        factor = 2**level
        rows, cols = self.shape
        shape = (math.ceil(rows / factor), math.ceil(cols / factor))
        affine = self.geobox.affine @ Affine.scale(factor)
        return Grid(geobox=GeoBox(shape, affine, self.geobox.crs), chunk=self.chunk)

    def chunk_window(self, row: int, col: int) -> Window:
        """Return the pixels of chunk (row, col), cut at the grid's edge."""
        size = self.chunk
        whole = Window(row=row * size, col=col * size, height=size, width=size)
        inside = whole.intersection(self.window)
        if inside is None:
            raise ValueError(f"chunk ({row}, {col}) lies outside the grid")
        return inside

    def chunks_under(self, window: Window) -> "Window":
        """Return the rectangle of chunks, counted in chunks, that a window of pixels touches."""
        size = self.chunk
        return Window.from_bounds(
            window.row // size, window.col // size, -(-window.stop_row // size), -(-window.stop_col // size)
        )

    def pixels_of(self, chunks: Window) -> Window:
        """Return the pixels of a rectangle of chunks, cut at the grid's edge."""
        size = self.chunk
        whole = Window(
            row=chunks.row * size,
            col=chunks.col * size,
            height=chunks.height * size,
            width=chunks.width * size,
        )
        inside = whole.intersection(self.window)
        if inside is None:
            raise ValueError("these chunks lie outside the grid")
        return inside

    def geobox_of(self, window: Window) -> GeoBox:
        """Return the GeoBox of a window (which may stick out of the grid)."""
        affine = self.geobox.affine @ Affine.translation(window.col, window.row)
        return GeoBox((window.height, window.width), affine, self.geobox.crs)

    def aligned_window(self, geobox: GeoBox) -> Window | None:
        """Return the window that a geobox covers pixel by pixel, or None where it is not on the lattice.

        The window may stick out of the grid: the lattice has no edge.
        """
        return lattice_window(self.geobox, geobox)


def lattice_window(grid: GeoBox, geobox: GeoBox) -> Window | None:
    """Return the window of ``grid``'s lattice that ``geobox`` covers pixel by pixel, or None.

    Args:
        grid: CRS and affine of the lattice; its shape does not matter.
        geobox: what may lie on it.
    """
    if geobox.crs != grid.crs:
        return None
    return lattice_offset(grid.affine, geobox.affine, (int(geobox.shape[0]), int(geobox.shape[1])))


def lattice_offset(grid: Affine, other: Affine, shape: tuple[int, int]) -> Window | None:
    """Return where a raster lies on a lattice, or None where a pixel of it is off by too much.

    Args:
        grid: affine of the lattice (pixel to CRS).
        other: affine of the raster.
        shape: (rows, columns) of the raster.
    """
    relative = ~grid * other
    rows, cols = shape
    drift = max(
        abs(relative.a - 1) * cols, abs(relative.b) * rows, abs(relative.d) * cols, abs(relative.e - 1) * rows
    )
    row, col = round(relative.f), round(relative.c)
    if max(drift, abs(relative.f - row), abs(relative.c - col)) > LATTICE_TOLERANCE:
        return None
    return Window(row=row, col=col, height=rows, width=cols)


def tiles(window: Window, size: int) -> Iterator[Window]:
    """Cut a window into tiles of at most ``size`` pixels each way, row by row."""
    for row in range(window.row, window.stop_row, size):
        for col in range(window.col, window.stop_col, size):
            yield Window.from_bounds(
                row, col, min(row + size, window.stop_row), min(col + size, window.stop_col)
            )
