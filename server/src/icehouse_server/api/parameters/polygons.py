"""GeoJSON polygons of a request's body."""

import math
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from icehouse_server.api.openapi.schemas import Schema
from icehouse_server.api.parameters.bbox import Bounds
from icehouse_server.core.errors import BadBodyError, TooLargeError
from icehouse_server.core.geometry.circle import around, central_meridian, gathered, repeated, turn_of
from icehouse_server.core.geometry.transformers import transformer

_LONLAT = CRS("EPSG:4326")
_POSITION: Schema = {
    "type": "array",
    "prefixItems": [
        {"type": "number", "minimum": -180, "maximum": 180},
        {"type": "number", "minimum": -90, "maximum": 90},
    ],
    "items": {"type": "number"},
    "minItems": 2,
}
_RING: Schema = {"type": "array", "items": _POSITION, "minItems": 4}
_RINGS: Schema = {"type": "array", "items": _RING, "minItems": 1}
_POLYGON: Schema = {
    "type": "object",
    "required": ["type", "coordinates"],
    "properties": {"type": {"const": "Polygon"}, "coordinates": _RINGS},
}
_POLYGONS: Schema = {
    "type": "object",
    "required": ["type", "coordinates"],
    "properties": {
        "type": {"const": "MultiPolygon"},
        "coordinates": {"type": "array", "items": _RINGS, "minItems": 1},
    },
}
_FEATURE: Schema = {
    "type": "object",
    "required": ["type", "geometry"],
    "properties": {"type": {"const": "Feature"}, "geometry": {"oneOf": [_POLYGON, _POLYGONS]}},
}
SCHEMA: Schema = {
    "oneOf": [_POLYGON, _POLYGONS, _FEATURE],
    "description": "GeoJSON Polygon or MultiPolygon, lon/lat (RFC 7946); a Feature is opened.",
    "examples": [
        {
            "type": "Polygon",
            "coordinates": [[[150.0, 65.0], [150.06, 65.005], [150.03, 65.03], [150.0, 65.0]]],
        }
    ],
}

_OUTLINE_STEPS = 128
"""Pieces that a polygon's extent is cut into before it is projected, so that its edges bend as they must."""

_MAX_POINTS = 50_000
"""Points that cutting adds at most: a comb of long teeth is cut more coarsely."""

MAX_VERTICES = 20_000
"""Vertices of a polygon: whether edges cross takes their square at worst, 4 s for 20,000 (measured)."""


def parse(geojson: dict[str, Any]) -> BaseGeometry:
    """Read a GeoJSON Polygon or MultiPolygon in lon/lat (a Feature is opened).

    Raises:
        BadBodyError: it is something else, or broken.
        TooLargeError: it has too many vertices.
    """
    inner = geojson.get("geometry") if geojson.get("type") == "Feature" else geojson
    right = "a GeoJSON Polygon or MultiPolygon with lon, lat coordinates (RFC 7946)"
    if not isinstance(inner, dict) or inner.get("type") not in ("Polygon", "MultiPolygon"):
        raise BadBodyError("geometry", "geometry: must be a polygon", hint=right)
    try:
        polygon = shapely.force_2d(shapely.geometry.shape(inner))
    except Exception:  # noqa: BLE001 - shapely raises whatever the wrong nesting leads to
        raise BadBodyError("geometry", "geometry: coordinates can't be read", hint=right) from None
    vertices = int(shapely.get_num_coordinates(polygon))
    if vertices > MAX_VERTICES:
        raise TooLargeError(
            f"geometry: has {vertices} vertices; the limit is {MAX_VERTICES}",
            limit=MAX_VERTICES,
            asked=vertices,
            hint="simplify it; details below a pixel change nothing",
        )
    if polygon.is_empty:
        raise BadBodyError("geometry", "geometry: must not be empty", hint=right)
    if not polygon.is_valid:
        raise BadBodyError("geometry", f"geometry: {shapely.is_valid_reason(polygon)}"[:200], hint=right)
    west, south, east, north = polygon.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):  # noqa: PLR2004
        raise BadBodyError("geometry", "geometry: longitudes go from -180 to 180, latitudes from -90 to 90")
    return polygon


def project(polygon: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Bring a lon/lat polygon into a CRS; long edges are cut first, so that they bend as they must.

    One that was cut at 180 degrees is in one piece again, in lon/lat beyond 180. Where the map of a CRS ends,
    it is cut.
    """
    centre = None if crs.geographic else central_meridian(crs)
    together = gathered(polygon, 360.0) if centre is None else around(polygon, centre, 360.0)
    return together if crs == _LONLAT else _moved(together, crs)


def extent(polygon: BaseGeometry, crs: CRS, grid_crs: CRS) -> Bounds:
    """Return the rectangle around a polygon of ``project``.

    Across the edge of a cylindrical map it goes on beyond it, unless the grid ends there, too.
    """
    turn = None if crs == grid_crs and not crs.geographic else turn_of(crs)
    west, south, east, north = (polygon if turn is None else gathered(polygon, turn)).bounds
    return Bounds(west=west, south=south, east=east, north=north)


def placed(polygon: BaseGeometry, target: GeoBox) -> BaseGeometry:
    """Return a polygon of ``project`` where a target sees it: moved by whole turns, as often as it shows."""
    turn = None if target.crs is None else turn_of(target.crs)
    return polygon if turn is None else repeated(polygon, target.boundingbox.bbox, turn)


def _moved(polygon: BaseGeometry, crs: CRS) -> BaseGeometry:
    west, south, east, north = polygon.bounds
    step = max(east - west, north - south) / _OUTLINE_STEPS
    dense = _cut(polygon, max(step, polygon.length / _MAX_POINTS))
    move = transformer(_LONLAT, crs)

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = move.transform(xy[:, 0], xy[:, 1])
        # Longitudes stay on the turn on which they are.
        return np.column_stack((x + 360.0 * np.round((xy[:, 0] - x) / 360.0) if crs.geographic else x, y))

    moved = shapely.transform(dense, place)
    if not all(math.isfinite(bound) for bound in moved.bounds):
        raise BadBodyError("geometry", f"geometry: cannot be projected to {crs}")
    return moved


def _cut(polygon: BaseGeometry, step: float) -> BaseGeometry:
    """Cut edges into pieces. Ring by ring: of a whole polygon GEOS would check again whether edges cross."""
    return shapely.multipolygons(
        [
            shapely.Polygon(
                shapely.segmentize(part.exterior, step),
                [shapely.segmentize(hole, step) for hole in part.interiors],
            )
            for part in shapely.get_parts(polygon)
        ]
    )
