"""One collection's repository: a facade over its head, leases, reader, void scan, files and mutations."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import IcehouseError, StoreError
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import FilledChunk, Pixels
from icehouse_server.store.layout.layout import Extent
from icehouse_server.store.repository.files import RepositoryFiles
from icehouse_server.store.repository.head import Head
from icehouse_server.store.repository.index import Index
from icehouse_server.store.repository.leases import Lease, Leases
from icehouse_server.store.repository.mutations import Collected, Mutations
from icehouse_server.store.repository.opening import open_repository
from icehouse_server.store.repository.reader import Reader
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.repository.void_scan import SmallChunks, VoidScan
from icehouse_server.store.repository.writer import Writer
from icehouse_server.store.translate_errors import first_line, is_cancellation

_READS_AT_ONCE = 32
"""Chunks of a collection that are read from the repository at once: it bounds the compressed bytes held."""


class CollectionStore:
    """The repository of one collection. Use ``open``; everything else runs on the event loop.

    Attributes:
        spec: the collection.
        folder: where the repository is.
        head: its latest snapshot, and what is known of it.
        index: which chunks are cached.
        void_scan: finds out which of them are void.
        files: the repository's own files, for Icechunk's readers.
        writer: serialises what changes it.
    """

    def __init__(self, head: Head, folder: Path, shared: StoreResources) -> None:
        self.spec = head.spec
        self.folder = folder
        self.head = head
        self.index = head.index
        reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._leases = Leases(head, shared.decoded)
        self._reader = Reader(head, shared, reads)
        self.void_scan = VoidScan(
            head, self._leases, self._reader, SmallChunks(self.spec.grid.chunk, shared.pool, reads)
        )
        self.files = RepositoryFiles(folder, head, self._leases, shared.pool)
        self.writer = Writer(
            head.repository,
            prepare=head.prepare,
            publish=head.publish,
            resume=head.resume,
            timeout=shared.write_timeout,
        )
        self._mutations = Mutations(head, self._leases, self.writer, folder=folder, shared=shared)

    @classmethod
    async def open(cls, spec: CollectionSpec, folder: Path, shared: StoreResources) -> "CollectionStore":
        """Open a collection's repository, or create it.

        Must be called while holding the cache folder's lock.

        Raises:
            RepositoryForeignError: the folder holds something else; it is left untouched.
            StoreError: it can't be read.
        """
        try:
            repository = await run_in(shared.pool, open_repository, spec, folder)
            session = await repository.readonly_session_async("main")
            extent = await run_in(shared.pool, Extent.of, session.store)
            index = await Index.load(spec, session, extent.levels)
        except IcehouseError:
            raise
        except BaseException as error:
            if is_cancellation(error):
                raise
            raise StoreError(
                f"the repository of collection {spec.id!r} can't be opened: {first_line(error)}",
                hint=f"move collections/{folder.name} out of the cache folder; it will be fetched again",
            ) from error
        head = Head(spec, repository, session, index=index, extent=extent, shared=shared)
        return cls(head, folder, shared)

    @property
    def snapshot(self) -> str:
        """Id of the latest snapshot."""
        return self.head.snapshot

    @property
    def generation(self) -> str:
        """What names the content of all chunks that are cached; see ``Head.generation``."""
        return self.head.generation

    @property
    def leases(self) -> int:
        """Leases held."""
        return self._leases.count

    @property
    def damaged(self) -> int:
        """Chunks that could not be read back so far."""
        return self._reader.damaged

    async def fault(self, seconds: float) -> str:
        """Return the error that keeps the repository from being read, or an empty string. Reads one file.

        Args:
            seconds: to wait for the disk at most.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.head.repository.lookup_branch_async("main")
        except BaseException as error:
            if is_cancellation(error):
                raise
            return type(error).__name__
        return ""

    async def close(self) -> None:
        """Write what waits, then stop. Safe to call twice."""
        await self.writer.close()

    # Writing

    async def commit(self, chunks: tuple[FilledChunk, ...]) -> None:
        """Encode chunks and have them committed; all are readable when this returns.

        Raises:
            DiskFullError: no room, on the disk or under the limit that is set.
            StoreError: the repository did not take them.
        """
        await self._mutations.commit(chunks)

    async def drop(self, keys: Sequence[ChunkKey], why: str) -> int:
        """Delete chunks: they are absent afterwards, and their bytes are free once they are collected.

        Args:
            keys: the chunks; those that are not cached are passed over.
            why: for the commit's message, such as "evict".

        Returns:
            How many were deleted.

        Raises:
            StoreError: the repository did not take it.
        """
        return await self._mutations.drop(keys, why)

    async def collect(self, keep: float, *, garbage: int = 0) -> Collected:
        """Expire old snapshots, and delete what no snapshot and no lease needs any more.

        Runs in the writer's turn, so no chunk lies there that a commit is still to name; leased snapshots
        and tags are spared. Expiry takes milliseconds; deleting looks at every file (*measured*: 2 s of
        processor time for 100,000 chunks), during which nothing is written.

        Args:
            keep: seconds for which a snapshot stays readable.
            garbage: bytes of garbage that are worth looking for; less is left for a later time.

        Raises:
            StoreError: the repository or the disk refused.
        """
        return await self._mutations.collect(keep, garbage)

    def forget(self, keys: Sequence[ChunkKey]) -> None:
        """Count chunks as absent, because they could not be read back; they will be written anew."""
        self.head.forget(keys)

    # Reading

    def lease(self, snapshot: str | None = None) -> AbstractAsyncContextManager[Lease]:
        """Pin the latest snapshot, or one that is named (by id or tag).

        Raises:
            UnknownSnapshotError: there is none of this name.
        """
        return self._leases.lease(snapshot)

    async def read(
        self,
        lease: Lease,
        band: BandSpec,
        window: Window,
        keys: Sequence[ChunkKey],
        out: Pixels | None = None,
    ) -> Pixels:
        """Read a window of a band from the leased snapshot.

        Args:
            lease: what to read.
            band: which band.
            window: pixels of the grid at the level of the chunks, inside it.
            keys: the chunks to be read, all of one level and time step; elsewhere the window holds the band's
                fill.
            out: where to write the pixels: (rows, columns) of the band's dtype; a new array by default.

        Returns:
            ``out``, or a new one of the same kind, C-contiguous and writable.

        Raises:
            DamagedChunksError: some of the chunks are not there, or can't be read back.
        """
        return await self._reader.read(lease, band, window, keys, out)

    async def stored(self, lease: Lease, key: ChunkKey) -> memoryview:
        """Return a chunk as it is stored: Zarr's bytes, encoded, with their checksum checked.

        Raises:
            DamagedChunksError: it is not there, or can't be read back.
        """
        return await self._reader.stored(lease, key)

    async def absent(self, lease: Lease, keys: Sequence[ChunkKey]) -> tuple[ChunkKey, ...]:
        """Return the chunks that the leased snapshot lacks."""
        return await self._reader.absent(lease, keys)
