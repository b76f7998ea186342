"""The query parameters and the body of what starts a job."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from icehouse_server.api.parameters.bands import Bands, SomeBands, check_bands, read_bands
from icehouse_server.api.parameters.bbox import BboxCrs, BboxList, JobBbox
from icehouse_server.api.parameters.coverage import CoverageBody, CoverageQuery, RegionBody, in_body
from icehouse_server.api.parameters.crs import CrsCode
from icehouse_server.api.parameters.level import LevelNumber, LevelText, parse_level
from icehouse_server.api.parameters.time_steps import Datetime, parse_datetime
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import BadBodyError, BadParameterError
from icehouse_server.core.plan import Region
from icehouse_server.service import CoverageRequest, JobKind, JobSpec, Priority

_LONGEST_GEOMETRY = 2000
"""Characters of a polygon that are kept to show it: a job lives long, and a polygon may be a megabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Query parameters, as text."""

    bbox: JobBbox = None
    bbox_crs: BboxCrs = None
    properties: SomeBands = None
    bands: Bands = None
    datetime: Datetime = None
    level: Annotated[
        LevelText,
        Query(description="Level; left out: a seed is of the one that a load reads, others of all cached."),
    ] = None

    @property
    def everything(self) -> bool:
        """True where the whole collection is asked for in words."""
        return False

    def given(self) -> dict[str, str]:
        """Return what is given, by the caller's names."""
        values = {
            "bbox": self.bbox,
            "bbox-crs": self.bbox_crs,
            "properties": self.properties,
            "bands": self.bands,
            "datetime": self.datetime,
            "level": self.level,
        }
        return {name: value for name, value in values.items() if value is not None}

    def names(self) -> list[str] | None:
        """Return the bands that are named."""
        return read_bands(self.properties, self.bands)

    def coverage_request(self, spec: CollectionSpec) -> CoverageRequest | None:
        """Return the region, or None where none is given."""
        query = CoverageQuery(bbox=self.bbox, bbox_crs=self.bbox_crs)
        return None if self.bbox is None and self.bbox_crs is None else query.coverage_request(spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedQuery(JobQuery):
    """The same, with a word for the whole collection."""

    all_: Annotated[
        Literal["true", "false"], Query(alias="all", description="true: the whole collection.")
    ] = "false"

    @property
    def everything(self) -> bool:
        """True where the whole collection is asked for in words."""
        return self.all_ == "true"


class JobBody(RegionBody):
    """A region by JSON body: a bbox, an exact geobox, or a GeoJSON polygon."""

    bbox: BboxList = None
    bbox_crs: Annotated[CrsCode, Field(alias="bbox-crs")] = None
    level: LevelNumber = None

    @property
    def everything(self) -> bool:
        """True where the whole collection is asked for in words."""
        return False

    def given(self) -> dict[str, Any]:  # Any: JSON
        """Return what is given, by the caller's names."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude={"all_"})

    def names(self) -> list[str] | None:
        """Return the bands that are named."""
        with in_body():
            return None if self.bands is None else check_bands(self.bands)

    async def coverage_request(self, spec: CollectionSpec) -> CoverageRequest | None:
        """Return the region, or None where none is given."""
        region = {
            name: value for name, value in self.given().items() if name not in {"bands", "datetime", "level"}
        }
        if "bbox" not in region and "bbox-crs" not in region:
            return await CoverageBody.model_validate(region).coverage_request(spec) if region else None
        for name in region:
            if name not in {"bbox", "bbox-crs"}:
                raise BadBodyError(name, f"{name}: give it or bbox, not both")
        with in_body():
            text = None if self.bbox is None else ",".join(map(repr, self.bbox))
            return CoverageQuery(bbox=text, bbox_crs=self.bbox_crs).coverage_request(spec)


class SeedBody(JobBody):
    """The same, with a word for the whole collection."""

    all_: Annotated[bool, Field(alias="all", description="true: the whole collection.")] = False

    @property
    def everything(self) -> bool:
        """True where the whole collection is asked for in words."""
        return self.all_


async def job_spec_of(kind: JobKind, spec: CollectionSpec, query: JobQuery, body: JobBody | None) -> JobSpec:
    """Return what is asked for.

    Raises:
        BadParameterError: a parameter can't be used, or a seed names no region.
        BadBodyError: a member can't be used.
        OutsideError: the region does not touch the collection.
    """
    asked: Mapping[str, Any] = query.given()
    if body is not None:
        for name in asked:
            raise BadParameterError(name, f"{name}: give query parameters or a body, not both")
        asked = body.given()
    names = query.names() if body is None else body.names()
    with nullcontext() if body is None else in_body():
        times = parse_datetime((body or query).datetime, spec)
        level = parse_level((body or query).level, spec)
    wanted = query.coverage_request(spec) if body is None else await body.coverage_request(spec)
    everything = query.everything or (body is not None and body.everything)
    if wanted is None and kind is JobKind.SEED and not everything:
        raise _no_region(in_body=body is not None)
    if wanted is not None and everything:
        raise BadParameterError("all", "all: a region is given as well; leave one of them out")
    return JobSpec(
        kind=kind,
        collection=spec,
        bands=_bands(kind, spec, names),
        times=times,
        target=None if wanted is None else wanted.region.target,
        clip=None if wanted is None else wanted.region.clip,
        levels=_levels(kind, level, wanted),
        asked=_shown(asked),
    )


def awaited(region: Region) -> JobSpec:
    """Return the seed of a region that a request waits for."""
    target, crs = region.target, region.target.crs
    asked = {
        "proj:code": str(crs),
        "proj:transform": list(target.affine)[:6],
        "proj:shape": list(map(int, target.shape)),
    }
    return JobSpec(
        kind=JobKind.SEED,
        collection=region.collection,
        bands=region.bands,
        times=region.times,
        target=target,
        clip=region.clip,
        levels=(region.level,),
        asked=asked,
        priority=Priority.INTERACTIVE,
    )


def _no_region(*, in_body: bool) -> BadParameterError:
    detail = "bbox: a seed needs a region"
    hint = "give a bbox, a geobox or a geometry; or all = true for the whole collection"
    return (
        BadBodyError("bbox", detail, hint=hint) if in_body else BadParameterError("bbox", detail, hint=hint)
    )


def _bands(kind: JobKind, spec: CollectionSpec, names: list[str] | None) -> tuple[BandSpec, ...]:
    """Return the bands: where none is named, those that a load takes; of what is cached already, all."""
    return spec.bands if names is None and kind is not JobKind.SEED else spec.select(names)


def _levels(kind: JobKind, level: int | None, wanted: CoverageRequest | None) -> tuple[int, ...] | None:
    """Return the levels: where none is named, the one that a load reads; of what is cached already, all."""
    if level is not None:
        return (level,)
    if kind is not JobKind.SEED:
        return None
    return (0,) if wanted is None else (wanted.region.level,)


def _shown(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a region as it is kept to be shown: without a polygon that is too long for that."""
    shown = {name: value for name, value in asked.items() if name not in {"bands", "properties"}}
    if len(json.dumps(shown.get("geometry"))) > _LONGEST_GEOMETRY:
        shown["geometry"] = {"type": shown["geometry"].get("type")}
    return shown
