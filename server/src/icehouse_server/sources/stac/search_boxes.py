"""A window of a grid as boxes of longitude and latitude, for APIs that search by nothing else."""

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from icehouse_server.core.geometry.affine import apply_affine

type Box = tuple[float, float, float, float]
"""West, south, east, north in degrees (CRS84); west is never above east."""

_ANTIMERIDIAN = 180.0

_SAMPLES = 33
"""Points along each side: edges that are straight in the grid bend in degrees."""

_WHOLE_CIRCLE = 45.0
"""Degrees: where the largest gap between sampled longitudes is smaller, all longitudes are searched."""

_MARGIN = 0.02
"""Of the box's size, on each side: an edge bends a little between two samples. Items found for nothing are
dropped by their extents in the grid's own CRS."""


def search_boxes(geobox: GeoBox) -> tuple[Box, ...]:
    """Return one box, or two where the area crosses the antimeridian, that hold all of a geobox.

    Two, because pgstac takes a box with west > east for the rest of the globe (stac-fastapi-pgstac #323).
    """
    crs = CRS.from_user_input(str(geobox.crs))
    longitudes, latitudes = _boundary(geobox, crs)
    south, north = float(latitudes.min()), float(latitudes.max())
    north_pole, south_pole = _holds(geobox, crs, 90.0), _holds(geobox, crs, -90.0)
    if north_pole or south_pole:
        return ((-180.0, -90.0 if south_pole else south, 180.0, 90.0 if north_pole else north),)
    margin = max((north - south) * _MARGIN, 1e-6)
    south, north = max(-90.0, south - margin), min(90.0, north + margin)
    west, width = _arc(longitudes)
    margin = max(width * _MARGIN, 1e-6)
    west, width = west - margin, width + 2 * margin
    if width >= 360 - _WHOLE_CIRCLE:
        return ((-180.0, south, 180.0, north),)
    west = (west + _ANTIMERIDIAN) % 360 - _ANTIMERIDIAN
    if west + width <= _ANTIMERIDIAN:
        return ((west, south, west + width, north),)
    return (west, south, _ANTIMERIDIAN, north), (-_ANTIMERIDIAN, south, west + width - 360, north)


def _boundary(
    geobox: GeoBox, crs: CRS
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return longitudes and latitudes (degrees) of points along the four sides."""
    rows, cols = geobox.shape
    along, zeros, ones = np.linspace(0, 1, _SAMPLES), np.zeros(_SAMPLES), np.ones(_SAMPLES)
    col = np.concatenate([along, along, zeros, ones]) * int(cols)
    row = np.concatenate([zeros, ones, along, along]) * int(rows)
    x, y = apply_affine(geobox.affine, col, row)
    longitudes, latitudes = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
    known = np.isfinite(longitudes) & np.isfinite(latitudes)
    if not known.any():
        return np.array([-180.0, 0.0, 180.0]), np.array([-90.0, 90.0])
    return longitudes[known], latitudes[known]


def _holds(geobox: GeoBox, crs: CRS, latitude: float) -> bool:
    """Return whether a pole lies inside a geobox of a projected CRS."""
    if crs.is_geographic:
        return False  # there the pole is an edge, and the latitudes of the boundary reach it
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(0.0, latitude)
    if not (np.isfinite(x) and np.isfinite(y)):
        return False
    col, row = ~geobox.affine @ (x, y)
    return bool(0 <= row <= geobox.shape[0] and 0 <= col <= geobox.shape[1])


def _arc(longitudes: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return (west, width in degrees) of the smallest arc that holds all longitudes."""
    around = np.unique(longitudes % 360)
    gaps = np.diff(around, append=around[0] + 360)
    widest = int(gaps.argmax())
    west = float(around[(widest + 1) % around.size])
    return west, 360 - float(gaps[widest])
