"""The state of the API, without a daemon around it."""

from concurrent.futures import Executor
from pathlib import Path
from types import SimpleNamespace

from icehouse_server.api import ApiState, Metrics, Observed, Streams
from icehouse_server.core.limits import Limits
from icehouse_server.service import (
    CacheFolderProbe,
    CubeService,
    CubeSettings,
    Inventory,
    LoopLagMonitor,
    ServiceSettings,
    ThroughputMonitor,
    TileService,
    TileSettings,
    Totals,
)
from support.services import Services

_TIMEOUT = 300.0


def make_state(
    folder: Path,
    made: Services,
    settings: ServiceSettings,
    *,
    pool: Executor,
    cubes: CubeSettings | None = None,
) -> ApiState:
    """Return what the routes work with; no monitor of it runs, and its probe of the folder is to be closed.

    Args:
        folder: the cache folder.
        made: the services.
        settings: those that the services were opened with.
        pool: threads.
        cubes: settings of the cubes.
    """
    store, downloads, parts = made.store, made.downloads, made.service
    loop, probe = LoopLagMonitor(), CacheFolderProbe(folder)
    jobs = SimpleNamespace(by_state={})
    metrics = Metrics(
        Observed(
            store=store,
            downloads=downloads,
            budget=parts.admission.budget,
            disk_floor=settings.disk_floor,
            jobs=jobs,  # type: ignore[arg-type]
            traffic=dict,
            loop=loop,
            folder=probe,
            pools={"compute": pool},  # type: ignore[dict-item]
        )
    )
    return ApiState(
        settings=settings,
        store=store,
        downloads=downloads,
        budget=parts.admission.budget,
        planner=parts.planner,
        coverages=parts.coverages,
        cubes=CubeService(
            store, parts.fetcher, parts.admission, cubes or CubeSettings(), timeout=_TIMEOUT, pool=pool
        ),
        jobs=jobs,  # type: ignore[arg-type]
        metrics=metrics,
        tiles=TileService(store, parts.coverages, TileSettings(), limits=Limits(), pool=pool),
        inventory=Inventory(store, downloads, timeout=_TIMEOUT, pool=pool),
        streams=Streams(9),
        pulse=ThroughputMonitor(lambda: Totals(blocks=0, bytes=0)),
        loop=loop,
        folder=probe,
        version="0",
    )
