"""The in-memory index of a repository: which chunks exist. Made from the repository, never the truth."""

from collections.abc import Iterator

import numpy as np
from icechunk import Session
from numpy.typing import NDArray

from icehouse_server.core.chunkset import ChunkSet
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import ChunkKey, Window

_BATCH = 10_000
"""Chunk coordinates taken from Icechunk at a time; between batches the event loop runs."""


class Index:
    """Which chunks of a collection are cached, and which of them are known to be void."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._present = {band.name: ChunkSet() for band in spec.bands}
        self._void = {band.name: ChunkSet() for band in spec.bands}

    @classmethod
    async def load(cls, spec: CollectionSpec, session: Session) -> "Index":
        """Read a repository's chunk coordinates."""
        index = cls(spec)
        for name, present in index._present.items():
            async for position in session.chunk_coordinates(f"/{name}", batch_size=_BATCH):
                row, col = position
                present.add(row, col)
        return index

    def __len__(self) -> int:
        return sum(len(present) for present in self._present.values())

    def keys(self) -> Iterator[ChunkKey]:
        """List the cached chunks. The index must not change meanwhile."""
        for band, present in self._present.items():
            for row, col in present:
                yield self._spec.key(band, row, col)

    def has(self, key: ChunkKey) -> bool:
        """Return whether a chunk is cached."""
        return (key.row, key.col) in self._present[key.band]

    def within(self, band: str, chunks: Window) -> NDArray[np.bool_]:
        """Return a boolean array (rows, columns) over a rectangle of chunks: True where one is cached."""
        return self._present[band].within(chunks)

    def is_void(self, key: ChunkKey) -> bool:
        """Return whether a chunk is known to be void; False also where nobody has looked."""
        return (key.row, key.col) in self._void[key.band]

    def add(self, key: ChunkKey, *, void: bool) -> None:
        """Note that a chunk was committed."""
        self._present[key.band].add(key.row, key.col)
        if void:
            self._void[key.band].add(key.row, key.col)
        else:
            self._void[key.band].discard(key.row, key.col)

    def become(self, other: "Index") -> None:
        """Take over what another index says; that one must not be used any more."""
        self._present, self._void = other._present, other._void  # noqa: SLF001 - one of its own kind

    def discard(self, key: ChunkKey) -> None:
        """Note that a chunk is gone."""
        self._present[key.band].discard(key.row, key.col)
        self._void[key.band].discard(key.row, key.col)
