"""Which stored chunks are void: hold nothing but nodata."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

import icechunk
import numpy as np

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.ports import Pixels
from icehouse_server.store.layout.codec import encode, void_chunk

_INLINE_BYTES = 512
"""Length up to which Icechunk keeps a chunk in its manifest; a void chunk of 512 x 512 float32 has 476."""


def is_void(band: BandSpec, values: Pixels) -> bool:
    """Return whether a chunk holds nothing but nodata; never where the band has none. Blocking."""
    fill = band.fill
    if band.nodata is None or not (values[0, 0] == fill or fill != fill):  # noqa: PLR0124
        return False
    everywhere = np.broadcast_to(fill, values.shape)
    return np.array_equal(values, everywhere, equal_nan=values.dtype.kind == "f")


class SmallChunks:
    """Tells chunks that may be void by how few bytes they take: a void one is constant, and packs well.

    Args:
        chunk: pixels along a side of a chunk.
        pool: for what blocks.
        reads: turns at the repository.
    """

    def __init__(self, chunk: int, pool: Executor, reads: asyncio.Semaphore) -> None:
        self._chunk, self._pool, self._reads = chunk, pool, reads
        self._void_bytes: dict[str, int] = {}
        """Length of a void chunk as it is stored, by band."""

    async def among(
        self, session: icechunk.Session, band: BandSpec, keys: Sequence[ChunkKey]
    ) -> list[ChunkKey]:
        """Return those of a band's chunks that may be void."""
        of_void = await self._length_of_void(band)
        if of_void <= _INLINE_BYTES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, _inline, session, keys)

        async def is_small(key: ChunkKey) -> bool:
            async with self._reads:
                return await session.store.getsize(key.path) <= 2 * of_void

        found = await asyncio.gather(*map(is_small, keys))
        return [key for key, small in zip(keys, found, strict=True) if small]

    async def _length_of_void(self, band: BandSpec) -> int:
        if band.name not in self._void_bytes:
            loop, void = asyncio.get_running_loop(), void_chunk(band, self._chunk)
            self._void_bytes[band.name] = len(await loop.run_in_executor(self._pool, encode, void))
        return self._void_bytes[band.name]


def _inline(session: icechunk.Session, keys: Sequence[ChunkKey]) -> list[ChunkKey]:
    """Return the chunks that lie inside the manifest, as small ones do. Blocking."""
    return [
        key for key in keys if session.chunk_type(f"/{key.array}", key.place) == icechunk.ChunkType.inline
    ]
