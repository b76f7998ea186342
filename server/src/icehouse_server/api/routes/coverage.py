"""``/collections/{id}/coverage``: a region as bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from icehouse_server import output
from icehouse_server.api.middleware.tokens import reads_only
from icehouse_server.api.observability.request_context import context_of
from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import link
from icehouse_server.api.parameters.conditional import (
    etag_known,
    if_match_fails,
    only_if_cached,
    precondition_failed,
)
from icehouse_server.api.parameters.coverage import CoverageBody, CoverageQuery
from icehouse_server.api.parameters.crs import crs_uri
from icehouse_server.api.parameters.formats import COVERAGES, Format, Suffix, choose_format
from icehouse_server.api.parameters.job import awaited
from icehouse_server.api.parameters.prefer import parse_prefer
from icehouse_server.api.responses.cache_status import cache_status, cache_word, server_timing
from icehouse_server.api.responses.disconnect import while_connected
from icehouse_server.api.responses.streaming import PartsResponse
from icehouse_server.api.routes.jobs import ACCEPTED, status_info
from icehouse_server.api.state import ApiState, Spec, State, base_url
from icehouse_server.core.errors import NotAcceptableError
from icehouse_server.core.plan import Plan, Region
from icehouse_server.core.time import written
from icehouse_server.output import Encoded
from icehouse_server.raster import kernel
from icehouse_server.service import CoverageRequest, CoverageResult, Trace

router = APIRouter(tags=["coverage"])

_DESCRIPTION = """A region as bytes; what is absent is fetched first. Axis order is x, y (lon, lat) for every
CRS. Without `width`, `height` or `resolution` the collection's own grid is returned, snapped outward to whole
pixels. The format comes from `f`, else from `Accept`, else it is NetCDF. 204: the region lies outside."""

_HEADERS: dict[str, object] = {
    name: {"description": said, "schema": {"type": "string", **more}}
    for name, said, more in (
        ("Content-Crs", "CRS of the answer as an OGC URI, where it has a code.", {"pattern": "^<http.*>$"}),
        ("Content-Bbox", "minx,miny,maxx,maxy of the answer.", {"pattern": "^[^,]+,[^,]+,[^,]+,[^,]+$"}),
        (
            "Content-Datetime",
            "Time of the answer, where there is a time axis: the start of its step, or start/end of several.",
            {"pattern": "^[^/]+Z(/[^/]+Z)?$"},
        ),
        ("Cache-Status", "How the cache was met (RFC 9211).", {"pattern": "^icehouse; "}),
        ("Cache-Control", "Ask again by ETag; an answer with holes is not to be kept.", {}),
        ("Server-Timing", "Milliseconds by stage.", {}),
        ("ETag", "Of snapshot and request; not where chunks failed.", {"pattern": '^"[0-9a-f]{32}"$'}),
        ("Icehouse-Snapshot", "The snapshot that was read.", {"pattern": "^[A-Z0-9]+$"}),
        ("Icehouse-Failed-Chunks", "How many chunks failed.", {"pattern": "^[1-9][0-9]*$"}),
        ("Icehouse-Failed-List", "The first twenty of them, with their kinds.", {}),
    )
}
_CONTENT = {
    media_type: {"schema": schemas.COVERAGE_JSON if name == "json" else schemas.BINARY}
    for name, media in output.FORMATS.items()
    for media_type in (media.media_type, media.ogc_type)
    if media_type
}
_LINKS = {
    "plan": link(
        "get_plan",
        "What this snapshot has of the region: all of it.",
        collection="$request.path.collection",
        bbox="$request.query.bbox",
        bbox_crs="$request.query.bbox-crs",
        snapshot="$response.header.Icehouse-Snapshot",
    )
}
_STATUSES: dict[int | str, dict[str, object]] = {
    200: {"description": "The region.", "content": _CONTENT, "headers": _HEADERS},
    202: ACCEPTED,
    204: {"description": "The region lies outside the collection."},
    406: {},
    412: {},
    **{status: {} for status in schemas.FILLING},
}
_GET_STATUSES: dict[int | str, dict[str, object]] = {
    **_STATUSES,
    200: {"description": "The region.", "content": _CONTENT, "headers": _HEADERS, "links": _LINKS},
    206: {"description": "The range of it that was asked for.", "content": _CONTENT, "headers": _HEADERS},
    304: {"description": "The caller's copy is good."},
    416: {},
}
"""POST knows neither ranges nor copies."""

_REVALIDATE = {"Cache-Control": "no-cache", "Vary": "Accept"}

Accept = Annotated[str | None, Header(include_in_schema=False)]


@router.get(
    "/collections/{collection}/coverage",
    description=_DESCRIPTION,
    responses=_GET_STATUSES,
    response_class=Response,
)
async def get_coverage(
    request: Request,
    state: State,
    spec: Spec,
    query: Annotated[CoverageQuery, Depends()],
    f: Format = None,
    accept: Accept = None,
) -> Response:
    """A region as bytes."""
    return await _answer(request, state, query.coverage_request(spec), choose_format(COVERAGES, f, accept))


@router.get(
    "/collections/{collection}/coverage.{suffix}",
    description="The same with the format fixed by a suffix, for curl: tif, nc, zarr.zip, npy, png, json.",
    responses=_GET_STATUSES,
    response_class=Response,
)
async def get_coverage_as(
    request: Request,
    state: State,
    spec: Spec,
    suffix: Suffix,
    query: Annotated[CoverageQuery, Depends()],
) -> Response:
    """A region as a file."""
    names = {media.suffix.removeprefix("."): name for name, media in output.FORMATS.items()}
    if suffix not in names:
        raise NotAcceptableError(
            f"no format has the suffix .{suffix[:20]}", hint=f"there are {', '.join(names)}"
        )
    return await _answer(request, state, query.coverage_request(spec), names[suffix])


@router.post(
    "/collections/{collection}/coverage",
    description="The same by JSON body: an exact affine geobox, or a GeoJSON polygon to clip to.",
    responses=_STATUSES,
    response_class=Response,
)
@reads_only
async def post_coverage(
    request: Request,
    state: State,
    spec: Spec,
    body: CoverageBody,
    f: Format = None,
    accept: Accept = None,
) -> Response:
    """A region as bytes, by an exact geobox or clipped to a polygon."""
    return await _answer(
        request, state, await body.coverage_request(spec), choose_format(COVERAGES, f, accept)
    )


async def _answer(request: Request, state: ApiState, wanted: CoverageRequest, format_name: str) -> Response:
    wanted = replace(wanted, only_if_cached=only_if_cached(request))
    trace = Trace()
    with trace.stage("plan"):
        plan = await state.planner.plan(wanted.region)
    early = _settled(request, state, wanted, format_name, plan)
    if early is not None:
        return early
    later = await _later(request, state, wanted, plan)
    if later is not None:
        return later
    note = context_of(request.scope)
    note.trace = trace
    if plan.absent:  # the job that was waited for may have brought them
        plan = plan.renewed(state.store.collection(wanted.region.collection.id).index)
    work = state.coverages.answer(wanted, state.coverages.encoder(format_name), trace=trace, plan=plan)
    answer = await while_connected(request, work)
    validity = _validity_headers(wanted, format_name, answer)
    if if_match_fails(request, validity.get("ETag")):
        answer.close()
        raise precondition_failed(validity.get("ETag"))
    encoded, incomplete = answer.encoded, bool(answer.coverage.failed)
    note.format, note.cache = format_name, cache_word(answer.trace, incomplete=incomplete)
    headers = {
        **_place_headers(wanted),
        **validity,
        "Cache-Status": cache_status(answer.trace, incomplete=incomplete),
        "Server-Timing": server_timing(answer.trace),
        "Icehouse-Snapshot": answer.coverage.snapshot,
        "Content-Disposition": f'inline; filename="{wanted.region.collection.id}{encoded.suffix}"',
        **_failure_headers(answer),
    }
    return PartsResponse(
        encoded.parts,
        length=encoded.length,
        media_type=_media_type(request, format_name),
        headers=headers,
        on_end=answer.close,
    )


async def _later(request: Request, state: ApiState, wanted: CoverageRequest, plan: Plan) -> Response | None:
    """Answer with a job where the caller prefers that (RFC 7240) to waiting for absent chunks."""
    preference = parse_prefer(request.headers.getlist("prefer"))
    if not preference.given or wanted.snapshot is not None or wanted.only_if_cached or not plan.absent:
        return None
    job = await state.jobs.start(awaited(wanted.region))
    wait = min(preference.wait or 0, state.settings.request_timeout)
    if wait and await while_connected(request, job.wait(wait)):
        return None
    document, base = status_info(job, base_url(request)), base_url(request)
    headers = {
        "Location": f"{base}/jobs/{job.id}",
        "Preference-Applied": preference.applied,
        "Cache-Control": "no-store",
    }
    return Response(document.model_dump_json(by_alias=True), 202, headers, "application/json")


def _validity_headers(
    wanted: CoverageRequest, format_name: str, answer: CoverageResult[Encoded]
) -> Mapping[str, str]:
    """Return how long the answer is good for: an answer with holes is nothing to come back to."""
    if answer.coverage.failed:
        return {"Cache-Control": "no-store", "Vary": "Accept"}
    return {"ETag": _etag(wanted, format_name, answer.coverage.snapshot), **_REVALIDATE}


def _settled(
    request: Request, state: ApiState, wanted: CoverageRequest, format_name: str, plan: Plan
) -> Response | None:
    """Answer 304 where the caller holds what would be sent, without reading a pixel; 412 where it is other.

    Raises:
        HTTPException: 412.
    """
    if wanted.snapshot is not None or plan.absent or plan.outside:
        return None  # what would be sent is known later
    etag = _etag(wanted, format_name, state.store.collection(wanted.region.collection.id).snapshot)
    if if_match_fails(request, etag):
        raise precondition_failed(etag)
    if request.method != "GET" or not etag_known(request, etag):
        return None
    return Response(status_code=304, headers={"ETag": etag, **_REVALIDATE})


def _etag(wanted: CoverageRequest, format_name: str, snapshot: str) -> str:
    """Return the entity tag: what was read, and what was asked for."""
    region = wanted.region
    affine = region.target.affine
    parts = (
        snapshot,
        region.collection.id,
        format_name,
        region.target.crs,
        tuple(affine)[:6],
        region.shape,
        region.times,
        region.level,
        [(band.name, region.resampling_of(band)) for band in region.bands],
        None if region.clip is None else region.clip.wkb_hex,
        wanted.fail_on_error,
        kernel.name(),
    )
    return f'"{hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()}"'


def _place_headers(wanted: CoverageRequest) -> Mapping[str, str]:
    box = wanted.region.target.boundingbox
    uri = crs_uri(wanted.region.target.crs)
    crs = {"Content-Crs": f"<{uri}>"} if uri.startswith("http") else {}
    bbox = ",".join(repr(float(edge)) for edge in box.bbox)
    return {**crs, "Content-Bbox": bbox, **_time_header(wanted.region)}


def _time_header(region: Region) -> Mapping[str, str]:
    """Return when: the coordinate of a single step, else the extent of all of them."""
    steps = region.steps if region.times else ()
    if not steps:
        return {}
    start = written(min(step.start for step in steps))
    end = written(max(step.end for step in steps))
    return {"Content-Datetime": start if len(steps) == 1 else f"{start}/{end}"}


def _media_type(request: Request, format_name: str) -> str:
    """Return the format's media type; by which one it was asked for counts where Accept has chosen it."""
    chosen = output.FORMATS[format_name]
    by_name = "f" in request.query_params or "suffix" in request.path_params
    return chosen.media_type if by_name else chosen.type_for(request.headers.get("accept"))


def _failure_headers(answer: CoverageResult[Encoded]) -> Mapping[str, str]:
    failed = answer.coverage.failed
    if not failed:
        return {}
    listed = ", ".join(f"{failure.chunk};kind={failure.kind}" for failure in failed[:20])
    return {"Icehouse-Failed-Chunks": str(len(failed)), "Icehouse-Failed-List": listed}
