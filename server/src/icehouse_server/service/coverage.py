"""The way of a request: plan → ensure → read → encode, all of it in ``CoverageService.answer``.

- plan: which chunks of the collection's grid the region needs, and which of them are absent (``planner``),
- ensure: have the absent ones fetched and committed, each once however many ask (``chunk_fetcher``),
- read: with memory for it (``admission``), read and warp the chunks of one snapshot (``region_reader``),
- encode: make the bytes that leave (``output``).
"""

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from odc.geo.crs import CRS

from icehouse_server import output
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import FailedChunk, NotCachedError, OutsideError, StoreError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Plan, Region
from icehouse_server.service.admission import Admission, HeldMemory
from icehouse_server.service.chunk_fetcher import ChunkFetcher, error_of
from icehouse_server.service.deadline import deadline
from icehouse_server.service.planner import Planner
from icehouse_server.service.region_reader import RegionReader
from icehouse_server.service.trace import Trace
from icehouse_server.service.working_memory import working_bytes
from icehouse_server.store import CollectionStore, DamagedChunksError, Lease, Store

_QUICK_FORMATS = frozenset({"zarr", "npy"})
_QUICK_BYTES = 32 * 1024**2
"""Moved bytes up to which these take less than a millisecond: they copy nothing, and sum 10 GB/s."""

REFILLS = 4
"""Times that one request has chunks fetched again that were there and are gone, or can't be read back."""


@dataclass(frozen=True, kw_only=True)
class CoverageRequest:
    """A request for pixels."""

    region: Region
    snapshot: str | None = None
    """A snapshot's id or tag: read the past, fetch nothing."""
    only_if_cached: bool = False
    fail_on_error: bool = True
    leave_absent: bool = False
    """Fetch nothing: absent chunks stay fill, and are listed as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder[T]:
    """What is made of the pixels of a request."""

    make: Callable[[Coverage], T]
    """Blocking."""
    quick_bytes: float = 0
    """Moved bytes up to which it takes less than handing it to a thread does."""
    memory: Callable[[Region], int] = lambda _: 0
    """Bytes that making it takes at most, in addition to the pixels."""
    kept: Callable[[T], int | None] = lambda _: None
    """Bytes of memory that what was made takes; None where the pixels are needed with it."""


PIXELS: Encoder[Coverage] = Encoder(make=lambda coverage: coverage, quick_bytes=math.inf)
"""The pixels as they are."""


def encoder_of(format_name: str, scratch: output.Scratch = output.IN_MEMORY) -> Encoder[output.Encoded]:
    """Return the encoder of a format, one of ``output.FORMATS``."""
    chosen = output.FORMATS[format_name]
    return Encoder(
        make=partial(output.encode, format_name=format_name, scratch=scratch),
        quick_bytes=_QUICK_BYTES if format_name in _QUICK_FORMATS else 0,
        memory=lambda region: chosen.memory(region, scratch),
        kept=lambda encoded: encoded.memory,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class CoverageResult[T]:
    """Pixels, what was made of them, and how they were come by. Its memory is held until ``close``.

    What was made of pixels may do without them: then the coverage has none any more.
    """

    coverage: Coverage
    encoded: T
    trace: Trace
    memory: HeldMemory

    def close(self) -> None:
        """Give the memory back to the budget, when the last byte has left. Safe to call twice."""
        self.memory.release()


class CoverageService:
    """Answers requests for pixels of the open collections. Runs on one event loop.

    Args:
        store: the open collections.
        planner: makes plans.
        fetcher: has absent chunks fetched.
        admission: memory and turns.
        timeout: seconds that a request may wait for absent chunks, and as many for the rest.
        pool: computes.
        scratch: where answers too large for memory are written.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        fetcher: ChunkFetcher,
        admission: Admission,
        *,
        timeout: float,
        pool: Executor,
        scratch: output.Scratch,
    ) -> None:
        self._store = store
        self._planner = planner
        self._fetcher = fetcher
        self._admission = admission
        self._timeout = timeout
        self._pool = pool
        self._scratch = scratch

    def encoder(self, format_name: str) -> Encoder[output.Encoded]:
        """Return the encoder of a format, one of ``output.FORMATS``."""
        return encoder_of(format_name, self._scratch)

    async def answer[T](
        self, request: CoverageRequest, encoder: Encoder[T], *, trace: Trace, plan: Plan | None = None
    ) -> CoverageResult[T]:
        """Answer a request: plan, fetch what is absent, read and warp, encode.

        Args:
            request: what is asked for.
            encoder: what to make of the pixels.
            trace: filled in on the way, also where the request fails.
            plan: of its region, where the caller has made it.

        Raises:
            OutsideError: the region does not touch the grid.
            TooLargeError: it is over a limit.
            NotCachedError: chunks are absent and may not be fetched.
            ChunksFailedError: chunks could not be filled, and ``fail_on_error`` is set.
            BusyError: a queue or the memory budget is full.
            DeadlineExceededError: it took too long.
            DiskFullError: there is no room to keep what would be fetched.
            ShuttingDownError: the daemon is stopping.
        """
        # Plan. A pure computation: what is too large or lies elsewhere is refused before anything is touched.
        if plan is None:
            with trace.stage("plan"):
                plan = await self._planner.plan(request.region)
        if plan.outside:
            raise OutsideError("the region lies outside the collection")
        trace.chunks += len(plan.needed)
        trace.absent += len(plan.absent)
        size = working_bytes(plan, encoder.memory, clipped=plan.region.clip is not None)
        self._admission.budget.check(size)
        store = self._store.collection(plan.region.collection.id)

        async with deadline(self._timeout * 2):
            for _ in range(REFILLS + 1):
                # Ensure. Before memory is asked for: who waits for a source holds none of it.
                failed = await self._ensure(request, plan, trace)
                with trace.stage("queue"):
                    memory = await self._admission.memory(size)

                # Read. Chunks that were cached may be gone or damaged by now: then fetch them again.
                with memory.working():
                    coverage = await self._read(request, plan, failed, memory, trace)
                if coverage is not None:
                    break
                plan = plan.renewed(store.index)
            else:
                raise StoreError(
                    "stored chunks can't be read back, even after they were fetched again",
                    hint="look at the disk of the cache folder; where max_cache_bytes is set, "
                    "it may be too small",
                )

        # Encode. The result keeps its memory until its last byte has been sent.
        try:
            with trace.stage("encode"), memory.working():
                encoded = await self._encode(coverage, encoder, memory, plan.moved_bytes)
        except BaseException:
            memory.release()
            raise
        kept = encoder.kept(encoded)
        if kept is not None:
            coverage = replace(coverage, bands={})
            memory.shrink(kept)
        return CoverageResult(coverage=coverage, encoded=encoded, trace=trace, memory=memory)

    async def coverage(
        self, request: CoverageRequest, trace: Trace | None = None, plan: Plan | None = None
    ) -> CoverageResult[Coverage]:
        """Answer a request with its pixels as they are; arguments and errors are those of ``answer``."""
        return await self.answer(request, PIXELS, trace=Trace() if trace is None else trace, plan=plan)

    async def warm_up(self, spec: CollectionSpec) -> None:
        """Plan and encode a pixel of nothing, so that the first answer does not wait for PROJ's database."""
        pixel = spec.grid.geobox_of(Window(row=0, col=0, height=1, width=1))
        region = Region(
            collection=spec, bands=spec.bands, target=pixel, times=None if spec.time is None else ()
        )
        await self._planner.plan(region)
        transformer(CRS("EPSG:4326"), spec.grid.crs)
        arrays = {band.name: np.full((1, 1), band.fill, dtype=band.dtype) for band in spec.bands}
        coverage = Coverage(region=region, bands=arrays, snapshot="")
        await run_in(self._pool, output.encode, coverage, "zarr")

    async def _ensure(self, request: CoverageRequest, plan: Plan, trace: Trace) -> tuple[FailedChunk, ...]:
        """Have the absent chunks fetched; return those that could not be. The past is read as it is."""
        if not plan.absent or request.snapshot is not None:
            return ()
        if request.only_if_cached:
            raise _not_cached(plan, len(plan.absent))
        if request.leave_absent:
            return tuple(
                FailedChunk(chunk=key.path, kind=NotCachedError.kind, detail="it is not cached")
                for key in plan.absent
            )
        failed = await self._fetcher.fetch(plan.region.collection, plan.absent, trace)
        if failed and request.fail_on_error:
            raise error_of(failed)
        return failed

    async def _read(
        self,
        request: CoverageRequest,
        plan: Plan,
        failed: tuple[FailedChunk, ...],
        memory: HeldMemory,
        trace: Trace,
    ) -> Coverage | None:
        """Read the region from one snapshot; gives the memory back unless it returns pixels.

        Returns:
            The pixels, or None where cached chunks can't be read back: they count as absent from now on.
        """
        store = self._store.collection(plan.region.collection.id)
        coverage = None
        try:
            async with self._admission.turn(memory, plan.moved_bytes), store.lease(request.snapshot) as lease:
                if request.snapshot is not None:
                    failed = await self._lacking(request, plan, store, lease)
                reader = RegionReader(
                    plan=plan,
                    store=store,
                    lease=lease,
                    trace=trace,
                    pool=self._pool,
                )
                try:
                    bands = await reader.read({failure.chunk for failure in failed})
                    coverage = Coverage(
                        region=plan.region, bands=bands, snapshot=lease.snapshot, failed=failed
                    )
                except DamagedChunksError as error:
                    if not lease.current:
                        raise
                    if lease.snapshot == store.snapshot:  # else they may have been written anew
                        store.forget(error.keys)
        finally:
            if coverage is None:
                memory.release()
        return coverage

    async def _lacking(
        self, request: CoverageRequest, plan: Plan, store: CollectionStore, lease: Lease
    ) -> tuple[FailedChunk, ...]:
        """Return what a past snapshot lacks: unknown there, which is not the same as void."""
        absent = await store.absent(lease, plan.needed)
        if absent and request.fail_on_error:
            raise _not_cached(plan, len(absent))
        return tuple(
            FailedChunk(chunk=key.path, kind=NotCachedError.kind, detail="the snapshot does not hold it")
            for key in absent
        )

    async def _encode[T](self, coverage: Coverage, encoder: Encoder[T], memory: HeldMemory, moved: int) -> T:
        """Encode in the pool, or at once where that takes less than a thread's turn."""
        if moved <= encoder.quick_bytes:
            return encoder.make(coverage)
        async with self._admission.turn(memory, moved):
            return await run_in(self._pool, encoder.make, coverage)


def _not_cached(plan: Plan, absent: int) -> NotCachedError:
    return NotCachedError(
        f"{absent} of the {len(plan.needed)} chunks that this region needs are not cached",
        hint="ask without only-if-cached, and without snapshot, to have them fetched",
    )
