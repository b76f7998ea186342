"""The endpoints under `/_control/` by which a test or the demo steers a stand-in server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from icehouse_server.demo.faults import Fault, Script
from icehouse_server.demo.object_builder import Variant

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from icehouse_server.demo.traffic import Traffic

type Prepare = Callable[[list[str]], Awaitable[dict[str, int]]]
"""Builds files now: keys -> their sizes in bytes."""


def create_control_app(
    traffic: Traffic,
    script: Script,
    variants: dict[str, Variant],
    prepare: Prepare,
    more: Sequence[Route] = (),
) -> Starlette:
    """The control endpoints.

    Args:
        traffic: The server's counters and shape.
        script: The server's faults.
        variants: Files that lie, by key; the object store reads it at each request.
        prepare: Builds files.
        more: Endpoints that one server alone has.
    """
    routes = [
        Route("/_control/counters", counters, methods=["GET"]),
        Route("/_control/reset", reset, methods=["POST"]),
        Route("/_control/faults", set_faults, methods=["POST"]),
        Route("/_control/shape", shape, methods=["POST"]),
        Route("/_control/prepare", prepare_keys, methods=["POST"]),
        Route("/_control/variants", set_variants, methods=["POST"]),
        *more,
    ]
    app = Starlette(routes=routes, exception_handlers={ValueError: _unreadable, TypeError: _unreadable})
    app.state.traffic, app.state.script, app.state.variants, app.state.prepare = (
        traffic,
        script,
        variants,
        prepare,
    )
    return app


def _unreadable(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 400)


async def counters(request: Request) -> Response:
    """Requests, bytes and ranges since the last reset."""
    return JSONResponse(request.app.state.traffic.report())


async def reset(request: Request) -> Response:
    """Forget counts, faults and lies; what stalls goes on. The shape of the line stays."""
    request.app.state.traffic.reset()
    request.app.state.script.load([])
    request.app.state.variants.clear()
    return JSONResponse({})


async def set_faults(request: Request) -> Response:
    """Replace the script by the list of faults in the body."""
    document: list[dict[str, Any]] = await request.json()
    request.app.state.script.load([Fault.from_json(fault) for fault in document])
    return JSONResponse({})


async def shape(request: Request) -> Response:
    """Set latency (seconds) and bandwidth (bytes a second over all connections, null for no limit)."""
    document = await request.json()
    traffic = request.app.state.traffic
    traffic.latency = float(document.get("latency") or 0)
    traffic.bandwidth = None if document.get("bandwidth") is None else float(document["bandwidth"])
    return JSONResponse({})


async def prepare_keys(request: Request) -> Response:
    """Build the files of the keys in the body now. Answers with their sizes."""
    return JSONResponse(await request.app.state.prepare(await request.json()))


async def set_variants(request: Request) -> Response:
    """Replace the files that lie: key -> how."""
    document: dict[str, dict[str, Any]] = await request.json()
    read = {key: Variant(**fields) for key, fields in document.items()}
    request.app.state.variants.clear()
    request.app.state.variants.update(read)
    return JSONResponse({})
