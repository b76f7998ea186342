"""The inventory: in which state the chunks of a region are, and what has changed since."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import FailedChunk, TooLargeError
from icehouse_server.core.grid import ChunkKey, Window, tiles
from icehouse_server.downloads import Downloads, Failure
from icehouse_server.service.deadline import deadline
from icehouse_server.store import Index, Store

MOST_SQUARES = 10_000
"""Squares that one inventory is about."""

MOST_CELL = 1024
"""Largest side of a square, in chunks: a power of two."""

MOST_BAND_STEPS = 1024
"""Bands times time steps that one inventory is about."""

_LOOKED_AT = 20_000
"""Chunks that one look at an inventory finds out about, whether they are void; a look may end before."""

_AT_ONCE = 2
"""Inventories that are worked on at once."""

_LOOK_SECONDS = 0.5
"""Seconds after which it ends."""


class ChunkState(IntEnum):
    """State of a chunk position; of several, the highest counts."""

    ABSENT = 0
    VOID = 1
    PRESENT = 2
    IN_FLIGHT = 3
    FAILED = 4


type _Failed = Mapping[tuple[int, int], FailedChunk]
"""Why, by position (row, col)."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What an inventory is about.

    Attributes:
        collection: of which chunks.
        level: of the chunks.
        bands: of which a position needs the chunks; at each of the steps.
        times: numbers of time steps; None where the collection has no time axis.
        areas: rectangles of chunk positions that do not touch, each of whole squares, cut at the grid's edge.
        cell: side of a square, in chunks.
    """

    collection: CollectionSpec
    level: int
    bands: tuple[str, ...]
    times: tuple[int, ...] | None
    areas: tuple[Window, ...]
    cell: int = 1

    def __post_init__(self) -> None:
        band_steps = len(self.bands) * (1 if self.times is None else len(self.times))
        if band_steps > MOST_BAND_STEPS:
            raise TooLargeError(
                f"each position has {band_steps} bands and time steps; "
                f"an inventory counts {MOST_BAND_STEPS} at most",
                limit=MOST_BAND_STEPS,
                asked=band_steps,
                hint="name a datetime, or fewer properties",
            )
        squares = sum(window.pixels for window in map(self.squares, self.areas))
        if squares > MOST_SQUARES:
            larger = (2**power for power in range(MOST_CELL.bit_length()))
            enough = [f"cell={cell}" for cell in larger if _count(self.areas, cell) <= MOST_SQUARES][:1]
            way = f"give {enough[0]}, which counts chunks in larger squares, or" if enough else "give"
            raise TooLargeError(
                f"this is about {squares} squares of {self.cell} x {self.cell} chunks; "
                f"an inventory is about {MOST_SQUARES} at most",
                limit=MOST_SQUARES,
                asked=squares,
                hint=f"{way} a smaller bbox",
            )

    @property
    def band_steps(self) -> Iterator[tuple[str, int | None]]:
        """Band and time step of the chunks at each position."""
        times = (None,) if self.times is None else self.times
        return ((band, time) for band in self.bands for time in times)

    def squares(self, area: Window) -> Window:
        """Return an area counted in squares."""
        return _squares(area, self.cell)


def _squares(area: Window, cell: int) -> Window:
    return Window.from_bounds(
        area.row // cell, area.col // cell, -(-area.stop_row // cell), -(-area.stop_col // cell)
    )


def _count(areas: Sequence[Window], cell: int) -> int:
    return sum(_squares(area, cell).pixels for area in areas)


@dataclass(frozen=True, kw_only=True, eq=False)
class InventorySnapshot:
    """The states of a view's chunks at a moment."""

    counts: tuple[NDArray[np.int32], ...]
    """Of each area an array (rows, columns, 5) over its squares: positions in each ``ChunkState``."""
    failed: _Failed
    """The first failure of each position."""
    unsure: int
    """Chunks that count as present, and of which it is not known yet whether they are void."""


def states(
    view: View, area: Window, index: Index, flying: NDArray[np.int64], failed: _Failed
) -> NDArray[np.uint8]:
    """Return an array (rows, columns) of ``ChunkState`` over a rectangle of chunk positions.

    A position is failed where any of its chunks is, else in flight where any is; present where all are
    cached, and void where all of them are void.

    Args:
        view: says which chunks belong to a position.
        area: the rectangle.
        index: which chunks are cached.
        flying: positions (row, col) of chunks that are in flight, (n, 2); some may lie elsewhere.
        failed: positions of chunks that have failed and are not in flight again.
    """
    shape, band_steps = (area.height, area.width), list(view.band_steps)
    cached, void = np.full(shape, bool(band_steps)), np.full(shape, bool(band_steps))
    for band, time in band_steps:
        cached &= index.within(band, time, area, view.level)
        if not cached.any():
            break
        void &= index.void_within(band, time, area, view.level)
    found = np.zeros(shape, dtype=np.uint8)
    found[cached] = ChunkState.PRESENT
    found[cached & void] = ChunkState.VOID
    _mark(found, area, flying, ChunkState.IN_FLIGHT)
    _mark(found, area, np.array(list(failed), dtype=np.int64).reshape(-1, 2), ChunkState.FAILED)
    return found


def _mark(found: NDArray[np.uint8], area: Window, places: NDArray[np.int64], state: ChunkState) -> None:
    """Set a state at positions (n, 2), those of them that lie in the area."""
    rows, cols = (places - (area.row, area.col)).T
    inside = (rows >= 0) & (rows < area.height) & (cols >= 0) & (cols < area.width)
    found[rows[inside], cols[inside]] = state


def count(found: NDArray[np.uint8], cell: int) -> NDArray[np.int32]:
    """Count states in squares.

    Args:
        found: (rows, columns) of ``ChunkState``; the first square begins at its corner.
        cell: side of a square; the last ones may be cut.

    Returns:
        (rows, columns, 5) over the squares: positions in each state.
    """
    rows, cols = (-(-size // cell) for size in found.shape)
    if not found.any():  # most of a large grid: nothing to count there
        counts = np.zeros((rows, cols, len(ChunkState)), dtype=np.int32)
        heights, widths = (_cut_sides(size, cell) for size in found.shape)
        counts[..., ChunkState.ABSENT] = np.outer(heights, widths)
        return counts
    padded = np.full((rows * cell, cols * cell), len(ChunkState), dtype=np.uint8)
    padded[: found.shape[0], : found.shape[1]] = found
    squares = padded.reshape(rows, cell, cols, cell)
    return np.stack(
        [(squares == state).sum(axis=(1, 3), dtype=np.int32) for state in ChunkState], axis=-1, dtype=np.int32
    )


def _cut_sides(size: int, cell: int) -> NDArray[np.int32]:
    """Return the sides of squares next to each other over a length: the last may be cut."""
    return np.diff(np.append(np.arange(0, size, cell), size)).astype(np.int32)


def changes(before: InventorySnapshot, after: InventorySnapshot, view: View) -> NDArray[np.int64]:
    """Return the squares (n, 2) that are not as they were: row and column, counted in squares."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for area, old, new in zip(view.areas, before.counts, after.counts, strict=True):
        squares = view.squares(area)
        other = np.argwhere((old != new).any(axis=2))
        found.append(np.add(other, (squares.row, squares.col)))
    if view.cell == 1:  # only single chunks show how they failed
        both = before.failed.keys() & after.failed.keys()
        why = [place for place in both if before.failed[place] != after.failed[place]]
        found.append(np.array(why, dtype=np.int64).reshape(-1, 2))
    return np.unique(np.concatenate(found), axis=0)


class Inventory:
    """Tells the states of chunks. Runs on one event loop; what takes long is done in the pool.

    It keeps nothing: a caller that watches asks again when the version has grown.

    Args:
        store: knows which chunks are cached.
        downloads: knows which are under way, and which have failed.
        timeout: seconds that one inventory takes at most.
        pool: computes.
    """

    def __init__(self, store: Store, downloads: Downloads, *, timeout: float, pool: Executor) -> None:
        self._store = store
        self._downloads = downloads
        self._timeout = timeout
        self._pool = pool
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def work[**P, T](self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Have something large made in the pool; few at a time, so that others find threads and memory."""
        loop = asyncio.get_running_loop()
        await self._turns.acquire()
        making = self._pool.submit(partial(function, *args, **named))
        # The turn ends with the thread's work, which goes on when its caller has left.
        making.add_done_callback(lambda _: loop.call_soon_threadsafe(self._turns.release))
        return await asyncio.wrap_future(making)

    async def each(self, parts: Iterator[str]) -> AsyncIterator[str]:
        """Have the parts of a large text made in the pool, each when it is asked for."""
        while (part := await self.work(next, parts, None)) is not None:
            yield part

    def version(self, view: View) -> tuple[int, int]:
        """Return numbers that differ from those of before where anything may have changed."""
        return self._store.collection(view.collection.id).index.version, self._downloads.version

    async def snapshot(self, view: View) -> InventorySnapshot:
        """Return the states of a view's chunks.

        At first it is not known whether chunks from before the start of the daemon are void: they are
        looked at here, up to a bound of time and number. ``unsure`` says how many are left for next time.

        Raises:
            StoreError: the repository can't be read.
            DeadlineExceededError: it takes too long.
        """
        async with deadline(self._timeout):
            return await self._snapshot(view)

    async def _snapshot(self, view: View) -> InventorySnapshot:
        store = self._store.collection(view.collection.id)
        unsure, left = await self.work(_unsure, view, store.index)
        if unsure:
            await store.void_scan.examine(unsure, seconds=_LOOK_SECONDS)
            left += sum(map(store.index.is_unsure, unsure))
        downloads = self._downloads
        failures = downloads.failures(view.collection.id, view.level)
        failed = await self.work(_failed, view, failures, downloads) if failures else {}
        flying = await self.work(_flying, view, downloads)
        counts = await self.work(_counts, view, store.index, flying, failed)
        return InventorySnapshot(counts=counts, failed=failed, unsure=left)


# These run in the pool, while the loop changes what they read. What they find may be a mixture of before
# and after; then the version has grown, and a caller that watches asks again.


def _failed(
    view: View, failures: Sequence[Failure], downloads: Downloads
) -> dict[tuple[int, int], FailedChunk]:
    """Return the positions of failed chunks; one that is fetched again has failed no more. Blocking."""
    band_steps = frozenset(view.band_steps)
    found: dict[tuple[int, int], FailedChunk] = {}
    for failure in failures:
        key = failure.key
        if (key.band, key.time) in band_steps and not downloads.in_flight(key) and _holds(view, key):
            found.setdefault((key.row, key.col), failure.failed)
    return found


def _holds(view: View, key: ChunkKey) -> bool:
    return any(
        area.row <= key.row < area.stop_row and area.col <= key.col < area.stop_col for area in view.areas
    )


def _flying(view: View, downloads: Downloads) -> NDArray[np.int64]:
    """Return the positions (row, col) at which a chunk is in flight, (n, 2). Blocking."""
    name, level = view.collection.id, view.level
    return np.concatenate(
        [
            downloads.in_flight_listed(name, band, time, area, level)
            for band, time in view.band_steps
            for area in view.areas
        ]
        or [np.empty((0, 2), dtype=np.int64)]
    )


def _counts(
    view: View, index: Index, flying: NDArray[np.int64], failed: _Failed
) -> tuple[NDArray[np.int32], ...]:
    """Count the states in all squares, in parts that take a megabyte each. Blocking."""
    found = []
    for area in view.areas:
        squares = view.squares(area)
        counts = np.zeros((squares.height, squares.width, len(ChunkState)), dtype=np.int32)
        for part in tiles(area, MOST_CELL):
            there = view.squares(part)
            counts[there.slices(squares)] = count(states(view, part, index, flying, failed), view.cell)
        found.append(counts)
    return tuple(found)


def _unsure(view: View, index: Index) -> tuple[list[ChunkKey], int]:
    """Return chunks of a view that may be void, and how many there are beyond these. Blocking."""
    found: list[ChunkKey] = []
    beyond = 0
    for band, time in view.band_steps:
        for area in view.areas:
            places = index.unsure_listed(band, time, area, view.level)
            room = _LOOKED_AT - len(found)
            beyond += max(0, len(places) - room)
            found.extend(
                view.collection.key(band, int(row), int(col), time, view.level)
                for row, col in islice(places, room)
            )
    return found, beyond
