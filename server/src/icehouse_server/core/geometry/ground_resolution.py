"""How far apart the pixels of a geobox lie on the ground."""

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Geod

from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.transformers import project_points

type Spacing = NDArray[np.float32]
"""(rows, columns) of a geobox, in metres."""

_NODES = 9
"""Places along each axis where the distance is measured; between them it is interpolated."""

_LONLAT = CRS("EPSG:4326")
_WGS84 = Geod(ellps="WGS84")


def ground_resolution(geobox: GeoBox) -> tuple[Spacing, Spacing]:
    """Return the distance to the next column, and to the next row, of each pixel of a geobox.

    Neighbouring geoboxes agree at the edge that they share. Where a place is not on the earth, a distance of
    1 m is given.
    """
    rows, cols = (int(size) for size in geobox.shape)
    at_rows, at_cols = np.linspace(0, rows, _NODES), np.linspace(0, cols, _NODES)
    col, row = np.meshgrid(at_cols, at_rows)
    ends = [_lonlat(geobox, col + dx, row + dy) for dx, dy in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]

    def between(first: NDArray[np.float64], second: NDArray[np.float64]) -> Spacing:
        distance = np.asarray(_WGS84.inv(*first, *second)[2]).reshape(_NODES, _NODES)
        known = np.where(np.isfinite(distance) & (distance > 0), distance, 1.0).astype(np.float32)
        return _along_rows(_along_rows(known, rows).T, cols).T

    return between(ends[0], ends[1]), between(ends[2], ends[3])


def _lonlat(geobox: GeoBox, col: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (2, places): longitudes and latitudes."""
    x, y = project_points(*apply_affine(geobox.affine, col.ravel(), row.ravel()), geobox.crs, _LONLAT)
    return np.stack([x, np.clip(y, -90.0, 90.0)])


def _along_rows(known: Spacing, size: int) -> Spacing:
    """Return (size, columns): what lies between nodes at the rows' edges, at the centres of N pixels.

    Not as a product of matrices: BLAS would share so small a one among threads, and they wait for each other.
    """
    places = (np.arange(size) + 0.5) * ((_NODES - 1) / size)
    first = np.minimum(places.astype(np.intp), _NODES - 2)
    part = (places - first).astype(np.float32)[:, None]
    found: Spacing = known[first] * (1 - part) + known[first + 1] * part
    return found
