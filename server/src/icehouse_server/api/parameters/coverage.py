"""The query parameters and the body of ``/coverage`` and ``/plan``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import Query
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import ConfigDict, Field
from shapely.geometry.base import BaseGeometry
from starlette.concurrency import run_in_threadpool

from icehouse_server.api.openapi.schemas import nullable
from icehouse_server.api.parameters import polygons, regions
from icehouse_server.api.parameters.bands import (
    BandList,
    Bands,
    ExcludeProperties,
    Properties,
    Resampling,
    ResamplingTable,
    check_bands,
    parse_resampling,
    read_bands,
    read_excluded,
)
from icehouse_server.api.parameters.bbox import Bbox, BboxCrs, read_bbox
from icehouse_server.api.parameters.crs import CrsCode, CrsText, OutputCrsCode, parse_crs
from icehouse_server.api.parameters.exact_geobox import (
    Shape,
    Transform,
    Wkt,
    parse_wkt,
    read_affine,
    read_shape,
)
from icehouse_server.api.parameters.level import LevelNumber, LevelText, parse_level
from icehouse_server.api.parameters.size import (
    CellSize,
    Height,
    Resolution,
    Size,
    Width,
    parse_cells,
    parse_resolution,
)
from icehouse_server.api.parameters.snapshot import Snapshot, SnapshotName, parse_snapshot
from icehouse_server.api.parameters.subset import SubsetCrs, SubsetTexts, read_subset
from icehouse_server.api.parameters.time_steps import Datetime, DatetimeList, parse_datetime
from icehouse_server.api.parameters.unknown_parameters import Body
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadBodyError, BadParameterError
from icehouse_server.service import CoverageRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageQuery:
    """Query parameters, as text: they are read by ``regions``, so that every refusal names the parameter."""

    bbox: Bbox = None
    bbox_crs: BboxCrs = None
    subset: SubsetTexts = None
    subset_crs: SubsetCrs = None
    crs: Annotated[CrsText, Query(description="CRS of the output; the collection's by default.")] = None
    width: Width = None
    height: Height = None
    resolution: Resolution = None
    properties: Properties = None
    bands: Bands = None
    exclude_properties: ExcludeProperties = None
    datetime: Datetime = None
    level: Annotated[
        LevelText,
        Query(
            description="Level to read from; the best for the output when left out. 0 is the full resolution."
        ),
    ] = None
    resampling: Resampling = None
    fail_on_error: Annotated[
        Literal["true", "false"],
        Query(description="false: give what there is, the failed area as nodata, and say so in headers."),
    ] = "true"
    snapshot: Snapshot = None

    def coverage_request(self, spec: CollectionSpec) -> CoverageRequest:
        """Return what is asked for.

        Raises:
            BadParameterError: a parameter can't be used.
            OutsideError: the region does not touch the collection.
        """
        asked = read_subset(self.subset, self.subset_crs)
        times = parse_datetime(asked.datetime_or(self.datetime, spec.time), spec)
        level = parse_level(self.level, spec)
        bounds, bbox_crs = read_bbox(self.bbox, self.bbox_crs)
        target = spec.grid.crs if self.crs is None else parse_crs(self.crs, "crs")
        size = Size(
            width=parse_cells(self.width, "width"),
            height=parse_cells(self.height, "height"),
            resolution=parse_resolution(self.resolution),
        )
        resampling = parse_resampling(self.resampling, spec)
        snapshot = parse_snapshot(self.snapshot)
        if asked.spatial:
            if bounds is not None:
                raise BadParameterError("subset", "subset: give it or bbox for space, not both")
            bounds, bbox_crs = asked.bounds(spec, self.subset_crs, target, sized=size.given)
        bands = read_excluded(self.exclude_properties, read_bands(self.properties, self.bands), spec)
        spec.select(bands)
        geobox = regions.geobox_for(spec, bounds, bbox_crs, target, size)
        return CoverageRequest(
            region=regions.region(spec, geobox, bands, times, resampling, level),
            snapshot=snapshot,
            fail_on_error=self.fail_on_error == "true",
        )


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

    code: Annotated[CrsCode, Field(alias="proj:code")] = None
    wkt2: Annotated[Wkt, Field(alias="proj:wkt2")] = None
    transform: Annotated[Transform, Field(alias="proj:transform")] = None
    shape: Annotated[Shape, Field(alias="proj:shape")] = None
    geometry: Annotated[dict[str, Any] | None, nullable(polygons.SCHEMA)] = None
    bands: BandList = None
    datetime: DatetimeList = None


class CoverageBody(RegionBody):
    """The body of POST: an exact geobox, a GeoJSON polygon to clip to, or both."""

    crs: OutputCrsCode = None
    resolution: CellSize = None
    level: LevelNumber = None
    resampling: ResamplingTable = None
    fail_on_error: bool = True
    snapshot: SnapshotName = None

    async def coverage_request(self, spec: CollectionSpec) -> CoverageRequest:
        """Return what is asked for; a polygon may be large and is worked on in a thread.

        Raises:
            BadBodyError: a member can't be used.
            OutsideError: the region does not touch the collection.
        """
        return self._ask(spec) if self.geometry is None else await run_in_threadpool(self._ask, spec)

    def _ask(self, spec: CollectionSpec) -> CoverageRequest:
        with in_body():
            times = parse_datetime(self.datetime, spec)
            level = parse_level(self.level, spec)
            resampling = parse_resampling(self.resampling, spec)
            snapshot = parse_snapshot(self.snapshot)
            bands = None if self.bands is None else check_bands(self.bands)
            spec.select(bands)
            shape = None if self.geometry is None else polygons.parse(self.geometry)
            geobox = self._geobox() or self._geobox_around(spec, shape)
            crs = geobox.crs or spec.grid.crs
            clip = None if shape is None else polygons.placed(polygons.project(shape, crs), geobox)
            return CoverageRequest(
                region=replace(regions.region(spec, geobox, bands, times, resampling, level), clip=clip),
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
                raise BadBodyError(name, f"{name}: missing; a geobox needs CRS, transform and shape")
        if self.crs is not None or self.resolution is not None:
            name = "resolution" if self.crs is None else "crs"
            raise BadBodyError(name, f"{name}: an exact geobox has its own; leave it out")
        return GeoBox(read_shape(self.shape or []), read_affine(self.transform or []), self._crs())

    def _crs(self) -> CRS:
        if self.code is not None:
            return parse_crs(self.code, "proj:code")
        return parse_wkt(self.wkt2 or "")

    def _geobox_around(self, spec: CollectionSpec, polygon: BaseGeometry | None) -> GeoBox:
        if polygon is None:
            raise BadBodyError(
                "proj:transform",
                "proj:transform: missing, and so is geometry: the body must name a region",
                hint="give proj:code, proj:transform and proj:shape, or a GeoJSON geometry",
            )
        target = spec.grid.crs if self.crs is None else parse_crs(self.crs, "crs")
        size = Size(resolution=None if self.resolution is None else (self.resolution, self.resolution))
        bounds = polygons.extent(polygons.project(polygon, target), target, spec.grid.crs)
        return regions.geobox_for(spec, bounds, target, target, size)
