"""Which tiles of a tile matrix set lie over a collection's grid."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from odc.geo.crs import CRS

from icehouse_server.api.parameters.bbox import Bounds
from icehouse_server.api.parameters.regions import project
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.tile_matrix_sets import (
    AROUND,
    CRS_OF,
    TILE,
    corner_of,
    matrices_of,
    native_tms,
    zooms_of,
)

_LONLAT = CRS("EPSG:4326")

_SLACK = 1e-6
"""Part of the extent by which the outline of a grid in another CRS may be found too small."""

_SEAM = 1e-9
"""Degrees beyond 180 that are rounding."""

_MERCATOR = 86.0
"""Latitude beyond the square of the web's map, whose CRS knows no pole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRange:
    """Tiles of one zoom; the last ones belong to it."""

    first_row: int
    last_row: int
    first_col: int
    last_col: int


def offered(spec: CollectionSpec) -> tuple[str, ...]:
    """Return the tile matrix sets that a collection's grid lies in, its own first. Blocking: 20 ms."""
    names = sorted(CRS_OF, key=lambda name: name != native_tms(spec))
    return tuple(name for name in names if zooms_of(spec, name, 1) and tile_ranges(spec, name))


def tile_ranges(spec: CollectionSpec, tms: str) -> Mapping[int, TileRange]:
    """Return the tiles that lie over the rectangle around a collection's grid, by zoom; empty where none."""
    try:
        there = _extent(spec, tms)
    except BadParameterError:  # no place in this CRS
        return {}
    found = {}
    for zoom, (rows, cols) in matrices_of(tms).items():
        left, top, cell = corner_of(tms, zoom)
        across = _span((there.west - left) / (TILE * cell), (there.east - left) / (TILE * cell), cols)
        down = _span((top - there.north) / (TILE * cell), (top - there.south) / (TILE * cell), rows)
        if across is None or down is None:
            return {}
        found[zoom] = TileRange(first_row=down[0], last_row=down[1], first_col=across[0], last_col=across[1])
    return found


def _extent(spec: CollectionSpec, tms: str) -> Bounds:
    """Return the rectangle around a collection's grid in the CRS of a tile matrix set.

    Where tiles go around the earth it is found in lon/lat, which knows poles and 180 degrees: points of a
    polar grid come near to both, and reach neither.

    Raises:
        BadParameterError: no point of it has a place there.
    """
    box = spec.grid.geobox.boundingbox
    bounds = Bounds(west=box.left, south=box.bottom, east=box.right, north=box.top)
    if tms not in AROUND:
        return project(bounds, spec.grid.crs, CRS_OF[tms])
    there = project(bounds, spec.grid.crs, _LONLAT)
    west, east = _within(there.west, there.east)
    if CRS_OF[tms].geographic:
        return replace(there, west=west, east=east)
    south, north = max(there.south, -_MERCATOR), min(there.north, _MERCATOR)
    x, y = transformer(_LONLAT, CRS_OF[tms]).transform([west, east], [south, north])
    return Bounds(west=x[0], south=y[0], east=x[1], north=y[1])


def _within(west: float, east: float) -> tuple[float, float]:
    """Return longitudes from -180 to 180: all of them where 180 lies between west and east."""
    turn = 360.0 * math.floor((west + 180.0 + _SEAM) / 360.0)
    west, east = west - turn, east - turn
    return (-180.0, 180.0) if east > 180.0 + _SEAM else (west, east)


def _span(first: float, stop: float, count: int) -> tuple[int, int] | None:
    """Return the first and the last of ``count`` tiles that places between two of them lie in."""
    slack = _SLACK * (stop - first)
    first, stop = max(first - slack, 0.0), min(stop + slack, float(count))
    return None if first >= stop else (math.floor(first), math.ceil(stop) - 1)
