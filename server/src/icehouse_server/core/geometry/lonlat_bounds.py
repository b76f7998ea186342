"""The longitudes and latitudes that a raster covers in any CRS, also at the poles and the antimeridian."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError

from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.hints import shortened

type _Numbers = NDArray[np.float64]

_LONLAT = CRS("EPSG:4326")

_SIDE = 513
"""Points along each side: between two of them an edge bends by a millionth of what it bends in all."""

_INSIDE = 17
"""Points each way in the interior: they count where parts of the boundary lie outside the CRS."""

_WHOLE_CIRCLE = 5.0
"""Degrees: where the largest gap between the longitudes of points is smaller, all longitudes are covered."""

_EDGE = 1e-6
"""Pixels by which a pole may lie off an edge and still be on it."""

_AT_POLE = 1e-9
"""Degrees from a pole within which a longitude says nothing."""

_DIGITS = 6
"""Of degrees: a tenth of a metre. Bounds are rounded outwards."""

_PARTS = 1e6
"""Parts of a degree that these digits count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LonLatBounds:
    """A range of longitudes and latitudes, in degrees."""

    west: float
    """From -180 to below 180."""
    width: float
    """Degrees eastwards, at most 360."""
    south: float
    north: float

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """West, south, east, north, rounded outwards; west is above east across the antimeridian."""
        south, north = _down(self.south), _up(self.north)
        west, width = _down(self.west), _up(self.width)
        if width >= 360:  # noqa: PLR2004 - degrees
            return -180.0, max(south, -90.0), 180.0, min(north, 90.0)
        east = _up(self.west + self.width)
        if east > 180:  # noqa: PLR2004
            east = round(east - 360, _DIGITS)
        return west, max(south, -90.0), east, min(north, 90.0)


def lonlat_bounds(geobox: GeoBox) -> LonLatBounds:
    """Return the least longitudes and latitudes that hold all of a geobox.

    Args:
        geobox: north up, with a CRS; parts of it may lie where the CRS has no place on the earth.

    Raises:
        ValueError: the CRS is not one of the earth.
    """
    crs = geobox.crs or _LONLAT
    try:
        transformer(crs, _LONLAT)
    except ProjError:
        raise ValueError(f"{shortened(str(crs))} has no longitudes and latitudes of the earth") from None
    if _in_degrees(crs):
        return _of_degrees(geobox)
    longitudes, latitudes = _samples(geobox, crs)
    if not longitudes.size:
        return LonLatBounds(west=-180.0, width=360.0, south=-90.0, north=90.0)
    south, north = float(latitudes.min()), float(latitudes.max())
    poles = {latitude: _depth(geobox, crs, latitude) for latitude in (-90.0, 90.0)}
    south = -90.0 if poles[-90.0] >= -_EDGE else south
    north = 90.0 if poles[90.0] >= -_EDGE else north
    away = longitudes[np.abs(latitudes) < 90 - _AT_POLE]
    if max(poles.values()) > _EDGE or not away.size:
        return LonLatBounds(west=-180.0, width=360.0, south=south, north=north)
    west, width = _arc(away)
    return LonLatBounds(west=west, width=width, south=south, north=north)


def _in_degrees(crs: CRS) -> bool:
    """Return whether coordinates are longitudes and latitudes as they are, of whatever datum."""
    meridian, axes = crs.proj.prime_meridian, crs.proj.axis_info
    return (
        crs.geographic
        and (meridian is None or meridian.longitude == 0)
        and all(axis.unit_name == "degree" for axis in axes)
    )


def _of_degrees(geobox: GeoBox) -> LonLatBounds:
    """Return the bounds of a geobox in degrees, wherever its longitudes are counted from."""
    west, south, east, north = geobox.boundingbox.bbox
    width = min(360.0, east - west)
    return LonLatBounds(
        west=-180.0 if width == 360 else (west + 180) % 360 - 180,  # noqa: PLR2004
        width=width,
        south=max(-90.0, south),
        north=min(90.0, north),
    )


def _samples(geobox: GeoBox, crs: CRS) -> tuple[_Numbers, _Numbers]:
    """Return longitudes and latitudes of points on the boundary and inside, those that exist."""
    side, zeros, ones = np.linspace(0, 1, _SIDE), np.zeros(_SIDE), np.ones(_SIDE)
    inside = np.linspace(0, 1, _INSIDE)
    across, down = (axis.ravel() for axis in np.meshgrid(inside, inside))
    rows, cols = geobox.shape
    col = np.concatenate([side, side, zeros, ones, across]) * int(cols)
    row = np.concatenate([zeros, ones, side, side, down]) * int(rows)
    longitudes, latitudes = transformer(crs, _LONLAT).transform(*apply_affine(geobox.affine, col, row))
    known = np.isfinite(longitudes) & np.isfinite(latitudes)
    return longitudes[known], latitudes[known]


def _depth(geobox: GeoBox, crs: CRS, latitude: float) -> float:
    """Return how many pixels a pole lies inside a geobox; negative outside, and where it has no place."""
    x, y = transformer(_LONLAT, crs).transform(0.0, latitude)
    if not (math.isfinite(x) and math.isfinite(y)):
        return -math.inf
    col, row = ~geobox.affine @ (x, y)
    rows, cols = geobox.shape
    return float(min(row, rows - row, col, cols - col))


def _arc(longitudes: _Numbers) -> tuple[float, float]:
    """Return (west, width in degrees) of the smallest arc that holds all longitudes."""
    around = np.unique(longitudes % 360)
    gaps = np.diff(around, append=around[0] + 360)
    widest = int(gaps.argmax())
    if around.size > 1 and gaps[widest] < _WHOLE_CIRCLE:
        return -180.0, 360.0
    west = float(around[(widest + 1) % around.size])
    return (west + 180) % 360 - 180, 360 - float(gaps[widest])


def _down(number: float) -> float:
    return math.floor(round(number * _PARTS, 3)) / _PARTS


def _up(number: float) -> float:
    return math.ceil(round(number * _PARTS, 3)) / _PARTS
