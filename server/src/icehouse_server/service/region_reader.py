"""A region of one snapshot: its cached chunks read, warped onto the target geobox, and clipped."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from icehouse_server.aio.byte_semaphore import ByteSemaphore
from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.footprint import FootprintPiece
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.plan import BandStep, Plan
from icehouse_server.core.ports import Mask, Pixels, Stack
from icehouse_server.output.warp import clip, copy_piece, warp_piece
from icehouse_server.output.warp import inside as inside_of
from icehouse_server.service.trace import Trace
from icehouse_server.service.working_memory import READ_BYTES, piece_bytes
from icehouse_server.store import CollectionStore, Lease

_QUICK_BYTES = 8 * 1024**2
"""Bytes that are filled on the loop: a thread takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReader:
    """Reads what a plan needs from a leased snapshot. Runs on one event loop; computes in the pool."""

    plan: Plan
    """Polygon in the target's CRS (x, y); what lies outside becomes fill."""
    store: CollectionStore
    lease: Lease
    trace: Trace
    pool: Executor
    _reads: ByteSemaphore = field(default_factory=lambda: ByteSemaphore(limit=READ_BYTES), init=False)

    async def read(self, out_of_reach: Collection[str] = frozenset()) -> dict[str, Stack]:
        """Return each band on the target geobox: (rows, columns), or (steps, rows, columns) along time.

        Args:
            out_of_reach: paths of chunks that are not there; their pixels become fill.

        Raises:
            DamagedChunksError: stored chunks can't be read back.
        """
        keys: defaultdict[tuple[str, int | None], list[ChunkKey]] = defaultdict(list)
        for key in self.plan.needed:
            if key.path not in out_of_reach:
                keys[key.band, key.time].append(key)
        region, stacks = self.plan.region, self._allocate()
        steps = (None,) if region.times is None else region.times
        inside = None
        if region.clip is not None:
            inside = await run_in(self.pool, inside_of, region.target, region.clip)
        await gather_or_cancel(
            self._read_step((band, time), keys[band.name, time], out, inside)
            for band in region.bands
            for time, out in zip(steps, stacks[band.name].reshape(-1, *region.shape), strict=True)
        )
        return stacks

    def _allocate(self) -> dict[str, Stack]:
        """Return the arrays to fill: those of neighbouring bands of one dtype lie in one piece of memory.

        Then no encoder of all bands needs a copy.
        """
        region = self.plan.region
        shape = region.shape if region.times is None else (len(region.times), *region.shape)
        stacks: dict[str, Stack] = {}
        for dtype, bands in itertools.groupby(region.bands, key=lambda band: band.dtype):
            names = [band.name for band in bands]
            stacks.update(zip(names, np.empty((len(names), *shape), dtype=dtype), strict=True))
        return stacks

    async def _read_step(
        self, step: BandStep, keys: Sequence[ChunkKey], out: Pixels, inside: Mask | None
    ) -> None:
        """Read a band at one time step on the target geobox."""
        band, _ = step
        pieces = self.plan.footprint.pieces
        if self.plan.footprint.aligned and (pieces[0].target.height, pieces[0].target.width) == out.shape:
            with self.trace.stage("read"):
                async with self._reads.take(piece_bytes(self.plan, pieces[0], band)):
                    await self.store.read(self.lease, band, pieces[0].source, keys, out)
        else:
            if out.nbytes <= _QUICK_BYTES:
                out.fill(band.fill)
            else:
                await run_in(self.pool, out.fill, band.fill)
            for piece in pieces:
                await self._read_piece(piece, band, keys, out)
        if inside is not None:
            await run_in(self.pool, clip, out, inside, band.fill)

    async def _read_piece(
        self, piece: FootprintPiece, band: BandSpec, keys: Sequence[ChunkKey], out: Pixels
    ) -> None:
        """Read a piece of the footprint, and write it to its part of the target."""
        under = self.plan.region.grid.chunks_under(piece.source)
        inside = [
            key
            for key in keys
            if under.row <= key.row < under.stop_row and under.col <= key.col < under.stop_col
        ]
        async with self._reads.take(piece_bytes(self.plan, piece, band)):
            with self.trace.stage("read"):
                values = await self.store.read(self.lease, band, piece.source, inside)
            with self.trace.stage("warp"):
                await run_in(self.pool, _write_piece, self.plan, band, values, piece, out)
            del values


def _write_piece(plan: Plan, band: BandSpec, values: Pixels, piece: FootprintPiece, out: Pixels) -> None:
    """Copy or warp a piece to its part of the target. Blocking."""
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
