"""The HTTP interface: one module a resource, and the table that maps errors to statuses."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.resources import files

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from icehouse_server.api.access import Access
from icehouse_server.api.middleware.cors import Cors
from icehouse_server.api.middleware.forwarded import ForwardedHeaders, UnderPrefix
from icehouse_server.api.middleware.head_as_get import HeadAsGet
from icehouse_server.api.middleware.host_guard import HostGuard
from icehouse_server.api.middleware.request_log import RequestLog
from icehouse_server.api.middleware.size_limits import SizeLimits
from icehouse_server.api.middleware.tokens import TokenGuard, TokenRule, guarded_operations, reading_paths
from icehouse_server.api.observability.metrics import Metrics, Observed, TrafficSnapshot
from icehouse_server.api.openapi import description
from icehouse_server.api.parameters.unknown_parameters import (
    refuse_other_media_types,
    refuse_unread_parameters,
)
from icehouse_server.api.responses import problems
from icehouse_server.api.responses.event_streams import Streams
from icehouse_server.api.routes import (
    collections,
    coverage,
    cube,
    health,
    inventory,
    jobs,
    landing,
    legends,
    page,
    plan,
    points,
    status,
    tile_matrix_sets,
    tiles,
    tilesets,
    wmts,
)
from icehouse_server.api.state import ApiState

__all__ = [
    "Access",
    "ApiState",
    "HostGuard",
    "Metrics",
    "Observed",
    "RequestLog",
    "Streams",
    "TokenRule",
    "TrafficSnapshot",
    "create_api",
]

type Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_DESCRIPTION = """Regions of remote Earth-observation rasters, fetched once, kept on this machine.

Axis order is **x, y (lon, lat) for every CRS**. Errors are RFC 9457 problems with a stable `kind`."""

_MODULES = (
    landing,
    page,
    collections,
    coverage,
    plan,
    points,
    cube,
    tiles,
    tilesets,
    tile_matrix_sets,
    wmts,
    legends,
    inventory,
    jobs,
    status,
    health,
)
"""One a resource, each with a router."""

_LOOPBACK = Access()


def create_api(
    *,
    version: str,
    max_body_bytes: int,
    lifespan: Lifespan,
    access: Access = _LOOPBACK,
    token: TokenRule | None = None,
) -> FastAPI:
    """Make the application; its lifespan must put an ``ApiState`` into ``app.state.icehouse``."""
    routers = [module.router for module in _MODULES]
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
        generate_unique_id_function=description.operation_id,
    )
    app.state.page = page.Page.read(files("icehouse_server") / "page")
    app.add_middleware(UnderPrefix)
    app.add_middleware(HeadAsGet)
    app.add_middleware(SizeLimits, body=max_body_bytes)
    if token is not None:
        app.add_middleware(TokenGuard, rule=token, reading=reading_paths(routers), page=app.state.page)
    if access.cors_origins:
        app.add_middleware(Cors, origins=access.cors_origins)
    app.add_middleware(HostGuard, allowed=access.allowed_hosts, name=access.name)
    app.add_middleware(ForwardedHeaders, access=access)
    app.add_middleware(RequestLog)  # the outermost: it sees what the guard refuses, too
    problems.install(app)
    for router in routers:
        app.include_router(router)
    guarded = frozenset[str]() if token is None else guarded_operations(routers, token)
    description.install(app, guarded)
    return app
