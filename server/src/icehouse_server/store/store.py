"""``Store``: the repositories of all collections, in one cache folder."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from types import MappingProxyType

import structlog

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import (
    ConfigurationError,
    IcehouseError,
    RepositoryForeignError,
    StoreError,
    UnknownCollectionError,
)
from icehouse_server.core.limits import MaintenanceSettings, StoreSettings
from icehouse_server.store.disk_quota import DiskQuota
from icehouse_server.store.maintenance import Maintenance
from icehouse_server.store.repository.collection import CollectionStore
from icehouse_server.store.repository.decoded import DecodedCache
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.sidecar import SidecarDb
from icehouse_server.store.usage import Usage

log = structlog.get_logger(__name__)


class Store:
    """The repositories of all collections, in one cache folder.

    Attributes:
        folder: the cache folder.
        collections: the open repositories by collection id.
        set_aside: why a collection's repository or file can't be used, by collection id.
        decoded: the cache of decoded chunks that they share.
        room: what they take on disk.
        maintenance: expiry, collection and eviction; runs on its own once it was started.
    """

    def __init__(
        self,
        folder: Path,
        collections: Mapping[str, CollectionStore],
        shared: StoreResources,
        settings: MaintenanceSettings,
        *,
        set_aside: Mapping[str, IcehouseError],
    ) -> None:
        self.folder = folder
        self.collections = MappingProxyType(dict(collections))
        self.set_aside = MappingProxyType(dict(set_aside))
        self.decoded = shared.decoded
        self.room = shared.room
        self.maintenance = Maintenance(self.collections, shared, settings)

    @classmethod
    async def open(
        cls,
        folder: Path,
        specs: Iterable[CollectionSpec],
        settings: StoreSettings,
        *,
        notes: SidecarDb,
        pool: Executor,
        wrong: Mapping[str, IcehouseError] = MappingProxyType({}),
    ) -> "Store":
        """Open the repositories of these collections under ``folder/collections``.

        Must be called while holding the folder's lock. What can't be opened is set aside, so that one damaged
        repository does not keep the others from being served; so are ``wrong``, collections whose files can't
        be used, by id.

        Raises:
            RepositoryForeignError: no repository can be opened: the first folder holds something else.
            StoreError: no repository can be opened: the first can't be read.
            ConfigurationError: nothing can be served: the first collection file can't be used.
        """
        shared = StoreResources(
            decoded=DecodedCache(settings.decoded_cache_bytes),
            pool=pool,
            room=DiskQuota(settings.max_cache_bytes),
            usage=Usage(notes),
            write_timeout=settings.write_timeout,
        )
        opened: dict[str, CollectionStore] = {}
        failed: dict[str, IcehouseError] = dict(wrong)
        try:
            for spec in specs:
                place = folder / "collections" / spec.id
                try:
                    opened[spec.id] = await CollectionStore.open(spec, place, shared)
                except (RepositoryForeignError, StoreError) as error:
                    failed[spec.id] = error
        except BaseException:
            await asyncio.gather(*(collection.close() for collection in opened.values()))
            raise
        if failed and not opened:
            raise next(iter(failed.values()))
        for name, why in failed.items():
            log.error("a collection is set aside", collection=name, error=why.detail, hint=why.hint)
        return cls(folder, opened, shared, settings.maintenance, set_aside=failed)

    def collection(self, name: str) -> CollectionStore:
        """Return an open collection.

        Raises:
            StoreError: it was set aside: its repository or its file can't be used.
            UnknownCollectionError: there is none of this id.
        """
        found = self.collections.get(name)
        if name in self.set_aside:
            file_is_wrong = isinstance(self.set_aside[name], ConfigurationError)
            what = (
                "its collection file can't be used" if file_is_wrong else "its repository could not be opened"
            )
            raise StoreError(
                f"collection {name!r} is set aside: {what}",
                hint="the daemon's log says why and what to do",
            )
        if found is None:
            raise UnknownCollectionError(
                f"there is no collection {name[:80]!r}",
                hint=f"there are {', '.join(sorted(self.collections))}",
            )
        return found

    async def close(self) -> None:
        """Write what waits, then stop every writer. Safe to call twice."""
        await self.maintenance.close()
        await asyncio.gather(*(collection.close() for collection in self.collections.values()))
