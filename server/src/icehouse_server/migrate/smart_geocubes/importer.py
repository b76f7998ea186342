"""Taking over what a cube of smart-geocubes holds, chunk by chunk, into the repository of a collection.

Only what is sure to be what the source would give is taken: chunks under loaded patches that exist whole, lie
in one item alone, and hold a value in every pixel. Everything else is left to be fetched, and counted.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Protocol, cast

import numpy as np

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import DiskFullError
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import FilledChunk, Pixels, Provenance
from icehouse_server.migrate.smart_geocubes.cube import CubeChunkMissingError, SmartGeocube
from icehouse_server.migrate.smart_geocubes.patches import Patch, SkipReason, patches_of, place_on_grid
from icehouse_server.store import DamagedError, Store

_GROUP_BYTES = 64 * 1024**2
"""Pixels of one commit, uncompressed."""

_GROUP_CHUNKS = 256


class Presence(Protocol):
    """Knows which chunks are cached; the index is one."""

    def has(self, key: ChunkKey) -> bool:
        """Return whether a chunk is cached."""
        ...


@dataclass(kw_only=True)
class BandTally:
    """What became of the chunks of one band that touch a loaded patch."""

    taken: int = 0
    left: Counter[SkipReason] = field(default_factory=Counter)


@dataclass(kw_only=True)
class Takeover:
    """What was taken over, or would be."""

    collection: str
    title: str
    """Of the cube."""
    patches: int
    """Loaded patches of the cube."""
    unplaced: tuple[str, ...]
    """Ids of patches that say no place, or a time that the collection does not have."""
    bands: dict[str, BandTally]
    lacking: tuple[str, ...]
    """Bands of the collection that the cube does not have."""
    ignored: tuple[str, ...]
    """Bands of the cube that the collection does not have."""
    invented: bool
    """Whether smart-geocubes wrote made-up values where the source has none, which can't be distinguished."""

    @property
    def taken(self) -> int:
        """Chunks over all bands."""
        return sum(tally.taken for tally in self.bands.values())

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        bands = {
            name: {"taken": tally.taken, "left": {why.name.lower(): n for why, n in tally.left.items()}}
            for name, tally in self.bands.items()
        }
        return {**vars(self), "bands": bands, "taken": self.taken}


type ProgressCallback = Callable[[int, int], None]
"""Told (chunks of the cube looked at, chunks of the cube in all)."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A chunk of the cube, and the loaded patches that chunks of ours which begin in it may touch."""

    window: Window
    time: int | None
    """The cube's step."""
    patches: tuple[Patch, ...]


async def take_over(
    cube: SmartGeocube,
    spec: CollectionSpec,
    known: Presence,
    *,
    pool: Executor,
    progress: ProgressCallback,
    store: Store | None = None,
    disk_floor: int = 0,
) -> Takeover:
    """Take over what can be; without a store nothing is written.

    May be ended at any moment and begun again: what is committed is cached, and passed over.

    Args:
        cube: what is read.
        spec: the collection.
        known: which chunks are cached.
        pool: where pixels are read and looked at, by one thread at a time.
        progress: called with (cells done, cells in all).
        store: holds the collection's repository.
        disk_floor: bytes to be left free on the cache folder's disk.

    Raises:
        BadParameterError: the cube does not lie on the collection's grid.
        DiskFullError: there is no more room; what was taken so far is kept.
        StoreError: the repository did not take a commit.
    """
    return await _Run(cube, spec, known, pool).run(store, progress, disk_floor)


class _Run:
    """One run: a cube, a collection, and what is decided of each chunk."""

    def __init__(self, cube: SmartGeocube, spec: CollectionSpec, known: Presence, pool: Executor) -> None:
        self._cube, self._spec, self._known, self._pool = cube, spec, known, pool
        self._place = place_on_grid(cube, spec)
        self._patches = patches_of(cube, spec, self._place)
        self._times = _times(cube, spec)
        late = tuple(patch.id for patch in self._patches.loaded if patch.time not in self._times)
        names = [band.name for band in spec.bands]
        self.report = Takeover(
            collection=spec.id,
            title=cube.title,
            patches=len(cube.patches),
            unplaced=(*self._patches.unknown, *late),
            bands={name: BandTally() for name in names if name in cube.bands},
            lacking=tuple(name for name in names if name not in cube.bands),
            ignored=tuple(name for name in cube.bands if name not in names),
            invented=cube.title.startswith("TCTrend"),
        )

    async def run(self, store: Store | None, progress: ProgressCallback, disk_floor: int) -> Takeover:
        """Look at every chunk, and commit those that are taken group by group."""
        cells = self._cells()
        group: list[FilledChunk] = []
        for done, cell in enumerate(cells):
            progress(done, len(cells))
            for name, window in product(self.report.bands, self._windows(cell)):
                found = await run_in(self._pool, self._look, name, cell, window)
                if isinstance(found, SkipReason):
                    self.report.bands[name].left[found] += 1
                    continue
                self.report.bands[name].taken += 1
                if store is None:
                    continue
                group.append(found)
                if len(group) >= _GROUP_CHUNKS or _size(group) >= _GROUP_BYTES:
                    await self._commit(store, group, disk_floor)
        if store is not None and group:
            await self._commit(store, group, disk_floor)
        progress(len(cells), len(cells))
        return self.report

    async def _commit(self, store: Store, group: list[FilledChunk], disk_floor: int) -> None:
        """Commit a group and empty it. Nothing is evicted to make room: it would be what was just taken."""
        size, room = _size(group), store.room
        free = (await run_in(self._pool, shutil.disk_usage, store.folder)).free
        if free - size < disk_floor or (room.limit is not None and room.bytes + size > room.limit):
            raise DiskFullError(
                f"there is no room for more: the disk has {free} bytes free (disk_floor is {disk_floor}), "
                f"the cache takes {room.bytes} bytes (max_cache_bytes is {room.limit})",
                hint="make room, or raise max_cache_bytes, and begin again: what was taken is kept",
            )
        await store.collections[self._spec.id].commit(tuple(group))
        group.clear()

    def _cells(self) -> list[_Cell]:
        """List the chunks of the cube in which chunks of ours begin that touch a loaded patch."""
        near: defaultdict[tuple[int, int, int], list[Patch]] = defaultdict(list)
        side, reach = self._cube.chunk, self._spec.grid.chunk
        for patch in self._patches.loaded:
            if patch.time not in self._times:
                continue
            row, col = patch.extent.row - self._place.row, patch.extent.col - self._place.col
            rows = range((row - reach) // side, (row + patch.extent.height - 1) // side + 1)
            cols = range((col - reach) // side, (col + patch.extent.width - 1) // side + 1)
            for place in product(rows, cols):
                near[-1 if patch.time is None else patch.time, *place].append(patch)
        return [
            _Cell(
                window=Window(
                    row=self._place.row + row * side,
                    col=self._place.col + col * side,
                    height=side,
                    width=side,
                ),
                time=None if time < 0 else time,
                patches=tuple(near[time, row, col]),
            )
            for time, row, col in sorted(near)
        ]

    def _windows(self, cell: _Cell) -> Iterator[Window]:
        """List the chunks of ours, cut at the grid's edge, that begin in a cell and touch a loaded patch."""
        grid = self._spec.grid
        rows = range(-(-cell.window.row // grid.chunk), -(-cell.window.stop_row // grid.chunk))
        cols = range(-(-cell.window.col // grid.chunk), -(-cell.window.stop_col // grid.chunk))
        for row, col in product(rows, cols):
            if 0 <= row < grid.chunk_shape[0] and 0 <= col < grid.chunk_shape[1]:
                window = grid.chunk_window(row, col)
                if any(patch.extent.intersection(window) for patch in cell.patches):
                    yield window

    def _look(self, name: str, cell: _Cell, window: Window) -> FilledChunk | SkipReason:
        """Return a chunk to be taken over, or why it is left. Blocking."""
        spec, band = self._spec, self._spec.band(name)
        key = spec.key(
            name, window.row // spec.grid.chunk, window.col // spec.grid.chunk, self._times[cell.time]
        )
        if self._known.has(key):
            return SkipReason.CACHED
        near = tuple(patch for patch in cell.patches if patch.extent.intersection(window))
        owner = self._patches.owner(window, near)
        if isinstance(owner, SkipReason):
            return owner
        inside = Window(
            row=window.row - self._place.row,
            col=window.col - self._place.col,
            height=window.height,
            width=window.width,
        )
        try:
            pixels = self._cube.pixels(name, cell.time, inside)
        except CubeChunkMissingError:
            return SkipReason.MISSING
        except DamagedError:
            return SkipReason.DAMAGED
        values = _as_band(pixels, self._cube.bands[name].fill, band)
        if isinstance(values, SkipReason):
            return values
        whole = np.full((spec.grid.chunk, spec.grid.chunk), band.fill, dtype=band.dtype)
        whole[: window.height, : window.width] = values
        origin = tuple(Provenance(item=f"smart-geocubes:{patch.id}", href="", version="") for patch in owner)
        return FilledChunk(key=key, values=cast("Pixels", whole), void=False, provenance=origin)


def _as_band(pixels: Pixels, unwritten: np.generic, band: BandSpec) -> Pixels | SkipReason:
    """Return a cube's pixels as a band holds them, if every one of them is sure to be a value.

    What was never written, and what is nodata, may be a hole of the cube.
    """
    if bool((pixels == unwritten).any()):
        return SkipReason.HOLE
    if pixels.dtype.kind == "f" and bool(np.isnan(pixels).any()):
        return SkipReason.HOLE
    if band.nodata is not None and bool((pixels == band.fill).any()):
        return SkipReason.HOLE
    with np.errstate(invalid="ignore", over="ignore"):
        values = pixels.astype(band.dtype)
    if not np.array_equal(values, pixels):
        return SkipReason.MISFIT
    return cast("Pixels", values)


def _times(cube: SmartGeocube, spec: CollectionSpec) -> Mapping[int | None, int | None]:
    """Return the collection's step for each of the cube's: the one that starts at the same moment."""
    if cube.times is None or spec.time is None:
        return {None: None}
    axis = spec.time
    starts = {step.start: number for number, step in enumerate(axis.steps(axis.count(datetime.now(tz=UTC))))}
    return {number: starts[start] for number, start in enumerate(cube.times) if start in starts}


def _size(group: list[FilledChunk]) -> int:
    return sum(chunk.values.nbytes for chunk in group)
