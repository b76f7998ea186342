"""The composition root: builds every part from the settings, and closes them in the right order."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Barrier

import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from icehouse_server.api import Access, ApiState, Metrics, Observed, Streams, TokenRule, create_api
from icehouse_server.collections import read_collections
from icehouse_server.core.addresses import HostPattern, PublicUrl, host_of_address, parse_network
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import ConfigurationError, IcehouseError
from icehouse_server.core.ports import Documents, Source
from icehouse_server.downloads import CollectionPipeline, Downloads, DownloadSettings
from icehouse_server.raster.gdal_memory import bound_block_cache
from icehouse_server.service import (
    CacheFolderProbe,
    CubeService,
    CubeSettings,
    Inventory,
    Jobs,
    JobSettings,
    LoopLagMonitor,
    ServiceParts,
    ServiceSettings,
    ThroughputMonitor,
    TileService,
    TileSettings,
    Totals,
)
from icehouse_server.settings import Settings, fill, user_collections_dir
from icehouse_server.sources import SourceContext, create_source
from icehouse_server.store import (
    FolderLock,
    SidecarDb,
    SqliteDocuments,
    Store,
    StoreSettings,
    folder_bytes,
)

log = structlog.get_logger(__name__)

_IO_THREADS = 16
"""Threads that wait for metadata of sources; apart from those that compute, so that neither starves."""


def create_app(settings: Settings) -> FastAPI:
    """Make the daemon as an ASGI application. It opens its cache when its lifespan begins.

    Raises:
        ConfigurationError: the token file can't be used.
    """
    token = settings.read_token()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_daemon(settings) as state:
            app.state.icehouse = state
            # FastAPI prepares them when first asked; no request need wait.
            list(iter_route_contexts(app.routes))
            yield

    return create_api(
        version=version("icehouse-server"),
        max_body_bytes=settings.max_body_bytes,
        access=_access(settings),
        lifespan=lifespan,
        token=None
        if token is None
        else TokenRule(token=token.encode(), for_reading=settings.token_for_reading),
    )


def _access(settings: Settings) -> Access:
    """Return under which addresses the API is reached."""
    public = None if settings.public_url is None else PublicUrl.parse(settings.public_url)
    hosts = [HostPattern.parse(host) for host in settings.allowed_hosts]
    return Access(
        allowed_hosts=tuple(hosts if public is None else [*hosts, HostPattern(name=public.name)]),
        name=None if host_of_address(settings.host.strip("[]")) else settings.host,
        public_url=public,
        trusted_proxies=tuple(parse_network(proxy) for proxy in settings.trusted_proxies),
        cors_origins=settings.cors_origins,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What everything else is built on: the cache folder is locked, its repositories are open."""

    settings: Settings
    folder: Path
    compute: ThreadPoolExecutor
    waiting: ThreadPoolExecutor
    context: SourceContext
    store: Store
    downloads: Downloads
    crashed: bool
    """The daemon before this one did not stop by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Monitors:
    """What watches the daemon while it runs."""

    loop: LoopLagMonitor
    folder: CacheFolderProbe
    throughput: ThroughputMonitor


@asynccontextmanager
async def open_daemon(settings: Settings) -> AsyncIterator[ApiState]:
    """Open the cache and everything that works on it.

    Raises:
        ConfigurationError: settings or a collection file can't be used.
        CacheFolderLockedError: another daemon owns the cache folder.
        RepositoryForeignError: a repository is not ours to use.
    """
    bound_block_cache()
    async with AsyncExitStack() as stack:
        base = await _open_base(settings, stack)
        store, downloads = base.store, base.downloads
        limits = fill(ServiceSettings, settings)
        parts = ServiceParts.assemble(store, downloads, limits, pool=base.compute)
        jobs = Jobs(store, downloads, parts.disk_guard, fill(JobSettings, settings), pool=base.compute)
        stack.push_async_callback(jobs.close)
        for collection in store.collections.values():
            await parts.coverages.warm_up(collection.spec)
        store.maintenance.start(crashed=base.crashed)
        monitors = _start_monitors(base, stack)
        log.info(
            "ready",
            cache_dir=str(base.folder),
            collections=len(store.collections) + len(store.set_aside),
            chunks=sum(len(collection.index) for collection in store.collections.values()),
        )
        yield _state(base, limits, parts, jobs, monitors)


async def _open_base(settings: Settings, stack: AsyncExitStack) -> _Base:
    """Lock the cache folder and open what is in it; the stack closes all of it, the last opened first."""
    wrong: dict[str, IcehouseError] | None = None if settings.strict else {}
    specs = read_collections(user_collections_dir(settings.collections_dir), settings.collections, wrong)
    folder = settings.cache_folder
    lock = FolderLock(folder)
    lock.acquire()
    stack.callback(lock.release)
    compute = _pool(stack, settings.worker_threads, "compute")
    waiting = _pool(stack, _IO_THREADS, "io")
    notes = SidecarDb(folder / "notes.sqlite", waiting)
    stack.callback(notes.close)
    context = source_context(settings, SqliteDocuments(notes), waiting)
    sources = _sources(specs, context, wrong)
    for source in sources.values():
        stack.push_async_callback(source.close)
    store = await Store.open(
        folder,
        [specs[name] for name in sources],
        fill(StoreSettings, settings),
        notes=notes,
        pool=compute,
        wrong=wrong or {},
    )
    stack.push_async_callback(store.close)
    downloads = _downloads(settings, store, sources, compute)
    stack.push_async_callback(downloads.close)
    return _Base(
        settings=settings,
        folder=folder,
        compute=compute,
        waiting=waiting,
        context=context,
        store=store,
        downloads=downloads,
        crashed=lock.crashed,
    )


def _sources(
    specs: Mapping[str, CollectionSpec], context: SourceContext, wrong: dict[str, IcehouseError] | None
) -> dict[str, Source]:
    """Make the sources; ``wrong`` gets why one refuses its table, which is raised where it is None."""
    sources: dict[str, Source] = {}
    for name, spec in specs.items():
        try:
            sources[name] = create_source(spec, context)
        except ConfigurationError as error:
            if wrong is None:
                raise
            wrong[name] = error
    return sources


def _start_monitors(base: _Base, stack: AsyncExitStack) -> _Monitors:
    loop, folder = LoopLagMonitor(), CacheFolderProbe(base.folder)
    stack.callback(folder.close)
    sampling = asyncio.create_task(loop.run(), name="loop lag")
    stack.callback(sampling.cancel)
    throughput = ThroughputMonitor(lambda: _amounts(base.downloads, base.context))
    measuring = asyncio.create_task(throughput.run(), name="throughput")
    stack.callback(measuring.cancel)
    return _Monitors(loop=loop, folder=folder, throughput=throughput)


def _state(
    base: _Base, limits: ServiceSettings, parts: ServiceParts, jobs: Jobs, monitors: _Monitors
) -> ApiState:
    settings, store, downloads, pool = base.settings, base.store, base.downloads, base.compute
    timeout = limits.request_timeout
    cubes = CubeService(
        store, parts.fetcher, parts.admission, fill(CubeSettings, settings), timeout=timeout, pool=pool
    )
    tiles = TileService(store, parts.coverages, fill(TileSettings, settings), limits=limits.limits, pool=pool)
    observed = Observed(
        store=store,
        downloads=downloads,
        budget=parts.admission.budget,
        disk_floor=limits.disk_floor,
        jobs=jobs,
        traffic=base.context.hosts.traffic.snapshot,
        loop=monitors.loop,
        folder=monitors.folder,
        pools={"compute": base.compute, "io": base.waiting},
    )
    return ApiState(
        settings=limits,
        store=store,
        downloads=downloads,
        budget=parts.admission.budget,
        planner=parts.planner,
        coverages=parts.coverages,
        cubes=cubes,
        tiles=tiles,
        jobs=jobs,
        inventory=Inventory(store, downloads, timeout=timeout, pool=pool),
        streams=Streams(settings.max_event_streams),
        pulse=monitors.throughput,
        metrics=Metrics(observed),
        loop=monitors.loop,
        folder=monitors.folder,
        version=version("icehouse-server"),
    )


@asynccontextmanager
async def open_store(settings: Settings, spec: CollectionSpec) -> AsyncIterator[Store]:
    """Open the repository of one collection, without a daemon, to write to it.

    Raises:
        CacheFolderLockedError: a daemon owns the cache folder.
        RepositoryForeignError: the repository is not ours to use.
    """
    folder = settings.cache_folder
    async with AsyncExitStack() as stack:
        lock = FolderLock(folder)
        lock.acquire()
        stack.callback(lock.release)
        pool = _pool(stack, settings.worker_threads, "compute")
        notes = SidecarDb(folder / "notes.sqlite", pool)
        stack.callback(notes.close)
        store = await Store.open(folder, [spec], fill(StoreSettings, settings), notes=notes, pool=pool)
        stack.push_async_callback(store.close)
        store.room.measured(await asyncio.to_thread(folder_bytes, folder / "collections"))
        yield store


def _pool(stack: AsyncExitStack, threads: int, name: str) -> ThreadPoolExecutor:
    """Make a pool and start its threads: when they are needed, the system may have none to give."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    started = Barrier(threads)
    try:
        for _ in range(threads):
            pool.submit(started.wait)
    except RuntimeError as error:
        started.abort()
        raise ConfigurationError(
            f"the system does not let the daemon start {threads} threads",
            hint="raise the limit of processes and threads (ulimit -u), or lower worker_threads",
        ) from error
    return pool


def _amounts(downloads: Downloads, context: SourceContext) -> Totals:
    """Return what the downloads have brought since the start."""
    received = sum(traffic.bytes for traffic in context.hosts.traffic.snapshot().values())
    return Totals(blocks=downloads.snapshot().counts.blocks_fetched, bytes=received)


def source_context(settings: Settings, documents: Documents, pool: ThreadPoolExecutor) -> SourceContext:
    """Make what sources get, from the settings."""
    return fill(
        SourceContext,
        settings,
        documents=documents,
        pool=pool,
        user_agent=f"icehouse/{version('icehouse-server')}",
    )


def _downloads(
    settings: Settings, store: Store, sources: Mapping[str, Source], pool: ThreadPoolExecutor
) -> Downloads:
    supplies = {
        name: CollectionPipeline(source=sources[name], presence=collection.index, sink=collection)
        for name, collection in store.collections.items()
    }
    patience = 3 * settings.write_timeout  # one for room, two for the writer
    return Downloads(supplies, fill(DownloadSettings, settings, commit_timeout=patience), pool=pool)
