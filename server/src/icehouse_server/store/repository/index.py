"""The in-memory index of a repository: which chunks exist. Made from the repository, never the truth."""

import itertools
from collections import Counter, defaultdict
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
    """Which chunks of a collection are cached, and which of them are known to be void.

    Attributes:
        version: grows with every change, for those who watch.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._present: defaultdict[_Layer, ChunkSet] = defaultdict(ChunkSet)
        self._void: defaultdict[_Layer, ChunkSet] = defaultdict(ChunkSet)
        self._unsure: defaultdict[_Layer, ChunkSet] = defaultdict(ChunkSet)
        """Cached chunks not yet known to be void or not: those from before the start."""
        self.version = 0

    @classmethod
    async def load(cls, spec: CollectionSpec, session: Session, levels: Iterable[int] = (0,)) -> "Index":
        """Read a repository's chunk coordinates, of the levels that it has."""
        index = cls(spec)
        for level, band in itertools.product(levels, spec.bands):
            path = spec.key(band.name, 0, 0, level=level).array
            async for position in session.chunk_coordinates(f"/{path}", batch_size=_BATCH):
                *time, row, col = position
                index._present[level, band.name, time[0] if time else None].add(row, col)
        for layer, present in index._present.items():
            if spec.band(layer[1]).nodata is not None:  # without nodata no pixels say that there is nothing
                index._unsure[layer] = present.copy()
        return index

    def __len__(self) -> int:
        return sum(len(present) for present in self._present.values())

    def keys(self) -> Iterator[ChunkKey]:
        """List the cached chunks. The index must not change meanwhile."""
        for (level, band, time), present in self._present.items():
            for row, col in present:
                yield self._spec.key(band, row, col, time, level)

    @property
    def counts(self) -> dict[int, int]:
        """The number of cached chunks by level, of those of which something is cached."""
        found: Counter[int] = Counter()
        for (level, *_), present in self._present.items():
            found[level] += len(present)
        return dict(+found)

    def has(self, key: ChunkKey) -> bool:
        """Return whether a chunk is cached."""
        present = self._present.get((key.level, key.band, key.time))
        return present is not None and (key.row, key.col) in present

    def within(self, band: str, time: int | None, chunks: Window, level: int = 0) -> NDArray[np.bool_]:
        """Return a boolean array (rows, columns) over a rectangle of chunks: True where one is cached."""
        present = self._present.get((level, band, time), _NONE)
        return present.within(chunks)

    def is_void(self, key: ChunkKey) -> bool:
        """Return whether a chunk is known to be void; False also where it is not yet known."""
        void = self._void.get((key.level, key.band, key.time))
        return void is not None and (key.row, key.col) in void

    def is_unsure(self, key: ChunkKey) -> bool:
        """Return whether a chunk is cached and not yet known to be void or not."""
        unsure = self._unsure.get((key.level, key.band, key.time))
        return unsure is not None and (key.row, key.col) in unsure

    def void_within(self, band: str, time: int | None, chunks: Window, level: int = 0) -> NDArray[np.bool_]:
        """Return the same as ``within`` of the chunks that are known to be void."""
        return self._void.get((level, band, time), _NONE).within(chunks)

    def unsure_listed(self, band: str, time: int | None, chunks: Window, level: int = 0) -> NDArray[np.int64]:
        """Return the chunks (row, col) in a rectangle not yet known to be void or not: (n, 2)."""
        return self._unsure.get((level, band, time), _NONE).listed(chunks)

    def settle(self, key: ChunkKey) -> None:
        """Note that a chunk was examined for being void."""
        unsure = self._unsure.get((key.level, key.band, key.time))
        if unsure is not None:
            unsure.discard(key.row, key.col)

    def add(self, key: ChunkKey, *, void: bool) -> None:
        """Note that a chunk was committed, or was found to be void."""
        self.version += 1
        self.settle(key)
        layer = key.level, key.band, key.time
        self._present[layer].add(key.row, key.col)
        if void:
            self._void[layer].add(key.row, key.col)
        elif layer in self._void:
            self._void[layer].discard(key.row, key.col)

    def become(self, other: "Index") -> None:
        """Take over what another index says; that one must not be used any more."""
        self.version += 1
        self._present, self._void, self._unsure = other._present, other._void, other._unsure  # noqa: SLF001 - one of its own kind

    def discard(self, key: ChunkKey) -> None:
        """Note that a chunk is gone."""
        self.version += 1
        for chunks in (self._present, self._void, self._unsure):
            found = chunks.get((key.level, key.band, key.time))
            if found is not None:
                found.discard(key.row, key.col)
