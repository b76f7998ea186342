"""Which pixels of a grid lie under a geobox: the geometry of a plan."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.grid import Grid, Window

NODE_STEP = 32
"""Most pixels of the target between two points whose place on the grid is computed exactly."""

CELL_NODES = 8
"""Node intervals along the side of a cell; chunks are collected cell by cell."""

WARP_TILE = 2048
"""Largest side of a piece of the target that is warped in one call, in pixels."""

WARP_SOURCE = 4096
"""About the largest side of the source window of a piece, in pixels: it bounds the warp's memory."""

WASTE = 4
"""How much more than its cells need a piece may read; a turned square needs up to twice as much."""

KERNEL_RADIUS = {"nearest": 0, "bilinear": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3}
"""Radius of GDAL's resampling kernels in source pixels at scale 1; the others average what they cover (1)."""

KERNEL_SPREAD = 2.0
"""Most that a kernel is widened, in true scales.

GDAL widens by the extent of the whole target along each axis of the grid. In a long strip that is rotated
this has nothing to do with the size of a pixel: its kernel would be as long as the strip. Up to here it is
followed.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of the target, and the window of the grid that it is made from."""

    target: Window
    """Pixels of the target geobox."""
    source: Window
    """Pixels of the grid, kernel and margin included; cut at the grid's edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a geobox touches of a grid."""

    pieces: tuple[Piece, ...]
    """Pieces that touch the grid; the others stay nodata."""
    chunks: tuple[tuple[int, int], ...]
    """(row, col) of the chunks needed, sorted."""
    aligned: bool
    """True when the target lies on the grid's lattice: its pixels are copied, not resampled."""


def transformer(source: CRS, target: CRS) -> Transformer:
    """Return a pyproj transformer with x, y (lon, lat) axis order, made once for each pair."""
    return _transformer(str(source), str(target))


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    """Make a transformer; by names, for the hash of a CRS is that of its WKT, made anew each time."""
    return Transformer.from_crs(source, target, always_xy=True)


def footprint(grid: Grid, target: GeoBox, resamplings: Sequence[str], *, max_chunks: int) -> Footprint:
    """Return what a target geobox needs of a grid.

    Args:
        grid: the collection's grid.
        target: any geobox: other CRS, scale, rotation.
        resamplings: the resampling methods in use, by GDAL's names; the widest kernel counts.
        max_chunks: a footprint of more chunks is refused before they are listed.

    Raises:
        TooLargeError: it touches more chunks than that.
    """
    window = grid.aligned_window(target)
    if window is not None:
        return _aligned(grid, window, max_chunks)
    return _warped(grid, target, resamplings, max_chunks)


def _aligned(grid: Grid, window: Window, max_chunks: int) -> Footprint:
    inside = window.intersection(grid.window)
    if inside is None:
        return Footprint(pieces=(), chunks=(), aligned=True)
    rows, cols = inside.slices(window)
    part = Window.from_bounds(rows.start, cols.start, rows.stop, cols.stop)
    under = grid.chunks_under(inside)
    _check_chunks(under.pixels, max_chunks)
    chunks = tuple(_positions(under))
    return Footprint(pieces=(Piece(target=part, source=inside),), chunks=chunks, aligned=True)


def _positions(chunks: Window) -> Iterator[tuple[int, int]]:
    """List the (row, col) of a rectangle of chunks, row by row."""
    return product(range(chunks.row, chunks.stop_row), range(chunks.col, chunks.stop_col))


def _check_chunks(asked: int, max_chunks: int) -> None:
    if asked > max_chunks:
        raise TooLargeError(
            f"this region reads at least {asked} chunks of each band; one request reads at most {max_chunks}",
            limit=max_chunks,
            asked=asked,
            setting="max_chunks",
        )


def _warped(grid: Grid, target: GeoBox, resamplings: Sequence[str], max_chunks: int) -> Footprint:
    scale, found = _sources(grid, target, resamplings)
    side = max(1, min(WARP_TILE, int(WARP_SOURCE / max(1.0, scale))) // (NODE_STEP * CELL_NODES))
    cells: dict[tuple[int, int], list[Piece]] = {}
    chunks: set[tuple[int, int]] = set()
    for (row, col), part, source in found:
        cells.setdefault((row // side, col // side), []).append(Piece(target=part, source=source))
        under = grid.chunks_under(source)
        _check_chunks(under.pixels, max_chunks)
        chunks.update(_positions(under))
        _check_chunks(len(chunks), max_chunks)
    pieces = tuple(piece for group in cells.values() for piece in _joined(group))
    return Footprint(pieces=pieces, chunks=tuple(sorted(chunks)), aligned=False)


type _Cell = tuple[tuple[int, int], Window, Window]
"""Number of a cell, its pixels of the target, its pixels of the grid."""


def _sources(grid: Grid, target: GeoBox, resamplings: Sequence[str]) -> tuple[float, Iterator[_Cell]]:
    """Return how many grid pixels a target pixel spans at most, and the cells that lie on the grid."""
    rows, cols = _nodes(int(target.shape[0])), _nodes(int(target.shape[1]))
    grid_rows, grid_cols = _on_grid(grid, target, rows, cols)
    scale = _scale(grid_rows, grid_cols, rows, cols)
    kernel = max(KERNEL_RADIUS.get(name, 1) for name in resamplings)
    widened = min(_extent(grid_rows, rows[-1], grid_cols, cols[-1]), KERNEL_SPREAD * max(1.0, scale))
    pad = math.ceil(kernel * max(1.0, scale, widened)) + 2
    return scale, _cells(grid, rows, cols, (grid_rows, grid_cols), pad)


def windows_under(grid: Grid, target: GeoBox, resamplings: Sequence[str]) -> Iterator[Window]:
    """Yield windows of the grid, inside it, that together hold all that a target needs; they overlap."""
    window = grid.aligned_window(target)
    if window is None:
        yield from (source for *_, source in _sources(grid, target, resamplings)[1])
    elif (inside := window.intersection(grid.window)) is not None:
        yield inside


def _joined(cells: list[Piece]) -> list[Piece]:
    """Join neighbouring cells into one piece, unless it would read far more of the grid than they do.

    Neighbours lie far apart on a lon/lat grid where the antimeridian runs between them: a window around both
    is as wide as the earth.
    """
    target, source = cells[0].target, cells[0].source
    for cell in cells[1:]:
        target, source = target.union(cell.target), source.union(cell.source)
    if source.pixels > WASTE * sum(cell.source.pixels for cell in cells):
        return cells
    return [Piece(target=target, source=source)]


def _cells(
    grid: Grid,
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    pad: int,
) -> Iterator[_Cell]:
    """Yield the cells that lie on the grid."""
    grid_rows, grid_cols = places
    for row in range(0, len(rows) - 1, CELL_NODES):
        for col in range(0, len(cols) - 1, CELL_NODES):
            stop_row, stop_col = row + CELL_NODES, col + CELL_NODES
            nodes = slice(row, stop_row + 1), slice(col, stop_col + 1)
            source = _cell(grid, grid_rows[nodes], grid_cols[nodes], pad)
            if source is not None:
                part = Window.from_bounds(
                    int(rows[row]), int(cols[col]), int(rows[stop_row]), int(cols[stop_col])
                )
                yield (row // CELL_NODES, col // CELL_NODES), part, source


def _nodes(size: int) -> NDArray[np.float64]:
    """Places, in pixels, at which the transform is computed: as many in every cell, also in a short last one.

    A target of few pixels can be a large part of the earth, where the corners of a cell say nothing of a
    pole or an antimeridian between them.
    """
    side = NODE_STEP * CELL_NODES
    edges = [*range(0, size, side), size]
    cells = [np.linspace(start, stop, CELL_NODES + 1)[:-1] for start, stop in pairwise(edges)]
    return np.append(np.concatenate(cells), float(size))


def _on_grid(
    grid: Grid, target: GeoBox, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (rows, columns) on the grid, in pixels, of the target's nodes; not finite where undefined."""
    node_cols, node_rows = np.meshgrid(cols, rows)
    x, y = _apply(target.affine, node_cols, node_rows)
    if target.crs is not None and target.crs != grid.crs:
        x, y = transformer(target.crs, grid.crs).transform(x, y)
    with np.errstate(invalid="ignore"):  # infinity times zero: a place that the CRS does not know
        grid_cols, grid_rows = _apply(~grid.geobox.affine, x, y)
    return grid_rows, grid_cols


def _apply(
    affine: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _scale(
    grid_rows: NDArray[np.float64],
    grid_cols: NDArray[np.float64],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
) -> float:
    """Return how many grid pixels a target pixel spans at most (GDAL widens its kernels by this)."""
    with np.errstate(invalid="ignore"):
        down = np.hypot(np.diff(grid_rows, axis=0), np.diff(grid_cols, axis=0)) / np.diff(rows)[:, None]
        along = np.hypot(np.diff(grid_rows, axis=1), np.diff(grid_cols, axis=1)) / np.diff(cols)[None, :]
    steps = np.concatenate([down.ravel(), along.ravel()])
    steps = steps[np.isfinite(steps)]
    return float(steps.max()) if steps.size else 1.0


def _extent(
    grid_rows: NDArray[np.float64], rows: float, grid_cols: NDArray[np.float64], cols: float
) -> float:
    """Return how many grid pixels lie under the target by its own pixels, along the axis that has more."""
    finite = np.isfinite(grid_rows) & np.isfinite(grid_cols)
    if not finite.any():
        return 1.0
    return max(float(np.ptp(grid_rows[finite])) / rows, float(np.ptp(grid_cols[finite])) / cols)


def _cell(grid: Grid, rows: NDArray[np.float64], cols: NDArray[np.float64], pad: int) -> Window | None:
    """Return the grid pixels under one cell of nodes, cut at the grid's edge, or None.

    Between nodes the place is bounded by the second differences. A smooth curve strays from its chord by an
    eighth of them; they are taken whole, because around a pole, or where longitudes jump, nothing is smooth.
    """
    finite = np.isfinite(rows) & np.isfinite(cols)
    if not finite.any():
        return None
    stray_rows, stray_cols = _stray(rows), _stray(cols)
    known_rows, known_cols = rows[finite], cols[finite]
    if not finite.all():  # beyond the CRS's validity: let what is known reach over the gap
        stray_rows += float(np.ptp(known_rows)) + NODE_STEP
        stray_cols += float(np.ptp(known_cols)) + NODE_STEP
    limit = float(2**40)  # far outside every grid, and safe for int()
    bounds = np.clip(
        [
            known_rows.min() - stray_rows - pad,
            known_cols.min() - stray_cols - pad,
            known_rows.max() + stray_rows + pad,
            known_cols.max() + stray_cols + pad,
        ],
        -limit,
        limit,
    )
    row, col, stop_row, stop_col = (int(value) for value in np.floor(bounds))
    return Window.from_bounds(row, col, stop_row + 1, stop_col + 1).intersection(grid.window)


def _stray(places: NDArray[np.float64]) -> float:
    stray = 0.0
    for axis in (0, 1):
        with np.errstate(invalid="ignore"):
            second = np.abs(np.diff(places, n=2, axis=axis))
        stray += float(second[np.isfinite(second)].max(initial=0.0))
    return stray
