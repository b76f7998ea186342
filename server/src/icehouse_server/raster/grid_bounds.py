"""Bounds of a grid: the least ones on a lattice that hold a box of any CRS."""

import math
from typing import NamedTuple

import rasterio.crs
from odc.geo.crs import CRS
from rasterio.warp import transform_bounds

from icehouse_server.core.errors import BadParameterError

_EDGE_POINTS = 21
"""Points along each edge of a bbox by which its bounds in another CRS are found."""

_LARGEST = 2**31
"""Pixels each way at most."""

_NEARLY = 1e-6
"""Share of a pixel by which an edge may lie off the lattice without another pixel being added."""


class GridBounds(NamedTuple):
    """A rectangle in some CRS."""

    minx: float
    miny: float
    maxx: float
    maxy: float


def snapped(
    bbox: GridBounds,
    bbox_crs: CRS,
    crs: CRS,
    resolution: float,
    corner: tuple[float, float] = (0.0, 0.0),
) -> GridBounds:
    """Return the least bounds in a CRS, of whole pixels, that hold a box.

    Bounds of one CRS, resolution and corner share a lattice, wherever they lie.

    Args:
        bbox: the box.
        bbox_crs: its CRS.
        crs: of the grid.
        resolution: pixel size in units of that.
        corner: of any pixel, from which pixels are counted.

    Raises:
        BadParameterError: the box has no place in the CRS.
    """
    west = bbox.minx
    east = bbox.maxx + 360 if bbox_crs.geographic and bbox.maxx <= west else bbox.maxx
    found = (west, bbox.miny, east, bbox.maxy)
    if bbox_crs != crs:
        source, target = (rasterio.crs.CRS.from_wkt(each.to_wkt()) for each in (bbox_crs, crs))
        found = transform_bounds(source, target, *found, densify_pts=_EDGE_POINTS)
    places = [(edge - corner[side % 2]) / resolution for side, edge in enumerate(found)]
    steps = [
        *(math.floor(low + _NEARLY) if math.isfinite(low) else math.nan for low in places[:2]),
        *(math.ceil(high - _NEARLY) if math.isfinite(high) else math.nan for high in places[2:]),
    ]
    sizes = (steps[2] - steps[0], steps[3] - steps[1])
    if not all(1 <= size <= _LARGEST for size in sizes):
        raise BadParameterError(
            "--bbox",
            f"--bbox: {', '.join(map(str, bbox))} is outside {crs}, or not on pixels of {resolution}",
            hint="--bbox is in degrees of longitude and latitude unless --bbox-crs says otherwise",
        )
    return GridBounds(*(round(corner[side % 2] + step * resolution, 10) for side, step in enumerate(steps)))
