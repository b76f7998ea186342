"""Reading: windows of pixels from a leased snapshot, through the cache of decoded chunks."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

import icechunk
import numpy as np
import structlog
from zarr.core.buffer import default_buffer_prototype

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import StoreError
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import Pixels
from icehouse_server.store.layout.codec import intact
from icehouse_server.store.repository.head import Head
from icehouse_server.store.repository.leases import Lease
from icehouse_server.store.repository.pixels import assemble, decode_chunks
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.translate_errors import UNREADABLE, first_line, is_cancellation, translate_errors

log = structlog.get_logger(__name__)

_DECODE_TURNS = 4
"""Turns in the pool that the chunks of one window are decoded in: as many as there are threads by default."""

BATCH_BYTES = 64 * 1024**2
"""Decoded chunks of a band at a step that are held at a time while a window is read."""

_QUICK_BYTES = 8 * 1024**2
"""A window of no more bytes is copied on the loop (0.3 ms for 4 MB): a thread takes as long."""


class DamagedChunksError(StoreError):
    """Chunks that are listed but can't be read back; they count as absent from now on.

    Attributes:
        keys: which.
    """

    def __init__(self, keys: tuple[ChunkKey, ...]) -> None:
        super().__init__(f"{len(keys)} stored chunk(s) can't be read back: {keys[0].path}")
        self.keys = keys


class Reader:
    """Reads chunks and windows of one repository.

    Attributes:
        damaged: chunks that could not be read back so far.
    """

    def __init__(self, head: Head, shared: StoreResources, reads: asyncio.Semaphore) -> None:
        self._head = head
        self._spec = head.spec
        self._index = head.index
        self._decoded = shared.decoded
        self._usage = shared.usage
        self._pool = shared.pool
        self._reads = reads
        self.damaged = 0

    async def read(
        self, lease: Lease, band: BandSpec, window: Window, keys: Sequence[ChunkKey], out: Pixels | None
    ) -> Pixels:
        """Read a window of a band; see ``CollectionStore.read``."""
        if out is None:
            out = np.empty((window.height, window.width), dtype=band.dtype)
        if len(keys) < self._spec.grid.chunks_under(window).pixels:
            await self._compute(out.nbytes, out.fill, band.fill)
        damaged: list[ChunkKey] = []
        # Batch by batch: decoded chunks that the cache has no room for take memory until they are copied.
        for batch in itertools.batched(keys, self._batch(band)):
            chunks, lost = await self._chunks(lease, band, batch)
            await self._compute(
                sum(values.nbytes for values in chunks.values()), assemble, self._spec, window, chunks, out
            )
            damaged += lost
        if damaged:
            raise DamagedChunksError(tuple(damaged))
        self._usage.touch(keys)
        return out

    def _batch(self, band: BandSpec) -> int:
        """Return how many chunks of a band are decoded before they are copied."""
        return max(1, BATCH_BYTES // (self._spec.grid.chunk**2 * band.dtype.itemsize))

    async def _compute[*Ts](self, size: int, function: Callable[[*Ts], None], *args: *Ts) -> None:
        """Call what copies this many bytes: in the pool, where they are many."""
        if size <= _QUICK_BYTES:
            function(*args)
        else:
            await run_in(self._pool, function, *args)

    async def _chunks(
        self, lease: Lease, band: BandSpec, keys: Sequence[ChunkKey]
    ) -> tuple[dict[ChunkKey, Pixels], list[ChunkKey]]:
        """Return the pixels of chunks, and the chunks that are damaged."""
        found: dict[ChunkKey, Pixels] = {}
        missing: list[ChunkKey] = []
        # Once a chunk was fetched again, decoded chunks may be newer than what a lease from before holds.
        decoded = lease.current and lease.generation == self._decoded.generation
        for key in keys:
            values = self._decoded.get(key) if decoded else None
            if values is None:
                missing.append(key)
            else:
                found[key] = values
        if not missing:
            return found, []
        read = await self.decode(lease, band, missing)
        damaged = [key for key in missing if key not in read]
        # What was evicted meanwhile is not damaged.
        self.damaged += sum(map(self._index.has, damaged))
        found.update(read)
        return found, damaged

    async def decode(self, lease: Lease, band: BandSpec, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Pixels]:
        """Read and decode chunks; those that the snapshot lacks or that can't be read back are left out."""
        size = self._spec.grid.chunk
        datas = await asyncio.gather(*(self._bytes_of(lease, key) for key in keys))
        held = [(key, data) for key, data in zip(keys, datas, strict=True) if data is not None]
        # A few turns of many chunks each: a turn in the pool costs about what decoding one chunk does.
        turns = [held[start::_DECODE_TURNS] for start in range(min(_DECODE_TURNS, len(held)))]
        parts = await asyncio.gather(*(run_in(self._pool, decode_chunks, turn, band, size) for turn in turns))
        found: dict[ChunkKey, Pixels] = {}
        for key, (values, void) in itertools.chain.from_iterable(parts):
            found[key] = values
            if not lease.current:
                continue
            if lease.generation == self._decoded.generation and self._index.has(key):
                if void:
                    self._index.add(key, void=True)
                else:
                    self._index.settle(key)
            self._decoded.put(key, values, generation=lease.generation)
        return found

    async def stored(self, lease: Lease, key: ChunkKey) -> memoryview:
        """Return a chunk as it is stored; see ``CollectionStore.stored``."""
        data = await self._bytes_of(lease, key)
        if data is None or not intact(data):
            self.damaged += self._index.has(key)
            raise DamagedChunksError((key,))
        self._usage.touch((key,))
        return data

    async def _bytes_of(self, lease: Lease, key: ChunkKey) -> memoryview | None:
        """Return a chunk as it is stored, or None where it can't be had."""
        try:
            async with self._reads:
                buffer = await lease.session.store.get(key.path, default_buffer_prototype())
        except BaseException as error:
            if is_cancellation(error):
                raise
            log.warning("a stored chunk can't be read", chunk=key.path, error=first_line(error))
            return None
        return None if buffer is None else memoryview(buffer.as_numpy_array().view(np.uint8))

    async def absent(self, lease: Lease, keys: Sequence[ChunkKey]) -> tuple[ChunkKey, ...]:
        """Return the chunks that the leased snapshot lacks."""
        if lease.snapshot == self._head.snapshot:
            return tuple(key for key in keys if not self._index.has(key))
        with translate_errors(UNREADABLE):
            try:
                kinds = await asyncio.gather(
                    *(lease.session.chunk_type_async(f"/{key.array}", key.place) for key in keys)
                )
            except icechunk.NodeNotFoundError:  # a snapshot from before the cube was laid out
                return tuple(keys)
        return tuple(
            key for key, kind in zip(keys, kinds, strict=True) if kind == icechunk.ChunkType.uninitialized
        )
