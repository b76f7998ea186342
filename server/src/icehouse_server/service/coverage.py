"""From a region to an answer: plan, ensure, read, warp, encode."""

import asyncio
import os
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from odc.geo.crs import CRS
from shapely.geometry.base import BaseGeometry

from icehouse_server import output
from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import (
    ChunksFailedError,
    DeadlineExceededError,
    DiskFullError,
    FailedChunk,
    NotCachedError,
    OutsideError,
    ShuttingDownError,
    StoreError,
    UnknownCollectionError,
)
from icehouse_server.core.footprint import FootprintPiece
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.limits import Limits
from icehouse_server.core.plan import Plan, Region, make_plan
from icehouse_server.core.ports import Pixels, Stack
from icehouse_server.core.transformers import transformer
from icehouse_server.downloads import Downloads
from icehouse_server.output.warp import clip, copy_piece, warp_piece
from icehouse_server.service.memory_budget import MemoryBudget
from icehouse_server.service.trace import Trace
from icehouse_server.store import CollectionStore, DamagedChunksError, Lease, Store

_QUICK_FORMATS = frozenset({"zarr", "npy"})
_QUICK_BYTES = 32 * 1024**2
"""Working bytes up to which these take less than a millisecond: they copy nothing, and sum 10 GB/s."""

_QUICK_PIXELS = 2_000_000
"""A plan of no more pixels takes a few milliseconds and is made on the loop; a larger one in the pool."""

_LARGE_BYTES = 16 * 1024**2
"""Working bytes from which answers are made one after the other, so that small ones find a processor free."""

_LARGE_PATIENCE = 1.0
"""Seconds that a large answer waits for its turn at most: one that hangs must not hold up the others."""

_DISK_PATIENCE = 5.0
"""Seconds in which the disk must say what it has free."""

REFILLS = 4
"""Times that one request has chunks fetched again that were there and are gone, or can't be read back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Limits of the service."""

    limits: Limits = field(default_factory=Limits)
    request_timeout: float = 300.0
    """Seconds that a request may wait for absent chunks."""
    max_answer_bytes: int = 2 * 1024**3
    """Memory that all answers under way may hold."""
    disk_floor: int = 512 * 1024**2
    """Bytes to be left free on the cache folder's disk: below it nothing is fetched."""


@dataclass(frozen=True, kw_only=True)
class CoverageRequest:
    """A request for pixels."""

    region: Region
    geometry: BaseGeometry | None = None
    """Polygon in the target's CRS (x, y); what lies outside becomes fill."""
    snapshot: str | None = None
    """A snapshot's id or tag: read the past, fetch nothing."""
    only_if_cached: bool = False
    fail_on_error: bool = True
    leave_absent: bool = False
    """Fetch nothing: absent chunks stay fill, and are listed as failed."""


@dataclass(kw_only=True, eq=False)
class CoverageResult:
    """Pixels and how they were come by. Its memory counts against the budget until ``close``."""

    coverage: Coverage
    trace: Trace
    budget: MemoryBudget
    held: int

    def close(self) -> None:
        """Give the answer's memory back to the budget, when the last byte has left. Safe to call twice."""
        held, self.held = self.held, 0
        self.budget.release(held)


class CoverageService:
    """Answers requests for pixels of the open collections. Runs on one event loop."""

    def __init__(
        self, store: Store, downloads: Downloads, settings: ServiceSettings, *, pool: Executor
    ) -> None:
        self.store = store
        self.downloads = downloads
        self.settings = settings
        self.budget = MemoryBudget(settings.max_answer_bytes)
        self._pool = pool
        self._large = asyncio.Semaphore(max(1, (os.cpu_count() or 2) // 2))
        self._looking: asyncio.Future[int] | None = None
        """A look at the disk that is under way."""

    @property
    def collections(self) -> Mapping[str, CollectionStore]:
        """The open collections by id."""
        return self.store.collections

    def collection(self, name: str) -> CollectionStore:
        """Return an open collection.

        Raises:
            StoreError: it was set aside: its repository could not be opened.
            UnknownCollectionError: there is none of this id.
        """
        found = self.collections.get(name)
        if name in self.store.set_aside:
            raise StoreError(
                f"collection {name!r} is set aside: its repository could not be opened",
                hint="the daemon's log says why and what to do",
            )
        if found is None:
            raise UnknownCollectionError(
                f"there is no collection {name[:80]!r}",
                hint=f"there are {', '.join(sorted(self.collections))}",
            )
        return found

    async def warm_up(self, spec: CollectionSpec) -> None:
        """Plan and encode a pixel of nothing, so that the first answer does not wait for PROJ's database."""
        pixel = spec.grid.geobox_of(Window(row=0, col=0, height=1, width=1))
        region = Region(
            collection=spec, bands=spec.bands, target=pixel, times=None if spec.time is None else ()
        )
        await self.plan(region)
        transformer(CRS("EPSG:4326"), spec.grid.crs)
        arrays = {band.name: np.full((1, 1), band.fill, dtype=band.dtype) for band in spec.bands}
        coverage = Coverage(region=region, bands=arrays, snapshot="")
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, output.encode, coverage, "zarr")

    async def plan(self, region: Region) -> Plan:
        """Return what a request would need; nothing is fetched.

        Raises:
            TooLargeError: it is over a limit.
        """
        index = self.collection(region.collection.id).index
        rows, cols = region.shape
        if rows * cols <= _QUICK_PIXELS:
            return make_plan(region, index, self.settings.limits)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, make_plan, region, index, self.settings.limits)

    async def plan_of(self, ask: CoverageRequest) -> tuple[Plan, str]:
        """Return what a request would need, and the snapshot that this holds for.

        Raises:
            TooLargeError: it is over a limit.
            UnknownSnapshotError: the past snapshot that it names does not exist.
        """
        plan = await self.plan(ask.region)
        store = self.collection(ask.region.collection.id)
        if ask.snapshot is None:
            return plan, store.snapshot
        async with store.lease(ask.snapshot) as lease:
            return replace(plan, absent=await store.absent(lease, plan.needed)), lease.snapshot

    async def voids(self, plan: Plan) -> int:
        """Return how many of a plan's cached chunks are void."""
        absent = set(plan.absent)
        store = self.collection(plan.region.collection.id)
        return await store.voids([key for key in plan.needed if key not in absent])

    async def coverage(
        self, ask: CoverageRequest, trace: Trace | None = None, plan: Plan | None = None
    ) -> CoverageResult:
        """Answer a request: fetch what is absent, then read, warp and clip.

        Args:
            ask: the request.
            trace: filled in on the way, for callers who want it also where the request fails.
            plan: of its region, where the caller has made it.

        Raises:
            OutsideError: the region does not touch the grid.
            TooLargeError: it is over a limit.
            NotCachedError: chunks are absent and may not be fetched.
            ChunksFailedError: chunks could not be filled, and ``fail_on_error`` is set.
            BusyError: a queue or the memory budget is full.
            DiskFullError: there is no room to keep what would be fetched.
            ShuttingDownError: the daemon is stopping.
        """
        trace = Trace() if trace is None else trace
        if plan is None:
            with trace.stage("plan"):
                plan = await self.plan(ask.region)
        if plan.outside:
            raise OutsideError("the region lies outside the collection")
        trace.chunks += len(plan.needed)
        trace.absent += len(plan.absent)
        self.budget.check(plan.working_bytes)
        async with deadline(self.settings.request_timeout * 2):
            return await self._coverage(ask, plan, trace)

    async def encode(self, answer: CoverageResult, format_name: str) -> output.Encoded:
        """Encode an answer: in the pool, or at once where that takes less than a thread's turn."""
        with answer.trace.stage("encode"):
            if format_name in _QUICK_FORMATS and answer.held <= _QUICK_BYTES:
                return output.encode(answer.coverage, format_name)
            loop = asyncio.get_running_loop()
            async with self._turn(answer.held):
                return await loop.run_in_executor(self._pool, output.encode, answer.coverage, format_name)

    @asynccontextmanager
    async def _turn(self, size: int) -> AsyncIterator[None]:
        """Let large answers take turns; small ones go at once."""
        mine = False
        if size > _LARGE_BYTES:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LARGE_PATIENCE):
                    mine = await self._large.acquire()
        try:
            yield
        finally:
            if mine:
                self._large.release()

    async def _coverage(self, ask: CoverageRequest, plan: Plan, trace: Trace) -> CoverageResult:
        """Fetch, then read. Memory is asked for in between: who waits for a source holds none of it."""
        store = self.collection(plan.region.collection.id)
        for _ in range(REFILLS + 1):
            failed = () if ask.snapshot is not None else await self._ensure(ask, plan, trace)
            size = plan.working_bytes
            with trace.stage("queue"):
                await self.budget.acquire(size, self.settings.request_timeout)
            answer = None
            try:
                async with self._turn(size), store.lease(ask.snapshot) as lease:
                    if ask.snapshot is not None:
                        failed = await self._lacking(ask, plan, store, lease)
                    try:
                        coverage = await self._read(ask, plan, store, lease, failed, trace)
                        answer = CoverageResult(coverage=coverage, trace=trace, budget=self.budget, held=size)
                    except DamagedChunksError as error:
                        if not lease.current:
                            raise
                        if lease.snapshot == store.snapshot:  # else they may have been written anew
                            store.forget(error.keys)
            finally:
                if answer is None:
                    self.budget.release(size)
            if answer is not None:
                return answer
            plan = replace(plan, absent=tuple(key for key in plan.needed if not store.index.has(key)))
        raise StoreError(
            "stored chunks can't be read back, even after they were fetched again",
            hint="look at the disk of the cache folder; where max_cache_bytes is set, it may be too small",
        )

    async def _ensure(self, ask: CoverageRequest, plan: Plan, trace: Trace) -> tuple[FailedChunk, ...]:
        """Have the absent chunks fetched; return those that could not be.

        That the daemon stops says nothing of the source, so it is no failure of chunks.
        """
        if not plan.absent:
            return ()
        if ask.only_if_cached:
            raise _not_cached(plan, len(plan.absent))
        if ask.leave_absent:
            return tuple(
                FailedChunk(chunk=key.path, kind=NotCachedError.kind, detail="it is not cached")
                for key in plan.absent
            )
        failed = await self.fetch(plan.region.collection, plan.absent, trace)
        if failed and ask.fail_on_error:
            raise error_of(failed)
        return failed

    async def fetch(
        self, spec: CollectionSpec, keys: Sequence[ChunkKey], trace: Trace
    ) -> tuple[FailedChunk, ...]:
        """Have chunks fetched and committed, and wait for them; return those that could not be.

        Raises:
            BusyError: a queue is full.
            DiskFullError: there is no room to keep what would be fetched.
            ShuttingDownError: the daemon is stopping.
        """
        await self.check_disk()
        with trace.stage("fetch"):
            ensured = await self.downloads.ensure(spec, keys, timeout=self.settings.request_timeout)
        trace.committed(ensured.commit_seconds)
        trace.failed += len(ensured.failed)
        trace.started += ensured.started
        trace.joined += ensured.joined
        if any(failure.kind == ShuttingDownError.kind for failure in ensured.failed):
            raise ShuttingDownError("the daemon is stopping; what it has fetched is kept", retry_after=5)
        return ensured.failed

    async def check_disk(self) -> None:
        """Look whether there is room to keep what would be fetched.

        One look at a time: a disk that hangs takes one thread, and not all that decode.

        Raises:
            DiskFullError: less is free than ``disk_floor``.
            StoreError: the disk does not say.
        """
        if self._looking is None or self._looking.done():
            loop = asyncio.get_running_loop()
            self._looking = loop.run_in_executor(self._pool, _free_bytes, self.store.folder)
            self._looking.add_done_callback(lambda looked: looked.cancelled() or looked.exception())
        looking = self._looking
        if not (await asyncio.wait([looking], timeout=_DISK_PATIENCE))[0]:
            raise StoreError(
                f"the disk of the cache folder did not answer within {_DISK_PATIENCE:.0f} s",
                hint="look at the disk of the cache folder; cached regions still work",
            )
        try:
            free = looking.result()
        except OSError as error:
            raise StoreError(
                f"the disk of the cache folder does not say what is free: {error.strerror}",
                hint="look at the disk of the cache folder; cached regions still work",
            ) from error
        if free < self.settings.disk_floor:
            raise DiskFullError(
                f"the cache folder's disk has {free} bytes free; disk_floor is {self.settings.disk_floor}",
                hint="make room, or point cache_dir at a larger disk; cached regions still work",
            )

    async def _lacking(
        self, ask: CoverageRequest, plan: Plan, store: CollectionStore, lease: Lease
    ) -> tuple[FailedChunk, ...]:
        """Return what a past snapshot lacks: unknown there, which is not the same as void."""
        absent = await store.absent(lease, plan.needed)
        if absent and ask.fail_on_error:
            raise _not_cached(plan, len(absent))
        return tuple(
            FailedChunk(chunk=key.path, kind=NotCachedError.kind, detail="the snapshot does not hold it")
            for key in absent
        )

    async def _read(
        self,
        ask: CoverageRequest,
        plan: Plan,
        store: CollectionStore,
        lease: Lease,
        failed: tuple[FailedChunk, ...],
        trace: Trace,
    ) -> Coverage:
        out_of_reach = {failure.chunk for failure in failed}
        keys: defaultdict[tuple[str, int | None], list[ChunkKey]] = defaultdict(list)
        for key in plan.needed:
            if key.path not in out_of_reach:
                keys[key.band, key.time].append(key)
        layers = await gather_or_cancel(
            self._layer(ask, plan, store, lease, band, keys[band.name, time], trace)
            for band, time in plan.region.layers
        )
        bands = await self._stacked(plan, layers)
        return Coverage(region=plan.region, bands=bands, snapshot=lease.snapshot, failed=failed)

    async def _stacked(self, plan: Plan, layers: Sequence[Pixels]) -> dict[str, Stack]:
        """Return the layers by band; those of one band as one array where there is a time axis."""
        region = plan.region
        if region.times is None:
            return {band.name: layer for band, layer in zip(region.bands, layers, strict=True)}
        each = len(region.times)
        if each == 1:
            return {band.name: layer[np.newaxis] for band, layer in zip(region.bands, layers, strict=True)}
        loop = asyncio.get_running_loop()
        stacks = [
            await loop.run_in_executor(self._pool, np.stack, layers[first : first + each])
            for first in range(0, len(layers), each)
        ]
        return {band.name: stack for band, stack in zip(region.bands, stacks, strict=True)}

    async def _layer(
        self,
        ask: CoverageRequest,
        plan: Plan,
        store: CollectionStore,
        lease: Lease,
        band: BandSpec,
        keys: Sequence[ChunkKey],
        trace: Trace,
    ) -> Pixels:
        """Read a band at one time step, or without one, on the target geobox."""
        shape = plan.region.shape
        pieces = plan.footprint.pieces
        if plan.footprint.aligned and (pieces[0].target.height, pieces[0].target.width) == shape:
            with trace.stage("read"):
                out = await store.read(lease, band, pieces[0].source, keys)
        else:
            out = np.full(shape, band.fill, dtype=band.dtype)
            for piece in pieces:
                await self._piece(plan, store, lease, band, keys, piece, out, trace)
        if ask.geometry is not None:
            loop = asyncio.get_running_loop()
            out = await loop.run_in_executor(
                self._pool, clip, out, plan.region.target, ask.geometry, band.fill
            )
        return out

    async def _piece(
        self,
        plan: Plan,
        store: CollectionStore,
        lease: Lease,
        band: BandSpec,
        keys: Sequence[ChunkKey],
        piece: FootprintPiece,
        out: Pixels,
        trace: Trace,
    ) -> None:
        under = plan.region.grid.chunks_under(piece.source)
        inside = [
            key
            for key in keys
            if under.row <= key.row < under.stop_row and under.col <= key.col < under.stop_col
        ]
        with trace.stage("read"):
            values = await store.read(lease, band, piece.source, inside)
        with trace.stage("warp"):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._pool, _write_piece, plan, band, values, piece, out)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """End everything that a request waits for: reading, too, can hang where a disk does."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceededError(f"the request was not answered within {seconds:.0f} s") from None


def _free_bytes(folder: Path) -> int:
    """Return the bytes that a folder's disk has free. Blocking."""
    return shutil.disk_usage(folder).free


def _write_piece(plan: Plan, band: BandSpec, values: Pixels, piece: FootprintPiece, out: Pixels) -> None:
    if plan.footprint.aligned:
        copy_piece(values, piece, out=out)
        return
    warp_piece(
        values,
        piece,
        grid=plan.region.grid,
        target=plan.region.target,
        band=band,
        method=plan.region.resampling_of(band),
        out=out,
    )


def error_of(failed: tuple[FailedChunk, ...], *, holes: bool = True) -> ChunksFailedError | DiskFullError:
    """Return the error of chunks that are not there; that the disk is full says nothing of their source.

    Args:
        failed: the chunks.
        holes: who asks may have the failed area as nodata instead (``fail_on_error``).
    """
    if all(failure.kind == DiskFullError.kind for failure in failed):
        hint = "make room, or point cache_dir at a larger disk; cached regions still work"
        return DiskFullError(failed[0].detail, hint=hint)
    error = ChunksFailedError(failed)
    if not holes:
        error.hint = error.remedy
    return error


def _not_cached(plan: Plan, absent: int) -> NotCachedError:
    return NotCachedError(
        f"{absent} of the {len(plan.needed)} chunks that this region needs are not cached",
        hint="ask without only-if-cached, and without snapshot, to have them fetched",
    )
