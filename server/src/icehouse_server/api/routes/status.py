"""``/status``: what the daemon does at the moment, in one document; and live."""

import time
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt

from icehouse_server.api.openapi import schemas
from icehouse_server.api.parameters.documents import DOCUMENT
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.responses import event_streams
from icehouse_server.api.routes.health import Reason, degraded, reasons
from icehouse_server.api.state import ApiState, State
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.downloads import BlockReport, DownloadsSnapshot, Failure
from icehouse_server.service import Job, JobKind, JobState, resident_bytes
from icehouse_server.store import CollectionStore

router = APIRouter(tags=["health"])

_MOST_BLOCKS = 50
_EVERY = 1.0
"""Seconds between two events."""


class CollectionStatus(BaseModel):
    """What is cached of a collection, and what hinders its source."""

    id: str
    title: str
    chunks: NonNegativeInt
    """Cached, over all bands, levels and time steps."""
    levels: dict[str, NonNegativeInt]
    """The same by level; levels of which nothing is cached are left out."""
    bytes: NonNegativeInt | None
    """What its repository takes on disk; null until it has been measured."""
    degraded: list[Reason]


class BlockStatus(BaseModel):
    """A block that is being fetched, or waits to be."""

    collection: str
    bands: list[str]
    level: NonNegativeInt
    datetime: str | None
    """The time step, as an interval; null where the collection has no time axis."""
    row: NonNegativeInt
    col: NonNegativeInt
    rows: NonNegativeInt
    """Rows and columns counted in chunks."""
    cols: NonNegativeInt
    chunks: NonNegativeInt
    """Over all its bands."""
    state: Literal["queued", "running"]
    seconds: NonNegativeFloat
    """Since its fetch began, or, where it waits, since it was asked for."""
    waiting: NonNegativeInt
    """Requests that wait for it."""


class FailureStatus(BaseModel):
    """A chunk that could not be filled."""

    at: datetime
    collection: str
    chunk: str
    kind: str
    detail: str


class DownloadsStatus(BaseModel):
    """Fetches: what waits, what is under way, what was done since the start, and how fast."""

    queued: NonNegativeInt
    """Blocks that wait."""
    running: NonNegativeInt
    """Blocks under way."""
    chunks_in_flight: NonNegativeInt
    """Chunks of both."""
    chunks_fetched: NonNegativeInt
    chunks_failed: NonNegativeInt
    blocks_per_second: NonNegativeFloat
    """Over the last ten seconds."""
    bytes_per_second: NonNegativeFloat
    """Received from sources, over the last ten seconds."""
    source_bytes: NonNegativeInt
    """Received from sources since the start."""
    blocks: list[BlockStatus]
    """The first fifty: those under way, then those that come next."""
    failures: list[FailureStatus]
    """The last twenty, the newest first."""


class JobStatus(BaseModel):
    """A job that is not over."""

    id: str
    kind: JobKind
    collection: str | None
    status: JobState
    progress: Annotated[int, Field(ge=0, le=100)]
    chunks_done: NonNegativeInt
    chunks_total: NonNegativeInt


class MemoryStatus(BaseModel):
    """Memory against its limits."""

    decoded_bytes: NonNegativeInt
    decoded_limit: NonNegativeInt
    answer_bytes: NonNegativeInt
    answer_limit: NonNegativeInt
    resident_bytes: NonNegativeInt | None
    """Of the process; null where the system does not say."""


class DiskStatus(BaseModel):
    """The disk against its limits."""

    cache_bytes: NonNegativeInt
    cache_limit: NonNegativeInt | None
    """``max_cache_bytes``; null where it is not set."""
    free_bytes: NonNegativeInt | None
    """Null where the disk does not say."""
    floor_bytes: NonNegativeInt
    """``disk_floor``: below it nothing is fetched."""


class HitsStatus(BaseModel):
    """How many of the chunks that requests needed were cached already, since the start."""

    chunks_asked: NonNegativeInt
    chunks_cached: NonNegativeInt
    ratio: Annotated[float, Field(ge=0, le=1)] | None
    """Null while nothing was asked."""


class StatusDocument(BaseModel):
    """What the daemon does at the moment."""

    version: str
    started: datetime
    uptime_seconds: NonNegativeFloat
    ready: bool
    reasons: list[Reason]
    """Why it is not ready, as ``/readyz`` says it."""
    collections: list[CollectionStatus]
    downloads: DownloadsStatus
    jobs: list[JobStatus]
    memory: MemoryStatus
    disk: DiskStatus
    hits: HitsStatus


_LIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `status`, whose data are the document, once a second at most.",
        "content": {event_streams.MEDIA_TYPE: {"schema": schemas.event("status")}},
    },
    503: {},
}


@router.get("/status", dependencies=DOCUMENT)
async def get_status(response: Response, state: State) -> StatusDocument:
    """What the daemon does: queue, rates, failures, jobs, and what it takes of memory and disk."""
    response.headers["Cache-Control"] = "no-store"
    return await status_document(state)


@router.get("/status/events", dependencies=[LENIENT], response_class=Response, responses=_LIVE)
async def get_status_events(state: State) -> Response:
    """Server-sent events: the same document whenever it has changed."""
    return event_streams.EventStream(_StatusFeed(state), state.streams)


class _StatusFeed:
    """Tells the status where something else than the time has changed."""

    def __init__(self, state: ApiState) -> None:
        self._state = state
        self._sent: dict[str, Any] | None = None

    async def news(self, seconds: float) -> event_streams.Event | None:
        """Wait until the status is another than the one sent, or until the time is up."""
        end = time.monotonic() + seconds
        while True:
            if self._sent is not None:
                await self._state.streams.rest(_EVERY)
            steady, text = await self._state.status.get(self._made)
            if steady != self._sent:
                self._sent = steady
                return event_streams.Event(name="status", data=text)
            if time.monotonic() + _EVERY > end:
                return None

    async def _made(self) -> tuple[dict[str, Any], str]:
        document = await status_document(self._state)
        return _steady(document), document.model_dump_json()


def _steady(document: StatusDocument) -> dict[str, Any]:
    """Return what makes a document worth telling: what only drifts is left out."""
    return document.model_dump(
        exclude={"uptime_seconds": True, "memory": {"resident_bytes"}, "disk": {"free_bytes"}}
    )


async def status_document(state: ApiState) -> StatusDocument:
    """Return what the daemon does at the moment."""
    store, why = state.store, await reasons(state)
    hits, downloads = state.metrics.hits, state.downloads.snapshot(blocks=_MOST_BLOCKS)
    return StatusDocument(
        version=state.version,
        started=state.pulse.started,
        uptime_seconds=round(state.pulse.uptime, 1),
        ready=not why,
        reasons=why,
        collections=[_collection(collection, downloads) for collection in store.collections.values()],
        downloads=_downloads(state, downloads),
        jobs=[_job(job) for job in state.jobs.newest(0, len(state.jobs)) if not job.over],
        memory=MemoryStatus(
            decoded_bytes=store.decoded.bytes,
            decoded_limit=store.decoded.limit,
            answer_bytes=state.budget.held,
            answer_limit=state.budget.total,
            resident_bytes=resident_bytes(),
        ),
        disk=DiskStatus(
            cache_bytes=store.room.bytes,
            cache_limit=store.room.limit,
            free_bytes=state.folder.last.free,
            floor_bytes=state.settings.disk_floor,
        ),
        hits=HitsStatus(
            chunks_asked=hits.asked,
            chunks_cached=hits.cached,
            ratio=round(hits.cached / hits.asked, 4) if hits.asked else None,
        ),
    )


def _collection(collection: CollectionStore, downloads: DownloadsSnapshot) -> CollectionStatus:
    spec, counts = collection.spec, collection.index.counts
    return CollectionStatus(
        id=spec.id,
        title=spec.title,
        chunks=sum(counts.values()),
        levels={str(level): count for level, count in sorted(counts.items())},
        bytes=collection.head.bytes,
        degraded=list(degraded(downloads, spec.id)),
    )


def _downloads(state: ApiState, downloads: DownloadsSnapshot) -> DownloadsStatus:
    pulse, counts = state.pulse, downloads.counts
    rates = pulse.rates
    return DownloadsStatus(
        queued=downloads.queued,
        running=downloads.running,
        chunks_in_flight=downloads.flights,
        chunks_fetched=counts.chunks_fetched,
        chunks_failed=sum(counts.chunks_failed.values()),
        blocks_per_second=round(rates.blocks, 2),
        bytes_per_second=round(rates.bytes),
        source_bytes=round(pulse.total.bytes),
        blocks=[
            _block(report, state.store.collection(report.collection).spec) for report in downloads.blocks
        ],
        failures=[_failure(failure) for failure in downloads.newest_failures],
    )


def _block(report: BlockReport, spec: CollectionSpec) -> BlockStatus:
    block = report.block
    return BlockStatus(
        collection=report.collection,
        bands=list(block.bands),
        level=block.level,
        datetime=None if block.time is None else str(spec.step(block.time)),
        row=block.chunks.row,
        col=block.chunks.col,
        rows=block.chunks.height,
        cols=block.chunks.width,
        chunks=block.chunks.pixels * len(block.bands),
        state="running" if report.running else "queued",
        seconds=round(max(0.0, report.seconds), 1),
        waiting=report.waiting,
    )


def _failure(failure: Failure) -> FailureStatus:
    failed = failure.failed
    return FailureStatus(
        at=failure.at,
        collection=failure.key.collection,
        chunk=failed.chunk,
        kind=failed.kind,
        detail=failed.detail,
    )


def _job(job: Job) -> JobStatus:
    spec = job.spec
    return JobStatus(
        id=job.id,
        kind=spec.kind,
        collection=None if spec.collection is None else spec.collection.id,
        status=job.state,
        progress=job.progress,
        chunks_done=job.counts.done,
        chunks_total=job.counts.total,
    )
