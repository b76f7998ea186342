"""Does a raster lie where the collection says? CRS equality and the place on the lattice."""

import functools

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from icehouse_server.core.grid import Window, lattice_offset

_CONFIDENCE = 70
"""Percent of likeness at which pyproj's database may name an EPSG code; pyproj's own default."""


@functools.lru_cache(maxsize=256)
def same_crs(first: str, second: str) -> bool:
    """Return whether two CRS (WKT or authority code) place coordinates alike.

    GeoTIFF keys and WKT 1 carry neither the axis order nor the names of the authority's definition, so
    equality of text or of every member would refuse files that are right.
    """
    one, other = CRS.from_user_input(first), CRS.from_user_input(second)
    if one.equals(other, ignore_axis_order=True):
        return True
    code = other.to_epsg(min_confidence=_CONFIDENCE)
    return code is not None and one.to_epsg(min_confidence=_CONFIDENCE) == code


def lattice_window(grid: GeoBox, transform: Affine, shape: tuple[int, int]) -> Window | None:
    """Return where a raster (rows, columns) lies on the grid's lattice, or None where it does not."""
    try:
        return lattice_offset(grid.affine, transform, shape)
    except (OverflowError, ValueError):  # infinite, NaN, or no pixel at all
        return None
