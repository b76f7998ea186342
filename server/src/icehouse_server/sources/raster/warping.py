"""From a file's own grid to the collection's: which overview, which pixels of it, and GDAL's warp.

What a pixel becomes depends on the file and on the collection's grid, never on how requests are cut: work is
done in tiles that are anchored at the grid's corner, whole tiles are warped and cut afterwards, and overview
and kernel are chosen once for a file, by the scale in its middle. Values are warped in a dtype that has room
for a value which no pixel holds, so validity comes out with them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import rasterio.warp
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.footprint import FootprintPiece, footprint
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.raster.crs import gdal_crs
from icehouse_server.raster.gdal_warp import WARP_MEMORY_MB, WIDENED_KERNELS, scale_options, whole_reduction
from icehouse_server.raster.wide_values import integers, is_wide, narrowed, widened
from icehouse_server.sources.cog.georeference import lattice_window

TILE = 512
"""Pixels of the collection's grid along the side of a tile at most; smaller where chunks are."""

TOLERANCE = 0.001
"""Pixels of the file by which GDAL may be off when it interpolates places along a row of a tile.

Measured on tiles of 512: 22 to 37 ms where 0 takes 100 to 320 ms, and GDAL's default of 0.125 no less."""

_NEARLY = 1.01
"""An overview that is coarser than the grid by less than this is not coarser: sizes are rounded up."""

_MARGIN = 4
"""Pixels around a window of the file that happens to lie on a tile's lattice."""

_NUDGE = 1e-6
"""Pixels of the file by which places are moved down and to the right.

A place exactly on the edge between two pixels, or two files, belongs to the one below or to the right of it.
Without this the noise of floats decides, and a place between two files may belong to neither.
"""

_CIRCLE = 360.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpTile:
    """A tile of the collection's grid, or a piece of one, and the pixels of the file that it is made from."""

    tile: Window
    """Pixels of the grid."""
    piece: FootprintPiece
    """Pixels of the tile, and of the file at its level."""
    shift: float
    """Degrees by which the file's longitudes are moved to meet the grid's."""

    @property
    def target(self) -> Window:
        """The pixels of the grid that it makes."""
        inside, tile = self.piece.target, self.tile
        return Window(
            row=tile.row + inside.row, col=tile.col + inside.col, height=inside.height, width=inside.width
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """A file at the level that suits a grid."""

    level: int
    """0 is full resolution, 1 the first overview."""
    geobox: GeoBox
    """Of that level."""
    reduction: tuple[float, float]
    """Pixels of that level, along its columns and rows, under one pixel of the grid."""
    exact: tuple[tuple[float, Window], ...]
    """Where the file lies exactly on the grid's lattice: (shift, window of the grid). Then it is copied."""


def scaled(shapes: Sequence[tuple[int, int]], geobox: GeoBox, grid: Grid) -> Scaled:
    """Return a file at the coarsest level that is not coarser than the grid (GDAL's rule for overviews).

    Args:
        shapes: (rows, columns) of each level; full resolution first.
        geobox: of the full resolution.
        grid: the collection's.
    """
    shifts = _shifts(geobox, grid)
    rows, cols = (int(side) for side in geobox.shape)
    exact = [
        (shift, window)
        for shift in shifts
        if geobox.crs == grid.crs
        and (window := lattice_window(grid.geobox, _shifted(geobox, shift).affine, (rows, cols))) is not None
    ]
    across, down = _reduction(geobox, grid, shifts)
    fit = 0
    for number, (level_rows, level_cols) in enumerate(shapes):
        factors = cols / level_cols, rows / level_rows
        if factors[0] <= across * _NEARLY and factors[1] <= down * _NEARLY and not exact:
            fit = number
    fit_rows, fit_cols = shapes[fit]
    factor_x, factor_y = cols / fit_cols, rows / fit_rows
    return Scaled(
        level=fit,
        geobox=GeoBox((fit_rows, fit_cols), geobox.affine @ Affine.scale(factor_x, factor_y), geobox.crs),
        reduction=(across / factor_x, down / factor_y),
        exact=tuple(exact),
    )


def _reduction(geobox: GeoBox, grid: Grid, shifts: Sequence[float]) -> tuple[float, float]:
    """Return how many pixels of a file, along its columns and rows, lie under a pixel of the grid.

    By the grid's pixel in the middle of the file; 1 where that has no place on the grid.
    """
    rows, cols = (int(side) for side in geobox.shape)
    for shift in shifts:
        moved = _shifted(geobox, shift)
        x, y = moved.affine @ (cols / 2, rows / 2)
        if moved.crs is not None and moved.crs != grid.crs:
            x, y = transformer(moved.crs, grid.crs).transform(x, y)
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        col, row = ~grid.geobox.affine @ (x, y)
        ends = [grid.geobox.affine @ (col + dx, row + dy) for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        xs, ys = np.array(ends).T
        if moved.crs is not None and moved.crs != grid.crs:
            xs, ys = transformer(grid.crs, moved.crs).transform(xs, ys)
        if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
            continue
        cols_at, rows_at = apply_affine(~moved.affine, xs, ys)
        across = math.hypot(cols_at[1] - cols_at[0], cols_at[3] - cols_at[2]) / 2
        down = math.hypot(rows_at[1] - rows_at[0], rows_at[3] - rows_at[2]) / 2
        return across, down
    return 1.0, 1.0


def _shifts(geobox: GeoBox, grid: Grid) -> tuple[float, ...]:
    """Return by how many degrees a file may be shifted against the longitudes that the grid asks for.

    PROJ answers with longitudes from -180 to 180; a grid of degrees has its own.
    """
    if geobox.crs is None or not geobox.crs.geographic:
        return (0.0,)
    asked_west, asked_east = -_CIRCLE / 2, _CIRCLE / 2
    if geobox.crs == grid.crs:
        asked_west, _, asked_east, _ = grid.geobox.boundingbox.bbox
    west, _, east, _ = geobox.boundingbox.bbox
    return tuple(
        shift for shift in (0.0, -_CIRCLE, _CIRCLE) if west + shift < asked_east and east + shift > asked_west
    )


def _shifted(geobox: GeoBox, shift: float) -> GeoBox:
    return GeoBox(geobox.shape, Affine.translation(shift, 0) @ geobox.affine, geobox.crs) if shift else geobox


def tiles_under(grid: Grid, window: Window) -> Iterator[Window]:
    """Yield the tiles under a window of the grid, whole but cut at the grid's edge, row by row."""
    side = tile_side(grid)
    for row in range(window.row // side, -(-window.stop_row // side)):
        for col in range(window.col // side, -(-window.stop_col // side)):
            tile = Window(row=row * side, col=col * side, height=side, width=side)
            inside = tile.intersection(grid.window)
            if inside is not None:
                yield inside


def tile_side(grid: Grid) -> int:
    """Return the side of a tile in pixels."""
    return min(grid.chunk, TILE)


def warp_tiles_of(file: Scaled, grid: Grid, tiles: Sequence[Window], method: str) -> list[WarpTile]:
    """Return what of a file some tiles need; nothing where it does not touch them.

    Args:
        file: the file at its level.
        grid: the collection's.
        tiles: of ``tiles_under``.
        method: resampling by GDAL's name; its kernel counts.
    """
    if file.exact:
        return [warp_tile for tile in tiles for warp_tile in _copies(file, tile)]
    shifts = _shifts(file.geobox, grid)
    return [
        warp_tile
        for tile in tiles
        for shift in shifts
        for warp_tile in _warps(file, grid, tile, shift, method)
    ]


def _copies(file: Scaled, tile: Window) -> Iterator[WarpTile]:
    for shift, extent in file.exact:
        inside = extent.intersection(tile)
        if inside is not None:
            target, source = _local(inside, tile), _local(inside, extent)
            yield WarpTile(tile=tile, piece=FootprintPiece(target=target, source=source), shift=shift)


def _local(window: Window, origin: Window) -> Window:
    rows, cols = window.slices(origin)
    return Window.from_bounds(rows.start, cols.start, rows.stop, cols.stop)


def _warps(file: Scaled, grid: Grid, tile: Window, shift: float, method: str) -> Iterator[WarpTile]:
    geobox = _shifted(file.geobox, shift)
    rows, cols = (int(side) for side in geobox.shape)
    source = Grid(geobox=geobox, chunk=max(rows, cols))
    under = footprint(source, grid.geobox_of(tile), (method,), max_chunks=1, around=False)
    for found in under.pieces:
        piece = found
        if under.aligned:  # a tile may lie on the lattice of a file that as a whole does not
            wide = Window.from_bounds(
                max(0, piece.source.row - _MARGIN),
                max(0, piece.source.col - _MARGIN),
                min(rows, piece.source.stop_row + _MARGIN),
                min(cols, piece.source.stop_col + _MARGIN),
            )
            piece = replace(piece, source=wide)
        yield WarpTile(tile=tile, piece=piece, shift=shift)


def warped(
    values: Pixels, valid: Mask, warp_tile: WarpTile, *, file: Scaled, grid: Grid, method: str
) -> tuple[Pixels, Mask]:
    """Return a piece of a tile, as GDAL warps it: values of the same dtype, and True = valid.

    Args:
        values: (rows, columns) of ``warp_tile.piece.source``.
        valid: the same; invalid pixels are not interpolated.
        warp_tile: what to make of what.
        file: the file at the level that ``values`` are of.
        grid: the collection's.
        method: resampling by GDAL's name.
    """
    shape = (warp_tile.piece.target.height, warp_tile.piece.target.width)
    if file.exact:
        return values, valid
    if not valid.any():
        return np.zeros(shape, dtype=values.dtype), np.zeros(shape, dtype=np.bool_)
    if is_wide(values.dtype):
        parts = [
            _reprojected(part, math.nan, warp_tile, file=file, grid=grid, method=method)
            for part in widened(values, valid, method)
        ]
        return narrowed(parts, values.dtype)
    working, missing = _working(values.dtype)
    filled = np.where(valid, values.astype(working, copy=False), working.type(missing))
    found = _reprojected(filled, missing, warp_tile, file=file, grid=grid, method=method)
    shown: Mask = ~np.isnan(found) if working.kind == "f" else found != missing
    return _narrowed(found, shown, values.dtype), shown


def _reprojected(
    values: Pixels, missing: float, warp_tile: WarpTile, *, file: Scaled, grid: Grid, method: str
) -> Pixels:
    """Return a piece of a tile, of the dtype of the values; ``missing`` where invalid, there and here."""
    target, source = warp_tile.piece.target, warp_tile.piece.source
    found: Pixels = np.empty((target.height, target.width), dtype=values.dtype)
    geobox = grid.geobox_of(warp_tile.tile)
    rasterio.warp.reproject(
        values,
        found,
        src_transform=_shifted(file.geobox, warp_tile.shift).affine
        @ Affine.translation(source.col - _NUDGE, source.row - _NUDGE),
        src_crs=gdal_crs(file.geobox),
        src_nodata=missing,
        dst_transform=geobox.affine @ Affine.translation(target.col, target.row),
        dst_crs=gdal_crs(geobox),
        dst_nodata=missing,
        resampling=Resampling[method],
        init_dest_nodata=True,
        num_threads=1,
        tolerance=TOLERANCE,
        warp_mem_limit=WARP_MEMORY_MB,
        **(scale_options(*map(_rounded, file.reduction)) if method in WIDENED_KERNELS else {}),
    )
    return found


def reached(valid: Mask, warp_tile: WarpTile, *, file: Scaled, grid: Grid, method: str) -> Mask:
    """Return which pixels of a piece of a tile the file reaches, valid or not.

    Args:
        valid: of ``warp_tile.piece.source``.
        warp_tile: what to make of what.
        file: the file at its level.
        grid: the collection's.
        method: resampling by GDAL's name.
    """
    everywhere = np.ones_like(valid)
    pixels = cast("Pixels", everywhere.astype(np.uint8))
    return warped(pixels, everywhere, warp_tile, file=file, grid=grid, method=method)[1]


def _rounded(reduction: float) -> float:
    """Return a reduction as GDAL takes it: whole where it is nearly that; no kernel narrows below 1."""
    whole = whole_reduction(reduction)
    return max(1.0, reduction if whole is None else float(whole))


def _working(dtype: np.dtype[np.generic]) -> tuple[np.dtype[np.generic], float | int]:
    """Return the dtype to warp in, and a value of it that no pixel holds or can become."""
    if dtype.kind == "f":
        return dtype, math.nan
    if dtype.itemsize == 1:
        return np.dtype(np.int16), -(2**15)
    return (np.dtype(np.int32), -(2**31)) if dtype.itemsize == 2 else (np.dtype(np.float64), math.nan)  # noqa: PLR2004


def _narrowed(found: Pixels, shown: Mask, dtype: np.dtype[np.generic]) -> Pixels:
    """Return warped values in the file's dtype; what is beyond its range (cubic kernels) at its ends."""
    if found.dtype == dtype:
        return found
    numbers = np.where(shown, found, 0)
    if numbers.dtype.kind == "f":
        return integers(np.floor(numbers + 0.5), dtype)  # GDAL's rounding
    limits = np.iinfo(dtype.name)
    clipped: Pixels = np.clip(numbers, int(limits.min), int(limits.max)).astype(dtype)
    return clipped
