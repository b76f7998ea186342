"""``/collections/{id}/point``: band values at points (titiler's ``/point``, OGC EDR's position)."""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.api.middleware.tokens import reads_only
from icehouse_server.api.openapi import schemas
from icehouse_server.api.parameters import crs as crs_codes
from icehouse_server.api.parameters import regions
from icehouse_server.api.parameters.bands import BandList, SomeBands, check_bands, parse_bands
from icehouse_server.api.parameters.bbox import Coordinate, Latitude, Longitude, parse_lonlat
from icehouse_server.api.parameters.coverage import in_body
from icehouse_server.api.parameters.documents import TAKES_JSON
from icehouse_server.api.parameters.numbers import parse_number
from icehouse_server.api.parameters.time_steps import Datetime, DatetimeList, parse_datetime
from icehouse_server.api.parameters.unknown_parameters import Body
from icehouse_server.api.responses.disconnect import while_connected
from icehouse_server.api.state import ApiState, Spec, State
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError, OutsideError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Window
from icehouse_server.service import CoverageRequest

router = APIRouter(tags=["points"], dependencies=[TAKES_JSON])

MAX_POINTS = 256
"""Points of one request: they may lie far apart, and each may need a chunk of its own."""


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number of JSON: text that spells one is none."""


class PointDocument(BaseModel):
    """Values at a point; null where the band is invalid."""

    coordinates: Annotated[tuple[float, float], WithJsonSchema(schemas.POINT)]
    crs: str
    values: dict[str, float | int | list[float | int | None] | None] | None
    """None: the point lies outside the collection. A list along ``datetime`` where there is a time axis."""
    datetime: list[str] | None = None
    """The time steps, as intervals; None where the collection has no time axis."""


class PointsBody(Body):
    """Many points."""

    model_config = ConfigDict(extra="forbid")

    points: Annotated[
        list[Annotated[tuple[_Number, _Number], WithJsonSchema(schemas.POINT)]],
        Field(min_length=1, max_length=MAX_POINTS),
    ]
    crs: Annotated[str, WithJsonSchema(crs_codes.SCHEMA)] = "CRS84"
    bands: BandList = None
    datetime: DatetimeList = None


class PointsDocument(BaseModel):
    """Values at many points, in the order asked for."""

    points: list[PointDocument]


_STATUSES: dict[int | str, dict[str, object]] = {status: {} for status in schemas.FILLING}


@router.get(
    "/collections/{collection}/point",
    responses={204: {"description": "The point lies outside the collection."}, **_STATUSES},
)
async def get_point(
    request: Request,
    state: State,
    spec: Spec,
    lon: Longitude = None,
    lat: Latitude = None,
    x: Annotated[Coordinate, Query(description="x in crs, instead of lon.")] = None,
    y: Annotated[Coordinate, Query(description="y in crs, instead of lat.")] = None,
    crs: Annotated[
        crs_codes.CrsText, Query(description="CRS of x and y; the collection's by default.")
    ] = None,
    bands: SomeBands = None,
    datetime: Datetime = None,
) -> PointDocument:
    """Values of the pixel that holds a point."""
    place, place_crs = _place(spec, (lon, lat), (x, y), crs)
    layers = parse_bands(bands), parse_datetime(datetime, spec)
    work = _value(state, spec, place, place_crs, *layers)
    found = await while_connected(request, work)
    if found.values is None:
        raise OutsideError("the point lies outside the collection")
    return found


@router.post("/collections/{collection}/point", responses=_STATUSES)
@reads_only
async def post_points(request: Request, state: State, spec: Spec, body: PointsBody) -> PointsDocument:
    """Values at many points."""
    with in_body():
        crs = crs_codes.parse_crs(body.crs, "crs")
        bands = None if body.bands is None else check_bands(body.bands)
        times = parse_datetime(body.datetime, spec)
        for point in body.points if crs.geographic else ():
            parse_lonlat(*point, ("points", "points"))
    values = (_value(state, spec, point, crs, bands, times) for point in body.points)
    return PointsDocument(points=await while_connected(request, gather_or_cancel(values)))


def _place(
    spec: CollectionSpec,
    lonlat: tuple[str | None, str | None],
    xy: tuple[str | None, str | None],
    crs: str | None,
) -> tuple[tuple[float, float], CRS]:
    """Return a point's coordinates and their CRS."""
    given = {"lon": lonlat[0], "lat": lonlat[1], "x": xy[0], "y": xy[1], "crs": crs}
    names = ("x", "y") if any(given[name] is not None for name in ("x", "y", "crs")) else ("lon", "lat")
    for name in ("lon", "lat") if names == ("x", "y") else ():
        if given[name] is not None:
            raise BadParameterError(name, f"{name}: give lon and lat, or x and y (with crs), not both")
    for name in names:
        if given[name] is None:
            raise BadParameterError(name, f"{name}: missing; give lon and lat, or x and y (with crs)")
    first, second = (parse_number(given[name] or "", name) for name in names)
    if names == ("lon", "lat"):
        return parse_lonlat(first, second), crs_codes.parse_crs("CRS84", "crs")
    return (first, second), spec.grid.crs if crs is None else crs_codes.parse_crs(crs, "crs")


async def _value(
    state: ApiState,
    spec: CollectionSpec,
    place: tuple[float, float],
    crs: CRS,
    bands: list[str] | None,
    times: tuple[int, ...] | None,
) -> PointDocument:
    geobox = _pixel(spec, place, crs)
    if geobox is None:
        return PointDocument(coordinates=place, crs=str(crs), values=None)
    region = regions.region(spec, geobox, bands, times, {}, 0)
    answer = await state.coverages.coverage(CoverageRequest(region=region))
    try:
        arrays = answer.coverage.bands
        values = {band.name: _values(arrays[band.name][..., 0, 0], band.nodata) for band in region.bands}
    finally:
        answer.close()
    steps = None if times is None else [str(step) for step in region.steps]
    return PointDocument(coordinates=place, crs=str(crs), values=values, datetime=steps)


def _pixel(spec: CollectionSpec, place: tuple[float, float], crs: CRS) -> GeoBox | None:
    """Return the pixel of the grid that holds a point, as a geobox of one cell."""
    x, y = place if crs == spec.grid.crs else transformer(crs, spec.grid.crs).transform(*place)
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    col, row = ~spec.grid.geobox.affine @ (x, y)
    cell = Window(row=math.floor(row), col=math.floor(col), height=1, width=1)
    return None if cell.intersection(spec.grid.window) is None else spec.grid.geobox_of(cell)


def _values(pixels: NDArray[Any], nodata: float | None) -> float | int | list[float | int | None] | None:
    """Return the value of a pixel, or its values along time."""
    if pixels.ndim:
        return [_plain(number, nodata) for number in pixels.tolist()]
    return _plain(pixels.item(), nodata)


def _plain(number: float, nodata: float | None) -> float | int | None:
    """Return a number as JSON has it; None where it is invalid."""
    if number != number or (nodata is not None and number == nodata):  # noqa: PLR0124
        return None
    return number
