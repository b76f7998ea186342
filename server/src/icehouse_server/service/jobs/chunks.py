"""The chunks that a job is about, found as it goes: no list of all of them is ever made."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.area import Area
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.grid import ChunkKey, Window, tiles
from icehouse_server.store import CollectionStore

TILE = 512
"""Side, in chunks, of the tiles in which an area is looked through: a look takes half a millisecond."""

type _LevelBandStep = tuple[int, BandSpec, int | None]
"""A level, a band, and the number of a time step where there is a time axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a job finds when it begins."""

    cached: int
    """Chunks, over all bands."""
    cached_bytes: int
    """Bytes of them, uncompressed."""
    absent_bytes: int


class JobChunks:
    """The chunks that a job is about, found as it goes.

    Args:
        store: the collection.
        areas: positions by level.
        bands: each position counts for each of them,
        times: and at each of these time steps; None where the collection has no time axis.
    """

    def __init__(
        self,
        store: CollectionStore,
        areas: Mapping[int, Area],
        bands: Sequence[BandSpec],
        times: Sequence[int] | None = None,
    ) -> None:
        self._store = store
        self._areas = areas
        self._bands = bands
        self._times: Sequence[int | None] = (None,) if times is None else times

    @property
    def spec(self) -> CollectionSpec:
        """Their collection."""
        return self._store.spec

    @property
    def size(self) -> int:
        """How many there are, cached or not."""
        return sum(area.size for area in self._areas.values()) * len(self._bands) * len(self._times)

    async def count(self) -> Counted:
        """Count those that are cached, and the bytes of all."""
        cached = cached_bytes = whole = 0
        for level, area in self._areas.items():
            for tile in area.squares(TILE):
                for step in self._band_steps(level):
                    found = int(self._cached(step, tile).sum())
                    cached += found
                    cached_bytes += found * self.bytes_of(step[1])
                await asyncio.sleep(0)
            whole += area.size * sum(self.bytes_of(band) for _, band, _ in self._band_steps(level))
        return Counted(cached=cached, cached_bytes=cached_bytes, absent_bytes=whole - cached_bytes)

    def bytes_of(self, band: BandSpec) -> int:
        """Return the bytes of a chunk of a band, uncompressed."""
        return self.spec.grid.chunk**2 * band.dtype.itemsize

    def cached(self, side: int) -> Iterator[list[ChunkKey]]:
        """List the cached chunks, a square of positions at a time; squares without any are left out."""
        for level, area in self._areas.items():
            for tile in area.squares(TILE):
                if any(self._cached(step, tile).any() for step in self._band_steps(level)):
                    for square in tiles(tile, side):
                        keys = self._keys(level, square, self._cached)
                        if keys:
                            yield keys

    def absent(self, side: int) -> Iterator[tuple[list[ChunkKey], int]]:
        """List the absent chunks, a square of positions at a time, each with the number of cached ones."""
        for level, area in self._areas.items():
            each = len(self._bands) * len(self._times)
            for tile in area.squares(TILE):
                if area.within(tile).any():
                    for square in tiles(tile, side):
                        keys = self._keys(level, square, self._absent)
                        yield keys, int(area.within(square).sum()) * each - len(keys)

    def _band_steps(self, level: int) -> Iterator[_LevelBandStep]:
        return itertools.product((level,), self._bands, self._times)

    def _cached(self, step: _LevelBandStep, window: Window) -> NDArray[np.bool_]:
        return self._areas[step[0]].within(window) & self._present(step, window)

    def _absent(self, step: _LevelBandStep, window: Window) -> NDArray[np.bool_]:
        return self._areas[step[0]].within(window) & ~self._present(step, window)

    def _present(self, step: _LevelBandStep, window: Window) -> NDArray[np.bool_]:
        level, band, time = step
        return self._store.index.within(band.name, time, window, level)

    def _keys(
        self, level: int, window: Window, mask: Callable[[_LevelBandStep, Window], NDArray[np.bool_]]
    ) -> list[ChunkKey]:
        return [
            self.spec.key(band.name, window.row + int(row), window.col + int(col), time, level)
            for _, band, time in self._band_steps(level)
            for row, col in np.argwhere(mask((level, band, time), window))
        ]
