"""A scripted source and a sink in memory: the ports of the core without network and without a repository.

What they serve is arithmetic: the value of a pixel follows from its band, its place and a seed, so a test can
say what must come out without keeping a copy of what went in.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.grid import ChunkKey, Grid, Window
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, FilledChunk, Mask, Pixels, Provenance
from icehouse_server.core.time import TimeAxis, TimeRange, TimeStep

type Fault = Callable[[BlockRequest], Exception | Block | None]
"""Looks at a request: an error to raise, a block to give instead of the truth, or None to let it pass."""

_BAND = 7919
_ROW = 31
_COL = 17
_MODULUS = 251
_HOLES = 11
_LEVEL = 53
_STEP = 3600
"""Seconds between starts of steps from which pixels differ."""

_FAR = datetime(9000, 1, 1, tzinfo=UTC)


def tiny_spec(
    name: str = "tiny",
    *,
    rows: int = 150,
    cols: int = 200,
    chunk: int = 16,
    bands: tuple[BandSpec, ...] | None = None,
    crs: str = "EPSG:3413",
    resolution: float = 32.0,
    time: TimeAxis | None = None,
) -> CollectionSpec:
    """Return a collection of a few chunks whose edges cut the last row and column."""
    chosen = bands or (
        BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0, units="m", resampling="bilinear"),
        BandSpec(name="mask", dtype=np.dtype("uint8"), nodata=0),
    )
    affine = Affine(resolution, 0.0, -1000.0 * resolution, 0.0, -resolution, 900.0 * resolution)
    return CollectionSpec(
        id=name,
        title=name,
        description="",
        grid=Grid(geobox=GeoBox((rows, cols), affine, crs), chunk=chunk),
        bands=chosen,
        default_bands=(chosen[0].name,),
        time=time,
        source_type="scripted",
        source={},
        bbox=(-180.0, 50.0, 180.0, 90.0),
    )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The remote data: every pixel follows from its place, its level, and its time step if there is one."""

    spec: CollectionSpec
    seed: int = 0
    void: frozenset[tuple[int, int]] = frozenset()
    """Chunks of which the source has nothing, in every band."""

    def block(
        self, band: BandSpec, window: Window, step: TimeStep | None = None, level: int = 0
    ) -> tuple[Pixels, Mask]:
        """Return (values, valid) of a window; a pixel in eleven is invalid, and all of a void chunk."""
        rows = np.arange(window.row, window.stop_row)[:, None]
        cols = np.arange(window.col, window.stop_col)[None, :]
        seed = self.seed + level * _LEVEL + (0 if step is None else abs(step.seconds[0]) // _STEP)
        number = sum(map(ord, band.name)) * _BAND + rows * rows * _ROW + cols * cols * _COL + seed
        values = (1 + number % _MODULUS % 100).astype(band.dtype)
        valid = (rows + 3 * cols + seed) % _HOLES != 0
        side = self.spec.grid.chunk
        for row, col in self.void:
            valid &= ~((rows // side == row) & (cols // side == col))
        return cast("Pixels", values), cast("Mask", valid)

    def pixels(self, band: BandSpec, window: Window, step: TimeStep | None = None, level: int = 0) -> Pixels:
        """Return what a cache must answer for a window inside the grid: fill where nothing is valid."""
        values, valid = self.block(band, window, step, level)
        return cast("Pixels", np.where(valid, values, band.fill))


@dataclass(kw_only=True)
class ScriptedSource:
    """The port ``Source``: serves a truth, remembers what it was asked, and fails as scripted."""

    truth: Truth
    faults: list[Fault] = field(default_factory=list)
    """Asked in order at each read; the first that answers decides."""
    gate: asyncio.Event | None = None
    """Where set, a read waits for it before it gives anything."""
    requests: list[BlockRequest] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    closed: bool = False
    block_side: int | None = None

    async def read(self, request: BlockRequest) -> Block:
        """Serve the truth, or what the first fault says."""
        self.requests.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            for fault in self.faults:
                found = fault(request)
                if isinstance(found, Block):
                    return found
                if found is not None:
                    raise found
            return self.give(request)
        finally:
            self.under_way -= 1

    def give(self, request: BlockRequest) -> Block:
        """Return the truth of a request."""
        bands = {}
        for band in request.bands:
            values, valid = self.truth.block(band, request.window, request.step, request.level)
            bands[band.name] = BandBlock(values=values, valid=valid)
        return Block(bands=bands, provenance=(Provenance(item="scripted", href="", version=""),))

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    @property
    def reads(self) -> Counter[ChunkKey]:
        """How often each chunk was asked for."""
        return Counter(key for request in self.requests for key in keys_of(request))


def keys_of(request: BlockRequest) -> Iterator[ChunkKey]:
    """List the chunks that a block request covers."""
    spec, step = request.collection, request.step
    time = None
    if spec.time is not None and step is not None:
        (time,) = spec.time.select([TimeRange(start=step.start, end=step.start)], _FAR)
    under = request.grid.chunks_under(request.window)
    for band in request.bands:
        for row in range(under.row, under.stop_row):
            for col in range(under.col, under.stop_col):
                yield spec.key(band.name, row, col, time, request.level)


def touches(row: int, col: int, make: Callable[[], Exception], *, times: int | None = None) -> Fault:
    """Return a fault that strikes requests over one chunk, for ever or a number of times.

    Args:
        row: of the chunk.
        col: of the chunk.
        make: makes the error.
        times: how often; None is for ever.
    """
    left = [times]

    def fault(request: BlockRequest) -> Exception | None:
        under = request.collection.grid.chunks_under(request.window)
        hit = under.row <= row < under.stop_row and under.col <= col < under.stop_col
        if not hit or left[0] == 0:
            return None
        if left[0] is not None:
            left[0] -= 1
        return make()

    return fault


@dataclass(kw_only=True)
class MemorySink:
    """The ports ``ChunkSink`` and ``Presence`` on a dictionary."""

    chunks: dict[ChunkKey, FilledChunk] = field(default_factory=dict)
    commits: list[tuple[ChunkKey, ...]] = field(default_factory=list)
    faults: list[Callable[[tuple[FilledChunk, ...]], Exception | None]] = field(default_factory=list)

    def has(self, key: ChunkKey) -> bool:
        """Return whether a chunk was committed."""
        return key in self.chunks

    async def commit(self, chunks: tuple[FilledChunk, ...]) -> None:
        """Take chunks, or fail as scripted."""
        await asyncio.sleep(0)
        for fault in self.faults:
            error = fault(chunks)
            if error is not None:
                raise error
        self.commits.append(tuple(chunk.key for chunk in chunks))
        self.chunks.update((chunk.key, chunk) for chunk in chunks)
