"""A region of one snapshot: its cached chunks read, warped onto the target geobox, and clipped."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from shapely.geometry.base import BaseGeometry

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.footprint import FootprintPiece
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.plan import BandStep, Plan
from icehouse_server.core.ports import Pixels, Stack
from icehouse_server.output.warp import clip, copy_piece, warp_piece
from icehouse_server.service.trace import Trace
from icehouse_server.store import CollectionStore, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReader:
    """Reads what a plan needs from a leased snapshot. Runs on one event loop; computes in the pool."""

    plan: Plan
    geometry: BaseGeometry | None
    """Polygon in the target's CRS (x, y); what lies outside becomes fill."""
    store: CollectionStore
    lease: Lease
    trace: Trace
    pool: Executor

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
        rasters = await gather_or_cancel(
            self._read_step(step, keys[step[0].name, step[1]]) for step in self.plan.region.band_steps
        )
        return await self._stack(rasters)

    async def _stack(self, rasters: Sequence[Pixels]) -> dict[str, Stack]:
        """Return rasters by band; those of one band as one array where there is a time axis."""
        region = self.plan.region
        if region.times is None:
            return {band.name: raster for band, raster in zip(region.bands, rasters, strict=True)}
        each = len(region.times)
        if each == 1:
            return {band.name: raster[np.newaxis] for band, raster in zip(region.bands, rasters, strict=True)}
        stacks = [
            await run_in(self.pool, np.stack, rasters[first : first + each])
            for first in range(0, len(rasters), each)
        ]
        return {band.name: stack for band, stack in zip(region.bands, stacks, strict=True)}

    async def _read_step(self, step: BandStep, keys: Sequence[ChunkKey]) -> Pixels:
        """Read a band at one time step on the target geobox."""
        band, _ = step
        pieces, shape = self.plan.footprint.pieces, self.plan.region.shape
        if self.plan.footprint.aligned and (pieces[0].target.height, pieces[0].target.width) == shape:
            with self.trace.stage("read"):
                out = await self.store.read(self.lease, band, pieces[0].source, keys)
        else:
            out = np.full(shape, band.fill, dtype=band.dtype)
            for piece in pieces:
                await self._read_piece(piece, band, keys, out)
        if self.geometry is not None:
            out = await run_in(self.pool, clip, out, self.plan.region.target, self.geometry, band.fill)
        return out

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
        with self.trace.stage("read"):
            values = await self.store.read(self.lease, band, piece.source, inside)
        with self.trace.stage("warp"):
            await run_in(self.pool, _write_piece, self.plan, band, values, piece, out)


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
