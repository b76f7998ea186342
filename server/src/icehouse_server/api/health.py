"""``/healthz``, ``/readyz``, ``/metrics``: alive, ready, and figures."""

import shutil
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

from icehouse_server.api.state import ApiState, State

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_health() -> dict[str, str]:
    """Alive: the event loop answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "Not ready; the answer says why."}})
async def get_readiness(state: State) -> Response:
    """Ready to load: repositories open, writers alive, disk not full. Says what is not."""
    document = readiness(state)
    return JSONResponse(document, 200 if document["ready"] else 503, headers={"Cache-Control": "no-store"})


@router.get("/metrics", response_class=Response)
async def get_metrics(state: State) -> Response:
    """Figures for Prometheus."""
    return Response(state.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def readiness(state: ApiState) -> dict[str, Any]:
    """Return whether the daemon can serve, and why not."""
    service = state.service
    dead = [name for name, collection in service.collections.items() if not collection.writer.alive]
    disk = shutil.disk_usage(service.store.folder)
    reasons = [f"the writer of {name!r} has ended" for name in dead]
    if disk.free < service.settings.disk_floor:
        reasons.append(f"the disk has {disk.free} bytes free; the floor is {service.settings.disk_floor}")
    return {
        "ready": not reasons,
        "reasons": reasons,
        "version": state.version,
        "collections": {
            name: {"chunks": len(collection.index), "snapshot": collection.snapshot}
            for name, collection in service.collections.items()
        },
        "downloads": {"queued": service.downloads.queued, "running": service.downloads.running},
        "memory": {"decoded_bytes": service.store.decoded.bytes, "answer_bytes": service.budget.held},
        "disk": {"free_bytes": disk.free, "floor_bytes": service.settings.disk_floor},
    }
