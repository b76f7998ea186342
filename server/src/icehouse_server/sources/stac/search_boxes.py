"""A window of a grid as boxes of longitude and latitude, for APIs that search by nothing else."""

from odc.geo.geobox import GeoBox

from icehouse_server.core.geometry.lonlat_bounds import lonlat_bounds

type Box = tuple[float, float, float, float]
"""West, south, east, north in degrees (CRS84); west is never above east."""

_ANTIMERIDIAN = 180.0

_NEARLY_ALL = 315.0
"""Degrees: an area that is wider is searched along all longitudes."""

_MARGIN = 0.02
"""Of the box's size, on each side: an item's own box in degrees may be rounded. Items found for nothing are
dropped by their extents in the grid's own CRS."""


def search_boxes(geobox: GeoBox) -> tuple[Box, ...]:
    """Return one box, or two where the area crosses the antimeridian, that hold all of a geobox.

    Two, because pgstac takes a box with west > east for the rest of the globe (stac-fastapi-pgstac #323).
    """
    bounds = lonlat_bounds(geobox)
    margin = max((bounds.north - bounds.south) * _MARGIN, 1e-6)
    south, north = max(-90.0, bounds.south - margin), min(90.0, bounds.north + margin)
    margin = max(bounds.width * _MARGIN, 1e-6)
    west, width = bounds.west - margin, bounds.width + 2 * margin
    if width >= _NEARLY_ALL:
        return ((-180.0, south, 180.0, north),)
    west = (west + _ANTIMERIDIAN) % 360 - _ANTIMERIDIAN
    if west + width <= _ANTIMERIDIAN:
        return ((west, south, west + width, north),)
    return (west, south, _ANTIMERIDIAN, north), (-_ANTIMERIDIAN, south, west + width - 360, north)
