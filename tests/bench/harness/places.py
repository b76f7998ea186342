"""Places in the stand-in world that the scenarios load, as JSON: CRS, affine, shape.

All of 32 m lie in four tiles that meet at x = -700 km, y = 2600 km; `SMALL` lies in one of them alone, where
smart-geocubes needs one tile, and `LARGE` in all four.
"""

from __future__ import annotations

import random
from typing import Any

type Place = dict[str, Any]

TILES_32M = ("66_33", "66_34", "67_33", "67_34")
_WEST, _SOUTH, _EAST, _NORTH = -800_096, 2_500_000 - 96, -600_000 + 96, 2_700_096
_LEFT, _TOP = -4_000_096, 4_100_096
"""Top left corner of the 32 m grid."""


def native(left: float, top: float, rows: int, columns: int, pixel: float = 32) -> Place:
    return {"crs": "EPSG:3413", "affine": [pixel, 0, left, 0, -pixel, top], "shape": [rows, columns]}


def on_grid(left: float, top: float, size: int) -> Place:
    """A square on the 32 m lattice, its corner snapped to it."""
    column, row = round((left - _LEFT) / 32), round((_TOP - top) / 32)
    return native(_LEFT + 32 * column, _TOP - 32 * row, size, size)


SMALL = on_grid(-770_000, 2_670_000, 1000)
LARGE = on_grid(-700_000 - 1800 * 32, 2_600_000 + 1800 * 32, 3600)
GEOGRAPHIC: Place = {
    "crs": "EPSG:4326",
    "affine": [0.001, 0, 150.0, 0, -0.0005, 65.5],
    "shape": [1000, 1000],
    "resampling": "bilinear",
}
"""(150, 65, 151, 65.5): the quickstart of smart-geocubes."""

_EARTH_ENGINE = {
    "tctrend": (0.00026949458523585647, -180.00001488697754, 90.00014219078139),
    "alphaearth": (8.98315284e-05, -180.00001486302838, 90.0000523472784),
}
"""Dataset to pixel size, left and top of its grid, which is that of smart-geocubes, too."""

TILE_2M = "67_33_1_2"
SMALL_2M = native(-716_000, 2_648_000, 1000, 1000, 2)


def geographic(dataset: str, row: int, column: int, size: int) -> Place:
    """A square of pixels of a dataset of Earth Engine, by its first row and column."""
    pixel, left, top = _EARTH_ENGINE[dataset]
    affine = [pixel, 0, left + pixel * column, 0, -pixel, top - pixel * row]
    return {"crs": "EPSG:4326", "affine": affine, "shape": [size, size]}


def scattered(number: int, size: int, seed: int = 20) -> list[Place]:
    """Squares at random places inside the four tiles."""
    draw = random.Random(seed)
    span = size * 32
    return [
        on_grid(draw.uniform(_WEST, _EAST - span), draw.uniform(_SOUTH + span, _NORTH), size)
        for _ in range(number)
    ]


def bounds(place: Place) -> tuple[float, float, float, float]:
    """Left, bottom, right, top."""
    a, _, left, _, e, top = place["affine"]
    rows, columns = place["shape"]
    return left, top + e * rows, left + a * columns, top
