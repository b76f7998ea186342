"""What the routes need, put into the application by the composition root."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from icehouse_server.aio.cached_probe import CachedProbe
from icehouse_server.api.access import public_url
from icehouse_server.api.observability.metrics import Metrics
from icehouse_server.api.responses.event_streams import Streams
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.downloads import Downloads
from icehouse_server.service import (
    CacheFolderProbe,
    CoverageService,
    CubeService,
    Inventory,
    Jobs,
    LoopLagMonitor,
    MemoryBudget,
    Planner,
    ServiceSettings,
    ThroughputMonitor,
    TileService,
)
from icehouse_server.store import Store

_STATUS_FOR = 0.5
"""Seconds for which a status is sent to further streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    """Shared by all requests."""

    settings: ServiceSettings
    store: Store
    downloads: Downloads
    budget: MemoryBudget
    planner: Planner
    coverages: CoverageService
    cubes: CubeService
    tiles: TileService
    jobs: Jobs
    inventory: Inventory
    streams: Streams
    metrics: Metrics
    pulse: ThroughputMonitor
    loop: LoopLagMonitor
    folder: CacheFolderProbe
    version: str
    status: CachedProbe[tuple[dict[str, Any], str]] = field(default_factory=lambda: CachedProbe(_STATUS_FOR))
    """What makes the status worth telling, and its document as JSON."""


async def api_state(request: Request) -> ApiState:
    """Return the application's state. Async, as all dependencies are: others cost a thread's turn each."""
    state = request.app.state.icehouse
    if not isinstance(state, ApiState):
        raise TypeError("the application was not put together by its composition root")
    return state


State = Annotated[ApiState, Depends(api_state)]


async def collection_spec(state: State, collection: str) -> CollectionSpec:
    """Return the collection that the path names.

    Raises:
        UnknownCollectionError: there is none.
    """
    return state.store.collection(collection).spec


Spec = Annotated[CollectionSpec, Depends(collection_spec)]


def base_url(request: Request) -> str:
    """Return the URL under which the client reached the daemon, without a slash at its end."""
    return str(public_url(request.scope) or request.base_url).rstrip("/")
