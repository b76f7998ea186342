"""``/jobs``, and what starts one: ``/collections/{id}/seed|refresh|truncate``, ``/gc``. OGC's statusInfo."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, WithJsonSchema

from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import link
from icehouse_server.api.parameters.documents import DOCUMENT
from icehouse_server.api.parameters.job import JobBody, JobQuery, SeedBody, SeedQuery, job_spec_of
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.responses import event_streams
from icehouse_server.api.state import ApiState, Spec, State, base_url
from icehouse_server.core.errors import BadParameterError
from icehouse_server.service import Job, JobKind, JobSpec, JobState

router = APIRouter(tags=["jobs"])

_MOST_LISTED = 1000
_LISTED = 50


class JobChunks(BaseModel):
    """Chunks of a job, counted over all its bands."""

    total: NonNegativeInt
    """What it is about. 0 until it runs."""
    present: NonNegativeInt
    """Cached already when a seed came to them."""
    fetched: NonNegativeInt
    failed: NonNegativeInt
    dropped: NonNegativeInt


class FailedChunkDocument(BaseModel):
    """A chunk that could not be filled."""

    chunk: str
    kind: str
    detail: str
    item: str


class LinkDocument(BaseModel):
    """Where else to look."""

    rel: str
    type: str
    href: str


class StatusInfo(BaseModel):
    """A job as OGC API Processes has it, with our counts."""

    job_id: Annotated[str, Field(serialization_alias="jobID")]
    type: Literal["process"] = "process"
    process_id: Annotated[JobKind, Field(serialization_alias="processID")]
    status: JobState
    message: str
    progress: Annotated[int, Field(ge=0, le=100)]
    created: datetime
    started: datetime | None
    finished: datetime | None
    updated: datetime
    kind: str | None
    """Stable kind of the error, where it failed."""
    hint: str | None
    """What to do about it, where that is known."""
    collection: str | None
    bands: list[str]
    region: dict[str, Any]
    """As it was asked for; empty: the whole collection."""
    chunks: JobChunks
    estimated_source_bytes: NonNegativeInt
    """Bytes of the chunks to be fetched when it began, uncompressed: sources usually send less."""
    fetched_bytes: NonNegativeInt
    """Bytes of those that it has fetched, uncompressed."""
    chunks_per_second: NonNegativeFloat
    """Fetched since it began."""
    failures: list[FailedChunkDocument]
    """The first hundred of the chunks that failed."""
    links: list[LinkDocument]


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[StatusInfo]
    total: NonNegativeInt
    """How many are kept."""
    links: list[LinkDocument]


_NEXT = {
    name: link(route, said, job="$response.body#/jobID")
    for name, route, said in (
        ("job", "get_job", "How it goes."),
        ("events", "get_job_events", "How it goes, as it happens."),
        ("dismiss", "delete_job", "End it."),
    )
}
_LOCATION: dict[str, object] = {
    "Location": {"description": "The job.", "schema": {"type": "string", "format": "uri"}}
}
CREATED: dict[str, Any] = {"description": "The job.", "headers": _LOCATION, "links": _NEXT}
ACCEPTED: dict[str, Any] = {
    "description": "A job fetches the region: the caller prefers not to wait (Prefer).",
    "model": StatusInfo,
    "headers": {
        **_LOCATION,
        "Preference-Applied": {"description": "What was followed.", "schema": {"type": "string"}},
    },
    "links": _NEXT,
}
_STARTED: dict[int | str, dict[str, Any]] = {201: CREATED, 503: {}}
_ON_REGION: dict[int | str, dict[str, Any]] = {
    **_STARTED,
    204: {"description": "The region lies outside the collection."},
}


def _number(low: int, high: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": low, "maximum": high})


JobId = Annotated[
    str,
    Path(description="Id of a job."),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
]
Limit = Annotated[
    str | None, Query(description=f"Jobs in the answer, {_LISTED} by default."), _number(1, _MOST_LISTED)
]
Offset = Annotated[str | None, Query(description="Jobs passed over, from the newest on."), _number(0, 10**6)]


@router.post("/collections/{collection}/seed", status_code=201, responses={**_ON_REGION, 413: {}})
async def post_seed(
    request: Request,
    response: Response,
    state: State,
    spec: Spec,
    query: Annotated[SeedQuery, Depends()],
    body: SeedBody | None = None,
) -> StatusInfo:
    """Fetch ahead what is absent of a region: by query parameters, or by JSON body.

    It needs a region, or `all`. People who load meanwhile go first. Chunks that fail are listed, and the rest
    goes on.
    """
    job_spec = await job_spec_of(JobKind.SEED, spec, query, body)
    return await _start(request, response, state, job_spec)


@router.post("/collections/{collection}/refresh", status_code=201, responses={**_ON_REGION, 413: {}})
async def post_refresh(
    request: Request,
    response: Response,
    state: State,
    spec: Spec,
    query: Annotated[JobQuery, Depends()],
    body: JobBody | None = None,
) -> StatusInfo:
    """Fetch again what is cached of a region, or of the whole collection; what is absent stays absent."""
    job_spec = await job_spec_of(JobKind.REFRESH, spec, query, body)
    return await _start(request, response, state, job_spec)


@router.post("/collections/{collection}/truncate", status_code=201, responses={**_ON_REGION, 413: {}})
async def post_truncate(
    request: Request,
    response: Response,
    state: State,
    spec: Spec,
    query: Annotated[JobQuery, Depends()],
    body: JobBody | None = None,
) -> StatusInfo:
    """Delete what is cached of a region, or of the whole collection; who asks for it later has it fetched."""
    job_spec = await job_spec_of(JobKind.TRUNCATE, spec, query, body)
    return await _start(request, response, state, job_spec)


@router.post("/gc", status_code=201, responses=_STARTED)
async def post_gc(request: Request, response: Response, state: State) -> StatusInfo:
    """Run maintenance now: old snapshots expire, garbage is collected, the disk's bound is kept."""
    return await _start(request, response, state, JobSpec(kind=JobKind.GC))


@router.get("/jobs", dependencies=DOCUMENT)
async def get_jobs(request: Request, state: State, limit: Limit = None, offset: Offset = None) -> JobList:
    """All jobs that are kept, the newest first."""
    count = _parse(limit, "limit", 1, _MOST_LISTED, _LISTED)
    first = _parse(offset, "offset", 0, 10**6, 0)
    base, total = base_url(request), len(state.jobs)
    links = [_link("self", f"{base}/jobs?limit={count}&offset={first}")]
    if first + count < total:
        links.append(_link("next", f"{base}/jobs?limit={count}&offset={first + count}"))
    if first > 0:
        links.append(_link("prev", f"{base}/jobs?limit={count}&offset={max(0, first - count)}"))
    listed = [status_info(job, base) for job in state.jobs.newest(first, count)]
    return JobList(jobs=listed, total=total, links=links)


@router.get(
    "/jobs/{job}", dependencies=DOCUMENT, responses={200: {"description": "The job.", "links": _NEXT}}
)
async def get_job(request: Request, response: Response, state: State, job: JobId) -> StatusInfo:
    """One job: its state, how far it is, and what failed."""
    response.headers["Cache-Control"] = "no-store"
    return status_info(state.jobs.get(job), base_url(request))


@router.delete("/jobs/{job}")
async def delete_job(request: Request, state: State, job: JobId) -> StatusInfo:
    """End a job: what it has fetched is kept. One that is over is forgotten."""
    return status_info(state.jobs.dismiss(job), base_url(request))


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress` and, last, `end`; the data of each are the job as JSON.",
        "content": {event_streams.MEDIA_TYPE: {"schema": schemas.event("progress", "end")}},
    },
    503: {},
}


@router.get("/jobs/{job}/events", dependencies=[LENIENT], responses=_EVENTS, response_class=Response)
async def get_job_events(request: Request, state: State, job: JobId) -> Response:
    """Server-sent events: the job whenever it changes, until it is over."""
    found, base = state.jobs.get(job), base_url(request)
    return event_streams.EventStream(_JobFeed(found, base), state.streams)


class _JobFeed:
    """Tells of a job whenever it has changed, until it is over."""

    def __init__(self, job: Job, base: str) -> None:
        self._job = job
        self._base = base
        self._seen = -1

    async def news(self, seconds: float) -> event_streams.Event | None:
        """Wait until the job is another than the one sent, or until the time is up."""
        job = self._job
        await job.news(self._seen, seconds)
        if job.version == self._seen and not job.over:
            return None
        self._seen = job.version
        data = status_info(job, self._base).model_dump_json(by_alias=True)
        return event_streams.Event(
            name="end" if job.over else "progress", id=job.version, data=data, last=job.over
        )


def status_info(job: Job, base: str) -> StatusInfo:
    """Return a job as a document."""
    job_spec, here = job.spec, f"{base}/jobs/{job.id}"
    collection = None if job_spec.collection is None else job_spec.collection.id
    links = [
        _link("self", here),
        _link("up", f"{base}/jobs"),
        _link("events", f"{here}/events", event_streams.MEDIA_TYPE),
    ]
    if collection is not None:
        links.append(_link("collection", f"{base}/collections/{collection}"))
    return StatusInfo(
        job_id=job.id,
        process_id=job_spec.kind,
        status=job.state,
        message=job.message,
        progress=job.progress,
        created=job.created,
        started=job.started,
        finished=job.finished,
        updated=job.updated,
        kind=job.kind or None,
        hint=job.hint or None,
        collection=collection,
        bands=[band.name for band in job_spec.bands],
        region=dict(job_spec.asked),
        chunks=JobChunks.model_validate(job.counts, from_attributes=True),
        estimated_source_bytes=job.estimated_bytes,
        fetched_bytes=job.fetched_bytes,
        chunks_per_second=round(job.rate, 3),
        failures=[
            FailedChunkDocument.model_validate(failure, from_attributes=True) for failure in job.failures
        ],
        links=links,
    )


async def _start(request: Request, response: Response, state: ApiState, job_spec: JobSpec) -> StatusInfo:
    job, base = await state.jobs.start(job_spec), base_url(request)
    response.headers["Location"] = f"{base}/jobs/{job.id}"
    return status_info(job, base)


def _link(rel: str, href: str, media_type: str = "application/json") -> LinkDocument:
    return LinkDocument(rel=rel, type=media_type, href=href)


def _parse(text: str | None, parameter: str, low: int, high: int, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,7}", text, re.ASCII) or not low <= int(text) <= high:
        raise BadParameterError(
            parameter, f"{parameter}: {text[:40]!r} is not a whole number from {low} to {high}"
        )
    return int(text)
