"""``/healthz``, ``/readyz``, ``/metrics``: alive, ready, and figures."""

import asyncio
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import JSONResponse

from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import json_answer
from icehouse_server.api.parameters.documents import DOCUMENT
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.state import ApiState, State
from icehouse_server.downloads import DownloadsSnapshot
from icehouse_server.store import Store

router = APIRouter(tags=["health"])

_LATE = 5.0
"""Seconds by which the event loop may wake too late before the daemon counts as not ready."""

_LATE_WITHIN = 15.0
"""Seconds for which such a delay counts."""

_TROUBLE_WITHIN = 300.0
"""Seconds for which the last failure of a collection's source counts, where nothing came through since."""

_PATIENCE = 2.0
"""Seconds that a repository may take to show that it can be read."""

CODES = {
    "writer-ended": "the writer of the collection has ended: nothing new can be kept",
    "writer-stuck": "a commit takes longer than write_timeout; nothing else is written until it ends",
    "repository-unreadable": "the repository of the collection can't be read",
    "collection-set-aside": "the repository or the file of the collection can't be used; the log says why",
    "cache-folder-gone": "the cache folder that the daemon has opened is not there any more",
    "cache-folder-not-writable": "the cache folder takes no file",
    "disk-silent": "the disk of the cache folder does not answer",
    "disk-low": "less is free on the disk than disk_floor",
    "queue-full": "as many blocks wait as max_queued_blocks allows",
    "loop-late": "the event loop was blocked for seconds a moment ago",
    "shutting-down": "the daemon is stopping",
}
"""Why the daemon is not ready. Codes are stable: they are added, never changed."""


class Reason(BaseModel):
    """Why the daemon is not ready, or a collection not quite."""

    code: str
    detail: str
    collection: str | None = None


@router.get("/healthz", dependencies=DOCUMENT)
async def get_health() -> dict[str, str]:
    """Alive: the event loop answers."""
    return {"status": "ok"}


_READINESS = json_answer(schemas.READINESS)
_TEXT = {CONTENT_TYPE_LATEST.partition(";")[0]: {"schema": {"type": "string"}}}


@router.get(
    "/readyz",
    dependencies=DOCUMENT,
    responses={200: _READINESS, 503: {"description": "Not ready; the answer says why.", **_READINESS}},
)
async def get_readiness(state: State) -> Response:
    """Ready to load: repositories open, writers alive, disk not full. Says what is not."""
    document = await readiness(state)
    return JSONResponse(document, 200 if document["ready"] else 503, headers={"Cache-Control": "no-store"})


@router.get("/metrics", dependencies=[LENIENT], response_class=Response, responses={200: {"content": _TEXT}})
async def get_metrics(state: State) -> Response:
    """Figures for Prometheus."""
    await state.folder.look()
    return Response(state.metrics.render(), media_type=CONTENT_TYPE_LATEST)


async def readiness(state: ApiState) -> dict[str, Any]:
    """Return whether the daemon can serve, and why not."""
    why = await reasons(state)
    downloads = state.downloads.snapshot()
    return {
        "ready": not why,
        "reasons": [reason.model_dump(exclude_none=True) for reason in why],
        "version": state.version,
        "collections": {
            name: {
                "chunks": len(collection.index),
                "snapshot": collection.snapshot,
                "degraded": [reason.model_dump(exclude_none=True) for reason in degraded(downloads, name)],
            }
            for name, collection in state.store.collections.items()
        },
        "downloads": {"queued": downloads.queued, "running": downloads.running},
        "memory": {"decoded_bytes": state.store.decoded.bytes, "answer_bytes": state.budget.held},
        "disk": {"free_bytes": state.folder.last.free, "floor_bytes": state.settings.disk_floor},
    }


async def reasons(state: ApiState) -> list[Reason]:
    """Return why the daemon is not ready; nothing where it is."""
    await state.folder.look()
    return [*_of_the_daemon(state), *await _of_collections(state.store)]


def _reason(code: str, more: str = "", collection: str | None = None) -> Reason:
    return Reason(code=code, detail=f"{CODES[code]}{more and f': {more}'}", collection=collection)


def _of_the_daemon(state: ApiState) -> Iterator[Reason]:
    downloads, folder = state.downloads.snapshot(), state.folder.last
    floor, most = state.settings.disk_floor, downloads.settings.max_queued_blocks
    if folder.fault:
        yield _reason(folder.fault, folder.detail)
    if folder.free is not None and folder.free < floor:
        yield _reason("disk-low", f"{folder.free} bytes free, the floor is {floor}")
    if downloads.closed:
        yield _reason("shutting-down")
    if downloads.queued >= most:
        yield _reason("queue-full", f"{downloads.queued} of {most}")
    delay = state.loop.worst(_LATE_WITHIN)
    if delay >= _LATE:
        yield _reason("loop-late", f"{delay:.1f} s")


async def _of_collections(store: Store) -> list[Reason]:
    collections = store.collections
    faults = await asyncio.gather(*(collection.fault(_PATIENCE) for collection in collections.values()))
    reasons = [_reason("collection-set-aside", collection=name) for name in store.set_aside]
    for (name, collection), fault in zip(collections.items(), faults, strict=True):
        if fault:
            reasons.append(_reason("repository-unreadable", fault, name))
        if not collection.writer.alive:
            reasons.append(_reason("writer-ended", collection=name))
        elif collection.writer.overdue:
            reasons.append(_reason("writer-stuck", collection=name))
    return reasons


def degraded(downloads: DownloadsSnapshot, name: str) -> Iterator[Reason]:
    """Say what hinders one collection's source: what is cached is served all the same."""
    trouble = downloads.last_failure(name, within=_TROUBLE_WITHIN)
    if trouble is not None:
        yield Reason(code=trouble.kind, detail=trouble.detail)
