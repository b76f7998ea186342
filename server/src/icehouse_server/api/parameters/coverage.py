"""The query parameters and the body of ``/coverage`` and ``/plan``."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from affine import Affine
from fastapi import Query
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from shapely.geometry.base import BaseGeometry
from starlette.concurrency import run_in_threadpool

from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import nullable
from icehouse_server.api.parameters import parsers, polygons, queries, regions
from icehouse_server.api.parameters.unknown_parameters import Body
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadBodyError, BadParameterError
from icehouse_server.service import CoverageRequest

_WKT_STARTS = ("PROJCRS[", "GEOGCRS[", "BOUNDCRS[", "PROJCS[", "GEOGCS[")
_WKT_REFUSED = re.compile(r"EXTENSION|FILE|GRIDS|PROJ-BASED|PIPELINE|\+(PROJ|INIT|STEP)", re.IGNORECASE)
"""By these a WKT names a file, which PROJ opens wherever it lies, and waits for where it is a pipe."""


def _whole(value: object) -> object:
    """Read 8.0 as 8: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number of a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageQuery:
    """Query parameters, as text: they are read by ``regions``, so that every refusal names the parameter."""

    bbox: queries.Bbox = None
    bbox_crs: queries.BboxCrs = None
    crs: Annotated[
        str | None,
        Query(description="CRS of the output; the collection's by default."),
        WithJsonSchema(schemas.CRS),
    ] = None
    width: Annotated[str | None, Query(description="Output columns."), WithJsonSchema(schemas.CELLS)] = None
    height: Annotated[str | None, Query(description="Output rows."), WithJsonSchema(schemas.CELLS)] = None
    resolution: Annotated[
        str | None,
        Query(description="Cell size in units of crs: one number, or x,y. Not with width and height."),
        WithJsonSchema(schemas.RESOLUTION),
    ] = None
    properties: queries.Properties = None
    bands: queries.Bands = None
    datetime: queries.Datetime = None
    level: Annotated[
        str | None,
        Query(
            description="Level to read from; the best for the output when left out. 0 is the full resolution."
        ),
        WithJsonSchema(schemas.LEVEL),
    ] = None
    resampling: Annotated[
        str | None,
        Query(description="GDAL resampling for all bands; each band's own by default."),
        WithJsonSchema(schemas.RESAMPLING),
    ] = None
    fail_on_error: Annotated[
        Literal["true", "false"],
        Query(description="false: give what there is, the failed area as nodata, and say so in headers."),
    ] = "true"
    snapshot: Annotated[
        str | None,
        Query(description="Snapshot id or tag: read the past, fetch nothing."),
        WithJsonSchema(schemas.SNAPSHOT),
    ] = None

    def ask(self, spec: CollectionSpec) -> CoverageRequest:
        """Return what is asked for.

        Raises:
            BadParameterError: a parameter can't be used.
            OutsideError: the region does not touch the collection.
        """
        times = parsers.parse_datetime(self.datetime, spec)
        level = parsers.parse_level(self.level, spec)
        if self.bbox is None and self.bbox_crs is not None:
            raise BadParameterError("bbox-crs", "bbox-crs: it is given, but no bbox")
        bbox_crs = parsers.parse_crs("CRS84" if self.bbox_crs is None else self.bbox_crs, "bbox-crs")
        target = spec.grid.crs if self.crs is None else parsers.parse_crs(self.crs, "crs")
        size = parsers.Size(
            width=parsers.parse_cells(self.width, "width"),
            height=parsers.parse_cells(self.height, "height"),
            resolution=parsers.parse_resolution(self.resolution),
        )
        bounds = None if self.bbox is None else parsers.parse_bbox(self.bbox, bbox_crs)
        resampling = parsers.parse_resampling(self.resampling, spec)
        snapshot = parsers.parse_snapshot(self.snapshot)
        bands = self._bands()
        spec.select(bands)
        geobox = regions.geobox_for(spec, bounds, bbox_crs, target, size)
        return CoverageRequest(
            region=regions.region(spec, geobox, bands, times, resampling, level),
            snapshot=snapshot,
            fail_on_error=self.fail_on_error == "true",
        )

    def _bands(self) -> list[str] | None:
        if self.properties is None:
            return parsers.parse_bands(self.bands, "bands")
        if self.bands is not None:
            raise BadParameterError("bands", "bands: it means the same as properties; give one of them")
        return parsers.parse_bands(self.properties, "properties")


@contextmanager
def in_body() -> Iterator[None]:
    """Let what is wrong with a parameter be wrong with a member of the body."""
    try:
        yield
    except BadBodyError:
        raise
    except BadParameterError as error:
        raise BadBodyError(error.parameter, error.detail, hint=error.hint) from None


class RegionBody(Body):
    """What every body that names a region may hold: an exact geobox, a GeoJSON polygon, bands, times."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: Annotated[str | None, Field(alias="proj:code"), nullable(schemas.CRS)] = None
    wkt2: Annotated[
        str | None, Field(alias="proj:wkt2", max_length=schemas.MAX_WKT), nullable(schemas.WKT)
    ] = None
    transform: Annotated[list[float] | None, Field(alias="proj:transform"), nullable(schemas.TRANSFORM)] = (
        None
    )
    shape: Annotated[list[Whole] | None, Field(alias="proj:shape"), nullable(schemas.SHAPE)] = None
    geometry: Annotated[dict[str, Any] | None, nullable(schemas.GEOMETRY)] = None
    bands: Annotated[list[str] | None, nullable(schemas.BAND_LIST)] = None
    datetime: Annotated[str | list[str] | None, nullable(schemas.DATETIMES)] = None


class CoverageBody(RegionBody):
    """The body of POST: an exact geobox, a GeoJSON polygon to clip to, or both."""

    crs: Annotated[str | None, nullable(schemas.OUTPUT_CRS)] = None
    resolution: Annotated[float | None, Field(gt=0, allow_inf_nan=False), nullable(schemas.CELL_SIZE)] = None
    level: Annotated[Whole | None, nullable(schemas.LEVEL)] = None
    resampling: Annotated[str | dict[str, str] | None, nullable(schemas.RESAMPLING_OF_BANDS)] = None
    fail_on_error: bool = True
    snapshot: Annotated[str | None, nullable(schemas.SNAPSHOT)] = None

    async def ask(self, spec: CollectionSpec) -> CoverageRequest:
        """Return what is asked for; a polygon may be large and is worked on in a thread.

        Raises:
            BadBodyError: a member can't be used.
            OutsideError: the region does not touch the collection.
        """
        return self._ask(spec) if self.geometry is None else await run_in_threadpool(self._ask, spec)

    def _ask(self, spec: CollectionSpec) -> CoverageRequest:
        with in_body():
            times = parsers.parse_datetime(self.datetime, spec)
            level = parsers.parse_level(self.level, spec)
            resampling = parsers.parse_resampling(self.resampling, spec)
            snapshot = parsers.parse_snapshot(self.snapshot)
            bands = None if self.bands is None else parsers.check_bands(self.bands)
            spec.select(bands)
            shape = None if self.geometry is None else polygons.parse(self.geometry)
            geobox = self._geobox() or self._geobox_around(spec, shape)
            crs = geobox.crs or spec.grid.crs
            return CoverageRequest(
                region=regions.region(spec, geobox, bands, times, resampling, level),
                geometry=None if shape is None else polygons.project(shape, crs),
                snapshot=snapshot,
                fail_on_error=self.fail_on_error,
            )

    def _geobox(self) -> GeoBox | None:
        """Return the exact geobox, or None where none is given."""
        if self.code is not None and self.wkt2 is not None:
            raise BadBodyError("proj:wkt2", "proj:wkt2: give it or proj:code, not both")
        given = {
            "proj:code": self.wkt2 if self.code is None else self.code,
            "proj:transform": self.transform,
            "proj:shape": self.shape,
        }
        if not any(value is not None for value in given.values()):
            return None
        for name, value in given.items():
            if value is None:
                raise BadBodyError(name, f"{name}: it is missing; a geobox is CRS, transform and shape")
        if self.crs is not None or self.resolution is not None:
            name = "resolution" if self.crs is None else "crs"
            raise BadBodyError(name, f"{name}: an exact geobox has its own; leave it out")
        return GeoBox(_shape(self.shape or []), _affine(self.transform or []), self._crs())

    def _crs(self) -> CRS:
        if self.code is not None:
            return parsers.parse_crs(self.code, "proj:code")
        text = (self.wkt2 or "").strip()
        if not text.upper().startswith(_WKT_STARTS):
            raise BadBodyError("proj:wkt2", "proj:wkt2: it is no WKT of a projected or geographic CRS")
        if _WKT_REFUSED.search(text):
            raise BadBodyError(
                "proj:wkt2",
                "proj:wkt2: it names a file, or an operation of PROJ",
                hint="give a WKT2 without grids, or a code in proj:code",
            )
        try:
            crs = CRS(text)
        except Exception:  # noqa: BLE001 - whatever PROJ and odc-geo make of a broken WKT
            raise BadBodyError("proj:wkt2", "proj:wkt2: PROJ can't read it") from None
        if not parsers.is_map(crs):
            raise BadBodyError("proj:wkt2", "proj:wkt2: it is no map of the earth in two axes")
        return crs

    def _geobox_around(self, spec: CollectionSpec, polygon: BaseGeometry | None) -> GeoBox:
        if polygon is None:
            raise BadBodyError(
                "proj:transform",
                "proj:transform: it is missing, and so is geometry: the body names no region",
                hint="give proj:code, proj:transform and proj:shape, or a GeoJSON geometry",
            )
        target = spec.grid.crs if self.crs is None else parsers.parse_crs(self.crs, "crs")
        size = parsers.Size(
            resolution=None if self.resolution is None else (self.resolution, self.resolution)
        )
        west, south, east, north = polygons.project(polygon, target).bounds
        bounds = parsers.Bounds(west=west, south=south, east=east, north=north)
        return regions.geobox_for(spec, bounds, target, target, size)


def _affine(numbers: list[float]) -> Affine:
    right = "a, b, c, d, e, f, where x = a col + b row + c and y = d col + e row + f"
    if len(numbers) not in {6, 9} or not all(math.isfinite(number) for number in numbers):
        raise BadBodyError("proj:transform", "proj:transform: it is six finite numbers", hint=right)
    if numbers[6:] not in ([], [0, 0, 1]):
        raise BadBodyError("proj:transform", "proj:transform: numbers 7 to 9 are 0, 0, 1", hint=right)
    affine = Affine(*numbers[:6])
    regions.check_affine(affine, "proj:transform")
    return affine


def _shape(numbers: list[int]) -> tuple[int, int]:
    if len(numbers) != 2 or not all(1 <= number <= 1_000_000 for number in numbers):  # noqa: PLR2004
        raise BadBodyError("proj:shape", "proj:shape: it is rows and columns, each from 1 to 1000000")
    return numbers[0], numbers[1]
