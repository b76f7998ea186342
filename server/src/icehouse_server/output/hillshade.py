"""Shaded relief."""

import math

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.geometry.ground_resolution import Spacing
from icehouse_server.core.ports import Mask, Pixels

type Shades = NDArray[np.uint8]

AZIMUTH, ALTITUDE = 315.0, 45.0
"""Degrees: where the light comes from, clockwise from the top of the map, and how high it stands."""

FLAT = round(1 + 254 * math.sin(math.radians(ALTITUDE)))
"""The shade of a plain."""

_EXAGGERATED_FROM = 30.0
"""Metres between pixels up to which heights are as they are."""
_EXAGGERATION = 0.4
"""Power of the spacing beyond: from afar slopes are averaged away, and a map would be all grey."""


def exaggeration(spacing: Spacing) -> Spacing:
    """Return how much steeper relief is drawn than it is, by the metres between pixels."""
    steeper: Spacing = np.maximum(spacing / _EXAGGERATED_FROM, 1) ** np.float32(_EXAGGERATION)
    return steeper


def hillshade(heights: Pixels, valid: Mask, across: Spacing, down: Spacing, steeper: Spacing) -> Shades:
    """Return shaded relief by Horn's formula, with gdaldem's scaling (apps/gdaldem_lib.cpp): 1 to 255.

    Horn, B. K. P. (1981), "Hill Shading and the Reflectance Map", Proceedings of the IEEE 69, 14-47.

    Args:
        heights: (rows + 2, columns + 2): with a pixel more on each side.
        valid: the same, True = valid. A neighbour that is not counts as high as the pixel itself, so that
            nothing casts a shadow at the edge of what is known.
        across: (rows, columns) metres to the next column.
        down: (rows, columns) metres to the next row.
        steeper: (rows, columns) what heights are multiplied with.

    Returns:
        (rows, columns); of pixels that are not valid it says nothing.
    """
    known = heights.astype(np.float32)
    whole = bool(valid.all())
    if not whole:
        known = np.where(valid, known, np.float32(0))
    centre = known[1:-1, 1:-1]

    def at(row: int, col: int) -> NDArray[np.float32]:
        place = slice(row, row + centre.shape[0]), slice(col, col + centre.shape[1])
        return known[place] if whole else np.where(valid[place], known[place], centre)

    north_west, north, north_east = at(0, 0), at(0, 1), at(0, 2)
    west, east = at(1, 0), at(1, 2)
    south_west, south, south_east = at(2, 0), at(2, 1), at(2, 2)
    eighth = steeper / 8
    diagonal, other = north_east - south_west, south_east - north_west
    to_east = (2 * (east - west) + diagonal + other) * (eighth / across)
    to_north = (2 * (north - south) + diagonal - other) * (eighth / down)
    azimuth, altitude = math.radians(AZIMUTH), math.radians(ALTITUDE)
    light_east, light_north = math.sin(azimuth) * math.cos(altitude), math.cos(azimuth) * math.cos(altitude)
    light = np.float32(math.sin(altitude)) - np.float32(light_east) * to_east
    light -= np.float32(light_north) * to_north
    light /= np.sqrt(1 + to_east * to_east + to_north * to_north)
    shades: Shades = (np.maximum(light, 0) * 254 + np.float32(1.5)).astype(np.uint8)
    return shades
