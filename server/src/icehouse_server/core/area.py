"""Areas: which chunk positions a job is about, without a list of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.chunkset import ChunkSet
from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.geometry.footprint import aligned_windows, chunks_under
from icehouse_server.core.grid import Grid, Window, tiles

_WIDEST = ("lanczos",)
"""The resampling with the widest kernel: an area holds what a load needs, whichever it asks for."""

_MOST_PIXELS = 4_000_000
"""A target of more pixels is looked at in larger ones: its area may then hold a few chunks more."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """Positions of chunks: a rectangle, or those of it that are in a set."""

    bounds: Window
    """Counted in chunks."""
    members: ChunkSet | None = None
    """None: the whole rectangle."""

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.bounds.pixels if self.members is None else len(self.members)

    def within(self, chunks: Window) -> NDArray[np.bool_]:
        """Return a boolean array (rows, columns) over a rectangle inside the bounds: True where it is in."""
        if self.members is None:
            return np.ones((chunks.height, chunks.width), dtype=np.bool_)
        return self.members.within(chunks)

    def squares(self, side: int) -> Iterator[Window]:
        """Cut the bounds into squares, ``side`` chunks each way, from the corner of the bounds."""
        return tiles(self.bounds, side)


def whole(grid: Grid) -> Area:
    """Return the area of a whole collection."""
    rows, cols = grid.chunk_shape
    return Area(bounds=Window(row=0, col=0, height=rows, width=cols))


def area_under(grid: Grid, target: GeoBox, most: int, clip: BaseGeometry | None = None) -> Area | None:
    """Return the chunks that a target geobox needs, for whatever resampling, or None outside the grid.

    Takes up to a second for a large target that does not lie on the grid.

    Args:
        grid: the collection's grid.
        target: any geobox, of any size.
        most: a target that does not lie on the grid may need a great many positions; the others are a
            rectangle.
        clip: polygon in the target's CRS outside of which nothing is needed.

    Raises:
        TooLargeError: it needs more than that.
    """
    copies = aligned_windows(grid, target)
    if copies is not None and len(copies) == 1 and clip is None:
        return Area(bounds=grid.chunks_under(copies[0]))
    members, bounds = ChunkSet(), None
    for under in chunks_under(grid, target if copies is not None else _coarser(target), _WIDEST, clip):
        bounds = under if bounds is None else bounds.union(under)
        check_area(under.pixels, most)
        for row in range(under.row, under.stop_row):
            for col in range(under.col, under.stop_col):
                members.add(row, col)
        check_area(len(members), most)
    return None if bounds is None else Area(bounds=bounds, members=members)


def check_area(asked: int, most: int) -> None:
    """Refuse a job over too many chunks.

    Raises:
        TooLargeError: there are more than ``most``.
    """
    if asked > most:
        raise TooLargeError(
            f"job covers at least {asked} chunks; the limit is {most}",
            limit=most,
            asked=asked,
            setting="max_job_chunks",
        )


def _coarser(target: GeoBox) -> GeoBox:
    rows, cols = (int(size) for size in target.shape)
    factor = (rows * cols / _MOST_PIXELS) ** 0.5
    if factor <= 1:
        return target
    return target.zoom_to((max(1, round(rows / factor)), max(1, round(cols / factor))))
