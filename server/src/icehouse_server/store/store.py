"""``Store``: the repositories of all collections, in one cache folder."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.store.collection import CollectionStore
from icehouse_server.store.decoded import DecodedCache


class Store:
    """The repositories of all collections, in one cache folder.

    Attributes:
        folder: the cache folder.
        collections: the open repositories by collection id.
        decoded: the cache of decoded chunks that they share.
    """

    def __init__(
        self, folder: Path, collections: Mapping[str, CollectionStore], decoded: DecodedCache
    ) -> None:
        self.folder = folder
        self.collections = MappingProxyType(dict(collections))
        self.decoded = decoded

    @classmethod
    async def open(
        cls,
        folder: Path,
        specs: Iterable[CollectionSpec],
        *,
        pool: ThreadPoolExecutor,
        decoded_bytes: int,
        write_timeout: float,
    ) -> "Store":
        """Open the repositories of these collections under ``folder/collections``.

        Must be called while holding the folder's lock.

        Raises:
            RepositoryForeignError: a folder holds something else; it is left untouched.
            StoreError: a repository can't be read.
        """
        decoded = DecodedCache(decoded_bytes)
        opened: dict[str, CollectionStore] = {}
        try:
            for spec in specs:
                opened[spec.id] = await CollectionStore.open(
                    spec,
                    folder / "collections" / spec.id,
                    decoded=decoded,
                    pool=pool,
                    write_timeout=write_timeout,
                )
        except BaseException:
            await asyncio.gather(*(collection.close() for collection in opened.values()))
            raise
        return cls(folder, opened, decoded)

    async def close(self) -> None:
        """Write what waits, then stop every writer. Safe to call twice."""
        await asyncio.gather(*(collection.close() for collection in self.collections.values()))
