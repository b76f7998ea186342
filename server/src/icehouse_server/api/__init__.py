"""The HTTP interface: one module a resource, and the table that maps errors to statuses."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from icehouse_server.api import collections, coverage, health, landing, plan, points, problems
from icehouse_server.api.guards import HeadAsGet, HostGuard, RequestLog, SizeLimits
from icehouse_server.api.metrics import Metrics, TrafficSnapshot
from icehouse_server.api.state import ApiState
from icehouse_server.api.strict import refuse_other_media_types, refuse_unread_parameters

__all__ = ["ApiState", "HostGuard", "Metrics", "RequestLog", "TrafficSnapshot", "create_api"]

type Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_DESCRIPTION = """Regions of remote Earth-observation rasters, fetched once, kept on this machine.

Axis order is **x, y (lon, lat) for every CRS**. Errors are RFC 9457 problems with a stable `kind`."""


def create_api(
    *, version: str, max_body_bytes: int, allowed_hosts: Iterable[str], lifespan: Lifespan
) -> FastAPI:
    """Make the application; its lifespan must put an ``ApiState`` into ``app.state.icehouse``."""
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs-static",
        title="Icehouse",
        version=version,
        description=_DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        redirect_slashes=False,
        dependencies=[Depends(refuse_unread_parameters), Depends(refuse_other_media_types)],
        responses=problems.RESPONSES,
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(SizeLimits, body=max_body_bytes)
    app.add_middleware(HostGuard, allowed=tuple(allowed_hosts))
    app.add_middleware(RequestLog)  # the outermost: it sees what the guard refuses, too
    problems.install(app)
    for module in (landing, collections, coverage, plan, points, health):
        app.include_router(module.router)
    return app
