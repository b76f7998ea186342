"""Fetching one block: retries, deadlines, and cutting it into chunks."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

import numpy as np
import stamina

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import SourceCorruptError, SourceTimeoutError, SourceUnavailableError
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.limits import RetryPolicy
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, FilledChunk, Pixels, Source


def _retry_hook(policy: RetryPolicy) -> Callable[[Exception], bool | float]:
    """Tell stamina whether to try again and, where the source said so, after how many seconds."""
    begun = time.monotonic()

    def hook(error: Exception) -> bool | float:
        if not isinstance(error, SourceUnavailableError):
            return False
        if error.retry_after is None:
            return True
        in_time = time.monotonic() - begun + error.retry_after <= policy.budget
        return error.retry_after if in_time else False

    return hook


async def read_block(
    source: Source,
    request: BlockRequest,
    policy: RetryPolicy,
    *,
    until: float = math.inf,
    on_retry: Callable[[SourceUnavailableError, float], None] | None = None,
) -> Block:
    """Read a block with retries, and check what came.

    Args:
        source: where to read.
        request: what to read.
        policy: how often and how long to try.
        until: when a try ends at the latest, by the event loop's clock.
        on_retry: called when a further try begins: what made it needed, and the seconds waited since.

    Raises:
        SourceError: after the last try, or at once where another try is of no use.
    """
    retries = stamina.retry_context(
        on=_retry_hook(policy),
        attempts=policy.attempts,
        timeout=policy.budget,
        wait_initial=policy.first_wait,
        wait_max=policy.longest_wait,
        wait_jitter=policy.first_wait,
    )
    clock = asyncio.get_running_loop().time
    cause: tuple[SourceUnavailableError, float] | None = None
    async for attempt in retries:
        if cause is not None and on_retry is not None:
            on_retry(cause[0], time.monotonic() - cause[1])
        with attempt:
            try:
                async with _deadline(min(policy.block_timeout, max(0.0, until - clock())), request):
                    block = await source.read(request)
            except SourceUnavailableError as error:
                cause = error, time.monotonic()
                raise
    _check(block, request)
    return block


@asynccontextmanager
async def _deadline(seconds: float, request: BlockRequest) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise SourceTimeoutError(
            f"the source of {request.collection.id!r} did not give a block within {seconds:.3g} s"
        ) from None


def _check(block: Block, request: BlockRequest) -> None:
    shape = (request.window.height, request.window.width)
    for band in request.bands:
        got = block.bands.get(band.name)
        if got is None:
            raise SourceCorruptError(f"the source gave no band {band.name!r}")
        if got.values.shape != shape or got.valid.shape != shape:
            raise SourceCorruptError(f"band {band.name!r} came as {got.values.shape} pixels, not {shape}")
        if got.values.dtype != band.dtype:
            raise SourceCorruptError(f"band {band.name!r} came as {got.values.dtype}, not {band.dtype}")
        if got.valid.dtype != np.bool_:
            raise SourceCorruptError(
                f"the validity of band {band.name!r} came as {got.valid.dtype}, not bool"
            )


def request_for(spec: CollectionSpec, block: ChunkBlock, not_before: float) -> BlockRequest:
    """Return what a source is asked for to fill a block of chunks; ``not_before`` as the request has it."""
    grid = spec.grids[block.level]
    window = grid.pixels_of(block.chunks)
    return BlockRequest(
        collection=spec,
        level=block.level,
        bands=tuple(spec.band(name) for name in block.bands),
        window=window,
        geobox=grid.geobox_of(window),
        step=spec.step(block.time),
        not_before=not_before,
    )


def cut(
    spec: CollectionSpec, request: BlockRequest, block: Block, chunks: ChunkBlock
) -> tuple[FilledChunk, ...]:
    """Cut a block into whole chunks: fill where nothing is valid and beyond the grid's edge. Blocking."""
    filled: Mapping[str, Pixels] = {
        band.name: _filled(block.bands[band.name], band) for band in request.bands
    }
    return tuple(
        _chunk(band, key, request, filled[band.name], block)
        for band in request.bands
        for key in chunks.keys(spec, band.name)
    )


def _filled(got: BandBlock, band: BandSpec) -> Pixels:
    return cast("Pixels", np.where(got.valid, got.values, band.fill))


def _chunk(band: BandSpec, key: ChunkKey, request: BlockRequest, values: Pixels, block: Block) -> FilledChunk:
    grid, origin = request.grid, request.window
    size = grid.chunk
    area = grid.chunk_window(key.row, key.col)
    part = values[area.slices(origin)]
    if part.shape == (size, size):
        whole = part.copy()  # a view would keep the whole block in memory as long as one chunk is cached
    else:
        whole = np.full((size, size), band.fill, dtype=band.dtype)
        whole[: area.height, : area.width] = part
    void = not bool(block.bands[band.name].valid[area.slices(origin)].any())
    return FilledChunk(
        key=key,
        values=whole,
        void=void,
        provenance=() if void else block.provenance,
    )
