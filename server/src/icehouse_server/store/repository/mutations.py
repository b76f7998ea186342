"""Mutations: what changes a repository, each in the turn of its one writer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.ports import FilledChunk
from icehouse_server.store.disk_usage import trim
from icehouse_server.store.layout.codec import encode
from icehouse_server.store.repository.head import Head
from icehouse_server.store.repository.leases import Leases
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.repository.writer import EncodedChunk, Writer

DROPPED_AT_ONCE = 1000
"""Chunks that one call of ``drop`` is given at most: readers and writers get their turn in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection of garbage freed."""

    snapshots: int
    """Snapshots that expired."""
    bytes: int
    """Bytes of deleted files."""


class Mutations:
    """Commits chunks, deletes chunks, lets snapshots expire and collects garbage."""

    def __init__(
        self, head: Head, leases: Leases, writer: Writer, *, folder: Path, shared: StoreResources
    ) -> None:
        self._head = head
        self._leases = leases
        self._writer = writer
        self._folder = folder
        self._shared = shared
        self._expired = 0

    async def commit(self, chunks: tuple[FilledChunk, ...]) -> None:
        """Encode chunks and have them committed; see ``CollectionStore.commit``."""
        pool, room = self._shared.pool, self._shared.room
        datas = await asyncio.gather(*(run_in(pool, encode, chunk.values) for chunk in chunks))
        encoded = tuple(
            EncodedChunk(chunk=chunk, data=data) for chunk, data in zip(chunks, datas, strict=True)
        )
        size = sum(map(len, datas))
        await room.admit(size, 2 * self._shared.write_timeout)
        try:
            await self._writer.commit(encoded)
        finally:
            room.written(size)

    async def drop(self, keys: Sequence[ChunkKey], why: str) -> int:
        """Delete chunks; see ``CollectionStore.drop``."""
        head = self._head

        async def delete() -> int:
            present = [key for key in keys if head.index.has(key)]
            if not present:
                return 0
            session = await head.repository.writable_session_async("main")
            await asyncio.gather(*(session.store.delete(key.path) for key in present))
            snapshot = await session.commit_async(f"{why} {len(present)} chunk(s)")
            await head.publish_deletion(snapshot, present)
            return len(present)

        dropped = await self._writer.turn(delete)
        await self._shared.usage.forget(keys)
        return dropped

    async def collect(self, keep: float, garbage: int) -> Collected:
        """Expire old snapshots and delete garbage; see ``CollectionStore.collect``."""
        head = self._head

        async def work() -> Collected:
            async with self._leases.history:
                await head.resume()
                held = await self._leases.held_since()
                before = min([datetime.now(UTC) - timedelta(seconds=keep), *held])
                expired = len(await head.repository.expire_snapshots_async(before))
                self._expired += expired
                if head.garbage < garbage or (garbage and not self._expired):
                    return Collected(snapshots=expired, bytes=0)
                summary = await head.repository.garbage_collect_async(datetime.now(UTC))
            freed = summary.bytes_deleted + await run_in(self._shared.pool, trim, self._folder)
            head.garbage = max(0, head.garbage - freed)
            self._expired = 0
            return Collected(snapshots=expired, bytes=freed)

        return await self._writer.turn(work)
