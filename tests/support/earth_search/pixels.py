"""What every pixel of the Earth Search stand-in's scenes holds.

Pixels are a function of the zone, the place in metres of that zone, the band and the day. Only floor,
multiplication and addition are used, so that they come out the same whatever the shape of an array.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from support.earth_search.world import BANDS, CELL_M, STACK_TILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from support.earth_search.world import Scene, Tile

type Pixels = NDArray[Any]
"""uint16, or uint8 for scl."""
type Axis = NDArray[np.floating[Any]]

_HILL_M: Final = 600
"""Side of the squares that are never clear, which lie `_HILL_EVERY_M` apart."""
_HILL_EVERY_M: Final = 4_000
_WET, _BARE = 1.7, 1.2


def render(
    scene: Scene, asset: str, row: int = 0, column: int = 0, shape: tuple[int, int] | None = None
) -> Pixels:
    """A window of one raster of an item; all of it by default.

    Args:
        scene: The item.
        asset: Key of the asset.
        row: First row of the window; `column` likewise.
        column: First column.
        shape: Rows and columns of the window.

    Returns:
        uint16 with 0 where there is no data, or uint8 classes for scl; (rows, columns), north first.
    """
    rows, columns = shape or scene.shape(asset)
    affine = scene.affine(asset)
    x = affine.c + (column + np.arange(columns) + 0.5) * affine.a
    y = affine.f + (row + np.arange(rows) + 0.5) * affine.e
    return classes(scene, x, y) if asset == "scl" else values(scene, asset, x, y)


def values(scene: Scene, asset: str, x: Axis, y: Axis) -> NDArray[np.uint16]:
    """What a band holds at places of the scene's zone.

    Args:
        scene: The item.
        asset: Key of a band, not "scl".
        x: Easting of pixel centres, metres; shape (nx,).
        y: Northing of pixel centres, metres; shape (ny,).

    Returns:
        uint16 of shape (ny, nx): 1 to 12000, and 0 where there is no data.
    """
    band, day, zone = BANDS[asset], scene.day.toordinal(), scene.tile.zone
    across = 900 * wave(x / 1_700 + zone / 7) + grain(x // band.pixel, band.level + zone)
    down = 700 * wave(y / 2_300) + grain(y // band.pixel, band.level + day)
    season = band.level + (day * 37 + scene.sequence * 11) % 211
    ground = season + np.floor(across)[None, :] + np.floor(down)[:, None]
    seen = classes(scene, x, y)
    hidden = np.array([0, 0, 0, 0, 0, 0, 0, 0, 2500, 6000, 900, 0], dtype=np.float64)[seen]
    lit = np.where(seen == 3, np.floor(ground / 2), ground + hidden)
    return np.where(seen == 0, 0, lit).astype(np.uint16)


def classes(scene: Scene, x: Axis, y: Axis) -> NDArray[np.uint8]:
    """Scene classification at places of the scene's zone; arguments as of `values`.

    Returns:
        uint8 of shape (ny, nx): 0 no data, 3 cloud shadow, 4 vegetation, 5 bare, 6 water, 8 and 9 cloud,
        10 thin cirrus.
    """
    x, y = (np.floor(axis / CELL_M) * CELL_M + CELL_M / 2 for axis in (x, y))
    found = _surface(x, y)
    thick = _veil(scene, x, y)
    limit = _limit(scene.cloudiness)
    found = np.where(_veil(scene, x - 300, y - 200) > limit, 3, found)
    found = np.where(thick > limit, 10, found)
    found = np.where(thick > limit + 0.06, 8, found)
    found = np.where(thick > limit + 0.16, 9, found)
    found = np.where(never_clear(scene.tile, x, y), 9, found)
    if scene.edge is not None:
        beyond = (x - scene.tile.left)[None, :] + (scene.tile.top - y)[:, None] / 4 > scene.edge
        found = np.where(beyond, 0, found)
    return found.astype(np.uint8)


def never_clear(tile: Tile, x: Axis, y: Axis) -> NDArray[np.bool_]:
    """Where clouds hide the ground on every day, but not in the stack; arguments as of `values`."""
    across, down = (axis - np.floor(axis / _HILL_EVERY_M) * _HILL_EVERY_M < _HILL_M for axis in (x, y))
    return np.asarray(across[None, :] & down[:, None] & (tile != STACK_TILE))


def _surface(x: Axis, y: Axis) -> NDArray[np.int64]:
    """Water, bare ground or vegetation."""
    wet = wave(x / 5_300)[None, :] + wave(y / 4_100)[:, None]
    bare = wave(x / 900)[None, :] + wave(y / 1_100)[:, None]
    return np.where(wet > _WET, 6, np.where(bare > _BARE, 5, 4))


def _veil(scene: Scene, x: Axis, y: Axis) -> NDArray[np.float64]:
    """How much cloud there is, 0 to 2: two waves that lie across each other and move with the day."""
    day = scene.day.toordinal() + 7 * scene.sequence
    first = wave((x * 0.8)[None, :] / 2_900 + (y * 0.3)[:, None] / 2_900 + day * 13 % 29 / 29)
    second = wave((y * 0.9)[:, None] / 2_300 - (x * 0.2)[None, :] / 2_300 + day * 17 % 31 / 31)
    return first + second


def _limit(part: float) -> float:
    """What the sum of two even numbers between 0 and 1 exceeds in this part of all cases."""
    return 2 - math.sqrt(2 * part) if part <= 0.5 else math.sqrt(2 * (1 - part))


def wave(t: Axis) -> Axis:
    """A triangular wave of period 1, between 0 and 1."""
    return np.abs(t - np.floor(t) - 0.5) * 2


def grain(number: Axis, seed: int) -> Axis:
    """Texture by whole numbers, 0 to 63: what shows a raster that lies one pixel off."""
    mixed = (number.astype(np.int64) * 2_654_435_761 + seed * 40_503) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 15)) * 2_246_822_519 >> 13 & 63).astype(np.float64)
