"""Where: the parameters ``bbox``, ``bbox-crs``, ``lon``, ``lat``, ``x`` and ``y``."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from odc.geo.crs import CRS
from pydantic import Field, WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.api.parameters import crs as crs_codes
from icehouse_server.api.parameters.numbers import parse_numbers
from icehouse_server.api.parameters.patterns import SPACED_NUMBER
from icehouse_server.core.errors import BadParameterError

_SAID = (
    "lon/lat by default; the first x above the second crosses 180. Six numbers have heights, the third and "
    "the sixth, which select nothing."
)

_CRS84H = re.compile(
    r"(OGC:|\[OGC:)?CRS84h\]?|https?://www[.]opengis[.]net/def/crs/OGC/[0-9.]{1,4}/CRS84h", re.IGNORECASE
)
"""The CRS of a bbox with heights."""

SCHEMA: Schema = {
    "type": "string",
    "format": "bbox",
    "pattern": f"^{SPACED_NUMBER}((,{SPACED_NUMBER}){{3}}|(,{SPACED_NUMBER}){{5}})$",
    "examples": ["150,65,151,65.5"],
}

Bbox = Annotated[
    str | None,
    Query(description=f"minx,miny,maxx,maxy; {_SAID} The whole collection when left out."),
    WithJsonSchema(SCHEMA),
]
JobBbox = Annotated[str | None, Query(description=f"minx,miny,maxx,maxy; {_SAID}"), WithJsonSchema(SCHEMA)]
"""Where the whole collection must be asked for in words."""

BboxList = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]] | None,
    Field(min_length=4, max_length=6),
    nullable(
        {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 4,
            "maxItems": 6,
            "description": f"minx, miny, maxx, maxy; {_SAID}",
            "examples": [[150, 65, 151, 65.5]],
        }
    ),
]
"""``bbox`` in a body."""

BboxCrs = Annotated[crs_codes.CrsText, Query(alias="bbox-crs", description="CRS of bbox. x,y axis order.")]


Longitude = Annotated[
    str | None,
    Query(description="Longitude in degrees."),
    WithJsonSchema({"type": "number", "minimum": -180, "maximum": 180, "examples": [150.1]}),
]
Latitude = Annotated[
    str | None,
    Query(description="Latitude in degrees."),
    WithJsonSchema({"type": "number", "minimum": -90, "maximum": 90, "examples": [64.9]}),
]
Coordinate = Annotated[str | None, WithJsonSchema({"type": "number"})]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A rectangle in some CRS: x grows to the east, ``east`` may exceed 180 where 180 is crossed."""

    west: float
    south: float
    east: float
    north: float


def read_bbox(bbox: str | None, bbox_crs: str | None) -> tuple[Bounds | None, CRS]:
    """Read ``bbox`` and ``bbox-crs``; no bounds where no bbox is given.

    Raises:
        BadParameterError: one of them can't be used, or bbox-crs is given alone.
    """
    if bbox is None and bbox_crs is not None:
        raise BadParameterError("bbox-crs", "bbox-crs requires bbox")
    flat = bbox_crs is None or (bbox is not None and bbox.count(",") == 5 and _CRS84H.fullmatch(bbox_crs))  # noqa: PLR2004 - six numbers
    crs = crs_codes.parse_crs("CRS84" if flat or bbox_crs is None else bbox_crs, "bbox-crs")
    return None if bbox is None else parse_bbox(bbox, crs), crs


def parse_bbox(text: str, crs: CRS) -> Bounds:
    """Read ``minx,miny,maxx,maxy``; in a geographic CRS minx > maxx crosses the antimeridian."""
    numbers = parse_numbers(text, "bbox", (4, 6))
    half = len(numbers) // 2
    (west, south, *low), (east, north, *high) = numbers[:half], numbers[half:]
    if low > high:
        raise BadParameterError("bbox", f"bbox: minz {low[0]} is above maxz {high[0]}")
    right = "it is minx,miny,maxx,maxy (lon, lat for geographic CRSs)"
    if crs.geographic:
        for corner in ((west, south), (east, north)):
            parse_lonlat(*corner, ("bbox", "bbox"))
        if west > east:
            east += 360
    if south >= north:
        raise BadParameterError("bbox", f"bbox: miny {south} is not below maxy {north}", hint=right)
    if west >= east:
        raise BadParameterError("bbox", f"bbox: minx {west} is not below maxx {east}", hint=right)
    return Bounds(west=west, south=south, east=east, north=north)


def parse_lonlat(lon: float, lat: float, parameters: tuple[str, str] = ("lon", "lat")) -> tuple[float, float]:
    """Check a longitude and a latitude.

    Raises:
        BadParameterError: out of range.
    """
    for parameter, value, limit in zip(parameters, (lon, lat), (180.0, 90.0), strict=True):
        if not -limit <= value <= limit:
            raise BadParameterError(
                parameter, f"{parameter}: {value:g} is out of range, which is {-limit:g} to {limit:g} degrees"
            )
    return lon, lat
