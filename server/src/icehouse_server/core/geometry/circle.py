"""Shapes on a map that goes around the earth: in x, what lies a turn away is the same place."""

import math
from functools import lru_cache

import numpy as np
import shapely
import shapely.affinity
from odc.geo.crs import CRS
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from icehouse_server.core.geometry.transformers import transformer

_LONLAT = CRS("EPSG:4326")
_MERIDIANS = frozenset(
    {
        "Longitude of natural origin",
        "Longitude of false origin",
        "Longitude of origin",
        "Longitude of projection centre",
    }
)
_BESIDE = 1e-6
"""Degrees from the edge of a map at which its two sides are compared."""

_FAR = 1000.0
"""In units of the CRS. On the ground the two sides are a decimetre apart."""

_LATITUDES = (20.0, 50.0)
"""Where they are compared. In a cylindrical CRS they lie as far apart at each."""

_MOST_TURNS = 4
"""How many times a shape is repeated around the earth, each way: as far as grids are (``footprint``)."""


def central_meridian(crs: CRS) -> float | None:
    """Return the longitude that a projected CRS is made around, where its map ends half a turn from there.

    None where it goes on there, as around a pole, or where nothing is known.
    """
    edges = _edges(str(crs))
    return None if edges is None else edges[0]


def turn_of(crs: CRS) -> float | None:
    """Return how far along x the same place comes again: 360 degrees, or the width of a cylindrical map.

    None where it does not.
    """
    if crs.geographic:
        return 360.0
    edges = _edges(str(crs))
    if edges is None:
        return None
    (dx, dy), (dx2, dy2) = edges[1]
    same = math.isclose(dx, dx2, rel_tol=1e-9) and max(abs(dy), abs(dy2)) < _BESIDE * dx
    return dx * 180.0 / (180.0 - _BESIDE) if same else None


@lru_cache(maxsize=64)
def _edges(code: str) -> tuple[float, list[tuple[float, float]]] | None:
    """Return the central meridian of a CRS, and how far the edges of its map lie apart at two latitudes."""
    crs = CRS(code)  # by its name, for the hash of a CRS is that of its WKT, made anew each time
    operation = crs.proj.coordinate_operation
    named = {parameter.name: parameter for parameter in (() if operation is None else operation.params)}
    known = [parameter for name, parameter in named.items() if name in _MERIDIANS]
    if len(known) != 1:
        return None
    centre = math.degrees(float(known[0].value) * known[0].unit_conversion_factor)
    move = transformer(_LONLAT, crs).transform
    half = 180.0 - _BESIDE
    apart = []
    for latitude in _LATITUDES:
        x, y = move(np.array([centre + half, centre - half]), np.array([latitude, latitude]))
        apart.append((float(x[0] - x[1]), float(y[0] - y[1])))
    ends = all(_FAR < math.hypot(*step) < math.inf for step in apart)
    return (centre, apart) if ends else None


def around(shape: BaseGeometry, centre: float, turn: float) -> BaseGeometry:
    """Return a shape between half a turn west and half a turn east of a place; cut there where it must be.

    Args:
        shape: polygon or multipolygon.
        centre: x of the place.
        turn: how far along x the same place comes again.
    """
    west, east = centre - turn / 2, centre + turn / 2
    parts: list[Polygon] = []
    for part in shapely.get_parts(shape):
        first, _, last, _ = part.bounds
        for number in range(math.floor((west - last) / turn), math.ceil((east - first) / turn) + 1):
            parts += _between(part, number * turn, west, east)
    return _joined(parts)


def gathered(shape: BaseGeometry, turn: float) -> BaseGeometry:
    """Return a shape with its parts moved by whole turns so that they lie as close together as they can.

    One that was cut half a turn from zero is in one piece again. One that goes all around stays as it is.
    """
    spans = sorted((part.bounds[0], part.bounds[2]) for part in shapely.get_parts(shape))
    gaps, reach = [], spans[0][1]
    for first, last in spans[1:]:
        if first > reach:
            gaps.append((first - reach, reach, first))
        reach = max(reach, last)
    outer = spans[0][0] + turn - reach
    if not gaps or max(gaps)[0] <= outer:
        return shape
    _, _, first = max(gaps)
    moved = [part if part.bounds[0] >= first else _moved(part, turn) for part in shapely.get_parts(shape)]
    return _joined(moved)


def repeated(shape: BaseGeometry, box: tuple[float, float, float, float], turn: float) -> BaseGeometry:
    """Return the parts of a shape as often as they show in a box: moved by whole turns."""
    west, _, east, _ = box
    parts: list[Polygon] = []
    for part in shapely.get_parts(shape):
        first, _, last, _ = part.bounds
        lowest, highest = math.ceil((west - last) / turn), math.floor((east - first) / turn)
        numbers = range(max(lowest, -_MOST_TURNS), min(highest, _MOST_TURNS) + 1)
        parts += [_moved(part, number * turn) for number in numbers]
    return shapely.MultiPolygon(parts)


def _between(part: Polygon, moved: float, west: float, east: float) -> list[Polygon]:
    """Return what of a polygon, moved along x, lies between two x."""
    there = _moved(part, moved)
    first, south, last, north = there.bounds
    if last <= west or first >= east:
        return []
    if west <= first and last <= east:
        return [there]
    cut = there.intersection(shapely.box(west, south, east, north))
    return [piece for piece in shapely.get_parts(cut) if piece.geom_type == "Polygon"]


def _moved(part: Polygon, distance: float) -> Polygon:
    """Return a shape moved along x; the same one where that is nothing."""
    return shapely.affinity.translate(part, distance) if distance else part


def _joined(parts: list[Polygon]) -> BaseGeometry:
    """Return polygons as one shape; those with an edge in common become one polygon."""
    return shapely.union_all(parts) if len(parts) > 1 else shapely.MultiPolygon(parts)
