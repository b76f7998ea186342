"""The in-memory index of a repository: which chunks exist. Made from the repository, never the truth."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from icechunk import Session
from numpy.typing import NDArray

from icehouse_server.core.chunkset import ChunkSet
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import ChunkKey, Window

_BATCH = 10_000
"""Chunk coordinates taken from Icechunk at a time; between batches the event loop runs."""

_NONE = ChunkSet()

type _Layer = tuple[int, str, int | None]
"""A level, a band, and the number of a time step where the collection has a time axis."""


class Index:
    """Which chunks of a collection are cached, and which of them are known to be void."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._present: defaultdict[_Layer, ChunkSet] = defaultdict(ChunkSet)
        self._void: defaultdict[_Layer, ChunkSet] = defaultdict(ChunkSet)

    @classmethod
    async def load(cls, spec: CollectionSpec, session: Session, levels: Iterable[int] = (0,)) -> "Index":
        """Read a repository's chunk coordinates, of the levels that it has."""
        index = cls(spec)
        for level, band in itertools.product(levels, spec.bands):
            path = spec.key(band.name, 0, 0, level=level).array
            async for position in session.chunk_coordinates(f"/{path}", batch_size=_BATCH):
                *time, row, col = position
                index._present[level, band.name, time[0] if time else None].add(row, col)
        return index

    def __len__(self) -> int:
        return sum(len(present) for present in self._present.values())

    def keys(self) -> Iterator[ChunkKey]:
        """List the cached chunks. The index must not change meanwhile."""
        for (level, band, time), present in self._present.items():
            for row, col in present:
                yield self._spec.key(band, row, col, time, level)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of which something is cached."""
        return tuple(sorted({level for (level, *_), present in self._present.items() if len(present)}))

    def has(self, key: ChunkKey) -> bool:
        """Return whether a chunk is cached."""
        present = self._present.get((key.level, key.band, key.time))
        return present is not None and (key.row, key.col) in present

    def within(self, band: str, time: int | None, chunks: Window, level: int = 0) -> NDArray[np.bool_]:
        """Return a boolean array (rows, columns) over a rectangle of chunks: True where one is cached."""
        present = self._present.get((level, band, time), _NONE)
        return present.within(chunks)

    def is_void(self, key: ChunkKey) -> bool:
        """Return whether a chunk is known to be void; False also where nobody has looked."""
        void = self._void.get((key.level, key.band, key.time))
        return void is not None and (key.row, key.col) in void

    def add(self, key: ChunkKey, *, void: bool) -> None:
        """Note that a chunk was committed."""
        layer = key.level, key.band, key.time
        self._present[layer].add(key.row, key.col)
        if void:
            self._void[layer].add(key.row, key.col)
        elif layer in self._void:
            self._void[layer].discard(key.row, key.col)

    def become(self, other: "Index") -> None:
        """Take over what another index says; that one must not be used any more."""
        self._present, self._void = other._present, other._void  # noqa: SLF001 - one of its own kind

    def discard(self, key: ChunkKey) -> None:
        """Note that a chunk is gone."""
        for chunks in (self._present, self._void):
            found = chunks.get((key.level, key.band, key.time))
            if found is not None:
                found.discard(key.row, key.col)
