"""Which pixels of a grid lie under a geobox: the geometry of a plan."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.geometry.clip import TargetClip, rectangles_touched
from icehouse_server.core.geometry.target_nodes import (
    CELL_NODES,
    Bounds,
    Nodes,
    both_defined,
    bounds_of,
    cell_side,
    extents_of,
    may_hold_pole,
    nodes_of,
    scale_of,
    span_of,
    unwrapped,
)
from icehouse_server.core.grid import LATTICE_TOLERANCE, Grid, Window

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


MOST_TURNS = 4
"""How many times longitudes are followed around the earth, each way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintPiece:
    """A piece of the target, and the window of the grid that it is made from."""

    target: Window
    """Pixels of the target geobox."""
    source: Window
    """Pixels of the grid, kernel and margin included; cut at the grid's edge."""
    turn: int = 0
    """Turns of the earth by which a grid in lon/lat is moved to the east to lie under the target."""
    shared: bool = False
    """True when another piece, of another turn, has a part in the same pixels of the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a geobox touches of a grid."""

    pieces: tuple[FootprintPiece, ...]
    """Pieces that touch the grid and the clip; the others stay nodata."""
    chunks: tuple[tuple[int, int], ...]
    """(row, col) of the chunks needed, sorted."""
    aligned: bool
    """True when the target lies on the grid's lattice: its pixels are copied, not resampled."""
    outside: bool
    """True when the target does not touch the grid, whatever the clip."""


def footprint(
    grid: Grid,
    target: GeoBox,
    resamplings: Sequence[str],
    *,
    max_chunks: int,
    around: bool = True,
    clip: BaseGeometry | None = None,
) -> Footprint:
    """Return what a target geobox needs of a grid.

    Longitudes go on beyond 180 degrees: on a grid in lon/lat, a target across the antimeridian, or moved by
    360 degrees, is made from both ends of the grid.

    Args:
        grid: the collection's grid.
        target: any geobox: other CRS, scale, rotation.
        resamplings: the resampling methods in use, by GDAL's names; the widest kernel counts.
        max_chunks: a footprint of more chunks is refused before they are listed.
        around: False for a grid that lies where it lies, and not 360 degrees to its side.
        clip: polygon in the target's CRS outside of which nothing is needed.

    Raises:
        TooLargeError: it touches more chunks than that.
    """
    turn = turn_pixels(grid) if around else None
    copies = _copies(grid, target, turn)
    clipped = None if clip is None else TargetClip(target, clip)
    if copies is not None:
        return _aligned(grid, copies, max_chunks, clipped)
    return _warped(grid, target, resamplings, max_chunks, turn, clipped)


def turn_pixels(grid: Grid) -> float | None:
    """Return how many columns of a grid in lon/lat go around the earth; None on other grids."""
    return 360.0 / grid.geobox.affine.a if grid.crs.geographic else None


def aligned_windows(grid: Grid, target: GeoBox) -> list[Window] | None:
    """Return the windows of the grid whose pixels a target copies; None where it must be warped."""
    copies = _copies(grid, target, turn_pixels(grid))
    return None if copies is None else [piece.source for piece in copies]


def _copies(grid: Grid, target: GeoBox, turn: float | None) -> list[FootprintPiece] | None:
    """Return the pieces of a target that lies on the grid's lattice, also a turn of the earth away."""
    window = grid.aligned_window(target)
    if window is None:
        return None
    turns: Sequence[int] = (0,)
    if turn is not None and window.intersection(grid.window) != window:
        turns = _turns(window.col, window.stop_col, grid.window.width, turn)
    pieces = []
    for number in turns:
        moved = 0 if turn is None else round(number * turn)
        if turn is not None and abs(number * turn - moved) > LATTICE_TOLERANCE:
            return None  # the other end of the grid lies between the target's pixels
        there = replace(window, col=window.col - moved)
        inside = there.intersection(grid.window)
        if inside is not None:
            rows, cols = inside.slices(there)
            part = Window.from_bounds(rows.start, cols.start, rows.stop, cols.stop)
            pieces.append(FootprintPiece(target=part, source=inside, turn=number))
    return pieces


def _turns(first: float, last: float, width: int, turn: float) -> range:
    """Return the turns by which a grid has to be moved to lie under columns from ``first`` to ``last``."""
    slack, limit = LATTICE_TOLERANCE, (MOST_TURNS + 1) * turn
    first, last = max(first, -limit), min(last, limit)
    return range(math.floor((first - width + slack) / turn) + 1, math.ceil((last - slack) / turn))


def _aligned(
    grid: Grid, pieces: Sequence[FootprintPiece], max_chunks: int, clip: TargetClip | None
) -> Footprint:
    chunks: set[tuple[int, int]] = set()
    for piece in pieces:
        for under in _chunks_copied(grid, piece, clip):
            _check_chunks(under.pixels, max_chunks)
            chunks.update(_positions(under))
            _check_chunks(len(chunks), max_chunks)
    return Footprint(pieces=tuple(pieces), chunks=tuple(sorted(chunks)), aligned=True, outside=not pieces)


def _chunks_copied(grid: Grid, piece: FootprintPiece, clip: TargetClip | None) -> Iterator[Window]:
    """Yield the chunks, as rectangles of them, that a piece on the grid's lattice copies."""
    under = grid.chunks_under(piece.source)
    if clip is None:
        yield under
        return
    rows, cols = piece.target.row - piece.source.row, piece.target.col - piece.source.col

    def on_target(chunks: Window) -> Window:
        inside = grid.pixels_of(chunks).intersection(piece.source) or piece.source
        return replace(inside, row=inside.row + rows, col=inside.col + cols)

    yield from rectangles_touched(under, clip, on_target)


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


def _warped(
    grid: Grid,
    target: GeoBox,
    resamplings: Sequence[str],
    max_chunks: int,
    turn: float | None,
    clip: TargetClip | None,
) -> Footprint:
    scale, found = _sources(grid, target, resamplings, turn)
    side = max(1, min(WARP_TILE, int(WARP_SOURCE / max(1.0, scale))) // cell_side())
    cells: dict[tuple[int, int], dict[int, list[FootprintPiece]]] = {}
    chunks: set[tuple[int, int]] = set()
    outside = True
    for (row, col), piece in found:
        outside = False
        if clip is not None and not clip.touches(piece.target):
            continue
        block = cells.setdefault((row // side, col // side), {})
        block.setdefault(piece.turn, []).append(piece)
        under = grid.chunks_under(piece.source)
        _check_chunks(under.pixels, max_chunks)
        chunks.update(_positions(under))
        _check_chunks(len(chunks), max_chunks)
    pieces = tuple(piece for block in cells.values() for piece in _pieces(block))
    return Footprint(pieces=pieces, chunks=tuple(sorted(chunks)), aligned=False, outside=outside)


def _pieces(block: dict[int, list[FootprintPiece]]) -> Iterator[FootprintPiece]:
    """Yield the pieces of neighbouring cells, given by turn."""
    for group in block.values():
        for piece in _joined(group):
            yield replace(piece, shared=len(block) > 1)


type _Cell = tuple[tuple[int, int], FootprintPiece]
"""Number of a cell, and what it is made from."""


def _sources(
    grid: Grid, target: GeoBox, resamplings: Sequence[str], turn: float | None
) -> tuple[float, Iterator[_Cell]]:
    """Return how many grid pixels a target pixel spans at most, and the cells that lie on the grid."""
    kernel = max(KERNEL_RADIUS.get(name, 1) for name in resamplings)
    nodes = nodes_of(grid, target)
    scale = scale_of(nodes, turn)
    widest = KERNEL_SPREAD * max(1.0, scale)
    extents = extents_of(nodes, turn)
    pad = math.ceil(kernel * max(1.0, scale, min(max(extents), widest))) + 2
    if turn is None:
        return scale, _cells(grid, nodes, partial(_cell, pad))
    pads: _Pads = lambda _: (pad, pad)  # noqa: E731
    if may_hold_pole(nodes, turn):  # there the scale says nothing of the other cells
        pads = partial(_pads, turn, kernel, (min(extents[0], widest), min(extents[1], widest)))
    return scale, _cells(grid, nodes, partial(_cell_around, grid.window.width, turn, pads))


def chunks_under(
    grid: Grid, target: GeoBox, resamplings: Sequence[str], clip: BaseGeometry | None
) -> Iterator[Window]:
    """Yield rectangles of chunks that together hold all that a target needs of a grid; they overlap."""
    turn = turn_pixels(grid)
    copies = _copies(grid, target, turn)
    clipped = None if clip is None else TargetClip(target, clip)
    if copies is not None:
        for piece in copies:
            yield from _chunks_copied(grid, piece, clipped)
        return
    for _, piece in _sources(grid, target, resamplings, turn)[1]:
        if clipped is None or clipped.touches(piece.target):
            yield grid.chunks_under(piece.source)


def _joined(cells: list[FootprintPiece]) -> list[FootprintPiece]:
    """Join neighbouring cells into one piece, unless it would read far more of the grid than they do.

    Neighbours lie far apart on a lon/lat grid where the antimeridian runs between them: a window around both
    is as wide as the earth.
    """
    target, source = cells[0].target, cells[0].source
    for cell in cells[1:]:
        target, source = target.union(cell.target), source.union(cell.source)
    if source.pixels > WASTE * sum(cell.source.pixels for cell in cells):
        return cells
    return [replace(cells[0], target=target, source=source)]


def _cells(
    grid: Grid, nodes: Nodes, under: Callable[[Nodes], Iterable[tuple[int, Window]]]
) -> Iterator[_Cell]:
    """Yield the cells that lie on the grid; ``under`` says by turn what of it lies under one."""
    for row in range(0, len(nodes.rows) - 1, CELL_NODES):
        for col in range(0, len(nodes.cols) - 1, CELL_NODES):
            part = nodes.part(row, col)
            target = Window.from_bounds(
                int(part.rows[0]), int(part.cols[0]), int(part.rows[-1]), int(part.cols[-1])
            )
            for turn, window in under(part):
                source = window.intersection(grid.window)
                if source is not None:
                    number = row // CELL_NODES, col // CELL_NODES
                    yield number, FootprintPiece(target=target, source=source, turn=turn)


def _window(rows: Bounds, cols: Bounds, pad: tuple[int, int]) -> Window:
    """Return the pixels between places, with N more rows and columns on each side."""
    limit = float(2**40)  # far outside every grid, and safe for int()
    row, stop_row = (
        int(place) for place in np.floor(np.clip([rows[0] - pad[0], rows[1] + pad[0]], -limit, limit))
    )
    col, stop_col = (
        int(place) for place in np.floor(np.clip([cols[0] - pad[1], cols[1] + pad[1]], -limit, limit))
    )
    return Window.from_bounds(row, col, stop_row + 1, stop_col + 1)


def _cell(pad: int, nodes: Nodes) -> Iterator[tuple[int, Window]]:
    """Yield what lies under one cell of nodes, as turn 0 and a window."""
    defined = both_defined(nodes)
    rows, cols = bounds_of(defined.grid_rows), bounds_of(defined.grid_cols)
    if rows is not None and cols is not None:
        yield 0, _window(rows, cols, (pad, pad))


type _Pads = Callable[[Nodes], tuple[int, int]]
"""Says how many more rows and columns a cell needs on each side."""


def _pads(turn: float, kernel: int, widened: tuple[float, float], nodes: Nodes) -> tuple[int, int]:
    """Return the pads of one cell, each axis for itself: around a pole they have nothing in common."""
    rows = max(1.0, widened[0], span_of(nodes, nodes.grid_rows, None))
    cols = max(1.0, widened[1], span_of(nodes, nodes.grid_cols, turn))
    return math.ceil(kernel * rows) + 2, math.ceil(kernel * cols) + 2


def _cell_around(width: int, turn: float, pads: _Pads, nodes: Nodes) -> Iterator[tuple[int, Window]]:
    """Yield what lies under one cell of nodes on a grid in lon/lat, by turn.

    Args:
        width: of the grid, in columns.
        turn: columns around the earth.
        pads: how many more rows and columns it needs on each side.
        nodes: of the cell.
    """
    defined = both_defined(nodes)
    rows = bounds_of(defined.grid_rows)
    if rows is None:
        return
    smooth = unwrapped(defined, turn)
    cols = bounds_of(defined.grid_cols if smooth is None else smooth)
    if cols is None:
        return
    # The ends of a grid that goes all around belong to what lies beyond them: no kernel reaches across.
    pad = pads(defined)
    whole = width >= turn - 1
    reach = 0 if whole else pad[1]
    if smooth is None:  # anywhere around, so the whole width
        first, last = np.nanmin(defined.grid_cols), np.nanmax(defined.grid_cols)
        turns = _turns(float(first), float(last), width, turn)
        yield from ((number, _window(rows, (0.0, float(width)), pad)) for number in turns)
        if whole and turns:  # a pixel on 180 itself is the first of the next turn
            yield turns.stop, _window(rows, (0.0, 1.0), pad)
        return
    for number in _turns(cols[0] - reach, cols[1] + reach, width, turn):
        yield number, _window(rows, (cols[0] - number * turn, cols[1] - number * turn), pad)
