"""The services of a daemon without HTTP, in the test's own process."""

from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.ports import Source
from icehouse_server.downloads import CollectionPipeline, Downloads, DownloadSettings
from icehouse_server.service import ServiceParts, ServiceSettings
from icehouse_server.store import Store, StoreSettings
from support.stores import open_store


@dataclass(frozen=True, kw_only=True)
class Services:
    """What `open_services` opens.

    Attributes:
        store: the repositories.
        downloads: from the sources into the repositories.
        service: what answers requests.
    """

    store: Store
    downloads: Downloads
    service: ServiceParts


@asynccontextmanager
async def open_services(
    folder: Path,
    specs: Iterable[CollectionSpec],
    sources: Mapping[str, Source],
    *,
    pool: Executor,
    store: StoreSettings,
    downloads: DownloadSettings,
    service: ServiceSettings,
) -> AsyncIterator[Services]:
    """Open a store, with downloads into it and services on it; close them afterwards.

    Args:
        folder: the cache folder; may be one that another test or a crash has left.
        specs: the collections.
        sources: by collection.
        pool: threads for what blocks.
        store: settings of the store.
        downloads: settings of the downloads.
        service: settings of the services.
    """
    async with open_store(folder, specs, store, pool=pool) as opened:
        pipelines = {
            name: CollectionPipeline(source=sources[name], presence=collection.index, sink=collection)
            for name, collection in opened.collections.items()
        }
        fetching = Downloads(pipelines, downloads, pool=pool)
        try:
            parts = ServiceParts.assemble(opened, fetching, service, pool=pool)
            yield Services(store=opened, downloads=fetching, service=parts)
        finally:
            await fetching.close()
