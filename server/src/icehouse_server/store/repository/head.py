"""The head of a repository: its latest snapshot, and all that is known of what is cached in it."""

from collections.abc import Sequence

import icechunk

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import ChunkKey
from icehouse_server.store.disk_quota import COMMIT_BYTES
from icehouse_server.store.layout import layout
from icehouse_server.store.layout.codec import void_chunk
from icehouse_server.store.layout.layout import Extent
from icehouse_server.store.repository.index import Index
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.repository.writer import EncodedChunk
from icehouse_server.store.translate_errors import translate_errors


class Head:
    """The latest snapshot of a repository, its index, and its decoded chunks.

    ``prepare``, ``publish`` and ``resume`` are the writer's: it calls them in its turn. Readers see a commit
    all at once, since the swap is one step of the event loop.

    Attributes:
        spec: the collection.
        repository: its repository.
        index: which chunks are cached.
        session: of the latest snapshot, read-only.
        bytes: what the repository takes on disk: measured by maintenance, and what was committed since.
        garbage: bytes that no snapshot needs any more, about.
    """

    def __init__(
        self,
        spec: CollectionSpec,
        repository: icechunk.Repository,
        session: icechunk.Session,
        *,
        index: Index,
        extent: Extent,
        shared: StoreResources,
    ) -> None:
        self.spec = spec
        self.repository = repository
        self.index = index
        self.session = session
        self.bytes: int | None = None
        self.garbage = 0
        self._extent = extent
        self._shared = shared
        self._decoded = shared.decoded
        self._opened_at = session.snapshot_id
        self._renewals = 0

    @property
    def snapshot(self) -> str:
        """Id of the latest snapshot."""
        return self.session.snapshot_id

    @property
    def generation(self) -> str:
        """What names the content of all chunks that are cached: it changes when one of them does, or goes.

        Chunks that were absent and are added leave it as it is, as snapshots do not.
        """
        return f"{self._opened_at}-{self._renewals}"

    async def prepare(self, session: icechunk.Session, chunks: tuple[EncodedChunk, ...]) -> None:
        """Extend the arrays where a chunk is of a level or a time step that is new."""
        extent = self._extent.holding(entry.chunk.key for entry in chunks)
        if extent != self._extent:
            await run_in(self._shared.pool, layout.reach, self.spec, session.store, extent)

    async def publish(self, snapshot: str, chunks: tuple[EncodedChunk, ...]) -> None:
        """Let readers see a commit."""
        with translate_errors("what was committed can't be read back"):
            session = await self.repository.readonly_session_async(snapshot_id=snapshot)
        again = tuple(entry.chunk.key for entry in chunks if self.index.has(entry.chunk.key))
        if again:
            self._decoded.drop(again)
            self._renewals += 1
        self._count_garbage(len(again))
        self.session = session
        self._extent = self._extent.holding(entry.chunk.key for entry in chunks)
        if self.bytes is not None:
            self.bytes += COMMIT_BYTES + sum(len(entry.data) for entry in chunks)
        self._shared.usage.wrote((entry.chunk.key, len(entry.data)) for entry in chunks)
        for entry in chunks:
            self._keep_decoded(entry)

    def _keep_decoded(self, entry: EncodedChunk) -> None:
        chunk = entry.chunk
        self.index.add(chunk.key, void=chunk.void)
        values = chunk.values
        if chunk.void:
            values = void_chunk(self.spec.band(chunk.key.band), self.spec.grid.chunk)
        values.flags.writeable = False
        self._decoded.put(chunk.key, values, generation=self._decoded.generation)

    async def publish_deletion(self, snapshot: str, keys: Sequence[ChunkKey]) -> None:
        """Let readers see a commit that has deleted chunks."""
        session = await self.repository.readonly_session_async(snapshot_id=snapshot)
        self.forget(keys)
        self.session = session
        self._count_garbage(len(keys))

    async def resume(self) -> None:
        """Go by the latest snapshot that there is: a commit may have landed that was reported as failed."""
        latest = await self.repository.readonly_session_async("main")
        if latest.snapshot_id != self.snapshot:
            self._extent = await run_in(self._shared.pool, Extent.of, latest.store)
            index = await Index.load(self.spec, latest, self._extent.levels)
            self._decoded.drop(tuple(self.index.keys()))
            self._renewals += 1
            self.index.become(index)
            self.session = latest

    def forget(self, keys: Sequence[ChunkKey]) -> None:
        """Count chunks as absent."""
        for key in keys:
            self.index.discard(key)
        self._decoded.drop(tuple(keys))
        self._renewals += 1

    def _count_garbage(self, chunks: int) -> None:
        """Add what a commit leaves behind: its own files, and chunks that it has replaced or deleted."""
        each = self.spec.grid.chunk**2 * max(band.dtype.itemsize for band in self.spec.bands)
        self.garbage += COMMIT_BYTES + chunks * each
