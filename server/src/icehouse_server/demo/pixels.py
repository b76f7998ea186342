"""The pixels of the stand-in world: of one tile's raster, and the truth that a merge of all tiles gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icehouse_server.demo import terrain, world
from icehouse_server.demo.pgc import ASSETS, Tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from affine import Affine
    from numpy.typing import NDArray

type Pixels = NDArray[Any]
"""Any of the assets' dtypes: float32, uint8 or int16."""


def render(tile: Tile, asset: str, row: int, column: int, shape: tuple[int, int]) -> Pixels:
    """A window of one tile's raster, nodata included.

    Args:
        tile: The tile.
        asset: Key of the asset.
        row: First row of the window; `column` likewise.
        column: First column.
        shape: Rows and columns; the window may reach beyond the raster, where there is nodata.

    Returns:
        (ny, nx) in the asset's dtype.
    """
    pixel, (left, _, _, top) = tile.pixel(asset), tile.bounds
    x = left + (np.arange(column, column + shape[1]) + 0.5) * pixel
    y = top - (np.arange(row, row + shape[0]) + 0.5) * pixel
    valid = _in_tile(tile, x, y)
    nodata = ASSETS[asset].nodata
    if not valid.any():
        return np.full(shape, nodata, dtype=ASSETS[asset].dtype)
    valid &= terrain.dry(x, y, seed=tile.domain.seed)
    values = _values(asset, x, y, pixel, tile.domain.seed)
    return np.where(valid, values, np.asarray(nodata, dtype=values.dtype))


def truth(
    domain: str, resolution: str, asset: str, geobox_affine: Affine, shape: tuple[int, int]
) -> tuple[Pixels, NDArray[np.bool_]]:
    """What a cache must answer for a rectangle of the collection's own pixel lattice.

    Computed from the terrain, without any file: the tiles in order of their item ids, first valid pixel wins.

    Args:
        domain: "arcticdem" or "rema".
        resolution: "2m", "10m" or "32m".
        asset: Key of the asset.
        geobox_affine: North up, with the asset's pixel size, on the tiles' lattice.
        shape: Rows and columns.

    Returns:
        The pixels (ny, nx) with the asset's nodata where there is nothing, and a mask (ny, nx), True = valid.
    """
    left, top, pixel = geobox_affine.c, geobox_affine.f, geobox_affine.a
    box = (left, top - shape[0] * pixel, left + shape[1] * pixel, top)
    nodata = ASSETS[asset].nodata
    merged: Pixels = np.full(shape, nodata, dtype=ASSETS[asset].dtype)
    for tile in world.tiles_in(domain, resolution, box):
        if tile.pixel(asset) != pixel or geobox_affine.e != -pixel:
            raise ValueError(f"{asset} at {resolution} has pixels of {tile.pixel(asset)} m, north up")
        column, row = (left - tile.bounds[0]) / pixel, (tile.bounds[3] - top) / pixel
        if column != int(column) or row != int(row):
            raise ValueError("the geobox does not lie on the tiles' lattice")
        here = render(tile, asset, int(row), int(column), shape)
        merged = np.where(merged == nodata, here, merged)
    return merged, merged != nodata


def _in_tile(tile: Tile, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """True where the tile has content: inside its raster, its content boxes, and outside a bare buffer."""
    left, bottom, right, top = tile.bounds
    side, core = world.bare_side(tile), tile.core
    edges = {
        "W": (core[0], bottom, right, top),
        "S": (left, core[1], right, top),
        "E": (left, bottom, core[2], top),
        "N": (left, bottom, right, core[3]),
    }
    inside = _within(x, y, edges.get(side or "", tile.bounds))
    boxes = world.content_boxes(tile)
    if boxes is None:
        return inside
    content = np.zeros_like(inside)
    for box in boxes:
        content |= _within(x, y, box)
    return inside & content


def _within(x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], box: world.Box) -> NDArray[np.bool_]:
    return ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None, :]


def _values(
    asset: str, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], pixel: float, seed: int
) -> Pixels:
    functions: dict[str, Callable[[], Pixels]] = {
        "dem": lambda: terrain.height(x, y, pixel=pixel, seed=seed),
        "hillshade": lambda: terrain.browse(x, y, pixel=pixel, seed=seed),
        "mad": lambda: terrain.mad(x, y, seed=seed),
        "count": lambda: terrain.count(x, y, seed=seed),
        "mindate": lambda: terrain.mindate(x, y, seed=seed),
        "maxdate": lambda: terrain.maxdate(x, y, seed=seed),
        "datamask": lambda: terrain.datamask(x, y, seed=seed),
    }
    return functions[asset]()
