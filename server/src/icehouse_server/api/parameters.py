"""The query parameters and the body of ``/coverage`` and ``/plan``."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import shapely
from affine import Affine
from fastapi import Query
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field
from shapely.geometry.base import BaseGeometry

from icehouse_server.api import regions
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadBodyError, BadParameterError
from icehouse_server.core.footprint import transformer
from icehouse_server.service import Ask

_MAX_WKT = 20_000
_OUTLINE_STEPS = 128
"""Pieces that a polygon's extent is cut into before it is projected, so that its edges bend as they must."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageQuery:
    """Query parameters, as text: they are read by ``regions``, so that every refusal names the parameter."""

    bbox: Annotated[
        str | None,
        Query(
            description="minx,miny,maxx,maxy; lon/lat by default; the first above the third crosses 180.",
            examples=["150,65,151,65.5"],
        ),
    ] = None
    bbox_crs: Annotated[str | None, Query(alias="bbox-crs", description="CRS of bbox. x,y axis order.")] = (
        None
    )
    crs: Annotated[str | None, Query(description="CRS of the output; the collection's by default.")] = None
    width: Annotated[str | None, Query(description="Output columns.")] = None
    height: Annotated[str | None, Query(description="Output rows.")] = None
    resolution: Annotated[str | None, Query(description="Cell size in units of crs: one number, or x,y.")] = (
        None
    )
    properties: Annotated[str | None, Query(description="Bands, between commas.")] = None
    bands: Annotated[str | None, Query(description="The same as properties.")] = None
    datetime: Annotated[
        str | None, Query(description="Instant or start/end; collections with time only.")
    ] = None
    resampling: Annotated[
        str | None, Query(description="GDAL resampling for all bands; each band's own by default.")
    ] = None
    fail_on_error: Annotated[
        Literal["true", "false"],
        Query(description="false: give what there is, the failed area as nodata, and say so in headers."),
    ] = "true"
    snapshot: Annotated[
        str | None, Query(description="Snapshot id or tag: read the past.", max_length=256)
    ] = None

    def ask(self, spec: CollectionSpec) -> Ask:
        """Return what is asked for.

        Raises:
            BadParameterError: a parameter can't be used.
            OutsideError: the region does not touch the collection.
        """
        if self.properties is not None and self.bands is not None:
            raise BadParameterError("bands", "bands: it means the same as properties; give one of them")
        regions.check_datetime(self.datetime, spec)
        if self.bbox is None and self.bbox_crs is not None:
            raise BadParameterError("bbox-crs", "bbox-crs: it is given, but no bbox")
        bbox_crs = regions.parse_crs(self.bbox_crs or "CRS84", "bbox-crs")
        grid_crs = spec.grid.crs
        target = regions.parse_crs(self.crs, "crs") if self.crs else grid_crs
        size = regions.Size(
            width=regions.parse_size(self.width, "width"),
            height=regions.parse_size(self.height, "height"),
            resolution=regions.parse_resolution(self.resolution),
        )
        resampling = regions.parse_resampling(self.resampling, spec)
        bands = regions.parse_bands(self.properties if self.properties is not None else self.bands)
        spec.select(bands)
        bounds = regions.parse_bbox(self.bbox, bbox_crs) if self.bbox is not None else None
        geobox = regions.geobox_for(spec, bounds, bbox_crs, target, size)
        return Ask(
            region=regions.region(spec, geobox, bands, resampling),
            snapshot=self.snapshot,
            fail_on_error=self.fail_on_error == "true",
        )


class CoverageBody(BaseModel):
    """The body of POST: an exact geobox, a GeoJSON polygon to clip to, or both."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    code: Annotated[str | None, Field(alias="proj:code", examples=["EPSG:3413"])] = None
    wkt2: Annotated[str | None, Field(alias="proj:wkt2", max_length=_MAX_WKT)] = None
    transform: Annotated[
        list[float] | None,
        Field(
            alias="proj:transform", description="a, b, c, d, e, f: x = a col + b row + c; nine numbers also."
        ),
    ] = None
    shape: Annotated[list[int] | None, Field(alias="proj:shape", description="rows, columns")] = None
    geometry: Annotated[
        dict[str, Any] | None, Field(description="GeoJSON Polygon or MultiPolygon, lon/lat (RFC 7946).")
    ] = None
    crs: Annotated[str | None, Field(description="CRS of the output where no exact geobox is given.")] = None
    resolution: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    bands: list[str] | None = None
    datetime: str | None = None
    resampling: str | dict[str, str] | None = None
    fail_on_error: bool = True
    snapshot: Annotated[str | None, Field(max_length=256)] = None

    def ask(self, spec: CollectionSpec) -> Ask:
        """Return what is asked for.

        Raises:
            BadBodyError: a member can't be used.
            OutsideError: the region does not touch the collection.
        """
        try:
            return self._ask(spec)
        except BadBodyError:
            raise
        except BadParameterError as error:
            raise BadBodyError(error.parameter, error.detail, hint=error.hint) from None

    def _ask(self, spec: CollectionSpec) -> Ask:
        regions.check_datetime(self.datetime, spec)
        resampling = regions.parse_resampling(self.resampling, spec)
        shape = parse_polygon(self.geometry) if self.geometry is not None else None
        geobox = self._geobox() or self._geobox_around(spec, shape)
        crs = geobox.crs or spec.grid.crs
        bands = regions.parse_bands(",".join(self.bands)) if self.bands is not None else None
        return Ask(
            region=regions.region(spec, geobox, bands, resampling),
            geometry=None if shape is None else _projected(shape, crs),
            snapshot=self.snapshot,
            fail_on_error=self.fail_on_error,
        )

    def _geobox(self) -> GeoBox | None:
        """Return the exact geobox, or None where none is given."""
        given = {
            "proj:code or proj:wkt2": self.code or self.wkt2,
            "proj:transform": self.transform,
            "proj:shape": self.shape,
        }
        if not any(value is not None for value in given.values()):
            return None
        for name, value in given.items():
            if value is None:
                raise BadBodyError(name, f"{name} is missing; a geobox is CRS, transform and shape")
        if self.crs is not None or self.resolution is not None:
            raise BadBodyError(
                "crs", "crs and resolution make no sense beside an exact geobox; leave them out"
            )
        return GeoBox(_shape(self.shape or []), _affine(self.transform or []), self._crs())

    def _crs(self) -> CRS:
        if self.code is not None:
            return regions.parse_crs(self.code, "proj:code")
        text = (self.wkt2 or "").strip()
        if not text.upper().startswith(
            ("PROJCRS[", "GEOGCRS[", "BOUNDCRS[", "PROJCS[", "GEOGCS[", "COMPOUNDCRS[")
        ):
            raise BadBodyError("proj:wkt2", "proj:wkt2: it is no WKT of a projected or geographic CRS")
        try:
            return CRS(text)
        except Exception:  # noqa: BLE001 - pyproj's errors have no common base worth naming here
            raise BadBodyError("proj:wkt2", "proj:wkt2: PROJ can't read it") from None

    def _geobox_around(self, spec: CollectionSpec, polygon: BaseGeometry | None) -> GeoBox:
        if polygon is None:
            raise BadBodyError(
                "proj:transform",
                "the body names no region",
                hint="give proj:code, proj:transform and proj:shape, or a GeoJSON geometry",
            )
        grid_crs = spec.grid.crs
        target = regions.parse_crs(self.crs, "crs") if self.crs else grid_crs
        size = regions.Size(
            resolution=None if self.resolution is None else (self.resolution, self.resolution)
        )
        west, south, east, north = _projected(polygon, target).bounds
        bounds = regions.Bounds(west=west, south=south, east=east, north=north)
        return regions.geobox_for(spec, bounds, target, target, size)


def _affine(numbers: list[float]) -> Affine:
    if len(numbers) not in {6, 9} or not all(math.isfinite(number) for number in numbers):
        raise BadBodyError("proj:transform", "proj:transform: it is six finite numbers a, b, c, d, e, f")
    affine = Affine(*numbers[:6])
    if affine.determinant == 0:
        raise BadBodyError("proj:transform", "proj:transform: its pixels have no area")
    return affine


def _shape(numbers: list[int]) -> tuple[int, int]:
    if len(numbers) != 2 or not all(1 <= number <= 1_000_000 for number in numbers):  # noqa: PLR2004
        raise BadBodyError("proj:shape", "proj:shape: it is rows and columns, each from 1 to 1000000")
    return numbers[0], numbers[1]


def parse_polygon(geojson: dict[str, Any]) -> BaseGeometry:
    """Read a GeoJSON Polygon or MultiPolygon in lon/lat (a Feature is opened).

    Raises:
        BadBodyError: it is something else, or broken.
    """
    inner = geojson.get("geometry") if geojson.get("type") == "Feature" else geojson
    right = "a GeoJSON Polygon or MultiPolygon with lon, lat coordinates (RFC 7946)"
    if not isinstance(inner, dict) or inner.get("type") not in {"Polygon", "MultiPolygon"}:
        raise BadBodyError("geometry", "geometry: it is no polygon", hint=right)
    try:
        polygon = shapely.force_2d(shapely.geometry.shape(inner))
    except Exception:  # noqa: BLE001 - shapely raises whatever the wrong nesting leads to
        raise BadBodyError("geometry", "geometry: its coordinates can't be read", hint=right) from None
    if polygon.is_empty or not polygon.is_valid:
        raise BadBodyError("geometry", f"geometry: {shapely.is_valid_reason(polygon)}"[:200], hint=right)
    west, south, east, north = polygon.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):  # noqa: PLR2004
        raise BadBodyError("geometry", "geometry: longitudes go from -180 to 180, latitudes from -90 to 90")
    return polygon


def _projected(polygon: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Bring a lon/lat polygon into a CRS; long edges are cut first, so that they bend as they must."""
    source = CRS("EPSG:4326")
    if crs == source:
        return polygon
    west, south, east, north = polygon.bounds
    step = max(east - west, north - south) / _OUTLINE_STEPS
    dense = shapely.segmentize(polygon, step) if step > 0 else polygon
    move = transformer(source, crs)

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(move.transform(xy[:, 0], xy[:, 1]))

    moved = shapely.transform(dense, place)
    if not all(math.isfinite(bound) for bound in moved.bounds):
        raise BadBodyError("geometry", f"geometry: it has no place in {crs}")
    return moved
