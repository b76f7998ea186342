"""Map tiles: coverages with a style, that fetch a few chunks at most."""

import hashlib
import math
from collections import Counter
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import ChunksFailedError, OutsideError, TooLargeError
from icehouse_server.core.geometry.levels import best_level
from icehouse_server.core.geometry.pixel_chunks import chunk_numbers, pixels_in
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.limits import Limits, TileSettings
from icehouse_server.core.plan import Plan, Region, make_plan
from icehouse_server.core.style import Style
from icehouse_server.core.tile_matrix_sets import TileAddress, Zooms, zooms_of
from icehouse_server.output.map_tile import Sheet, cut, draw, encode_picture, hatch
from icehouse_server.raster import kernel
from icehouse_server.service.coverage import CoverageRequest, CoverageService, Encoder
from icehouse_server.service.trace import Trace
from icehouse_server.store import Store

_MOST_PIXELS = 2**24
"""Pixels of the chunks of a band that one tile is read from at most: 256 of 256 x 256."""

_DRAWN: Encoder[Coverage] = Encoder(
    make=lambda coverage: coverage,
    quick_bytes=math.inf,
    memory=lambda region: 32 * region.shape[0] * region.shape[1],
)
"""The pixels, with memory for the picture: layers and relief as float64."""

_DRAWN_AS = "3"
"""Raised when the same pixels give a different picture than before."""


@dataclass(frozen=True, kw_only=True)
class TileRequest:
    """A request for a tile."""

    spec: CollectionSpec
    address: TileAddress
    style: Style
    time: int | None
    """Number of the time step; None where the collection has no time axis."""
    format: str
    """One of ``output.PICTURES``."""
    only_if_cached: bool = False


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """What a tile needs."""

    request: TileRequest
    region: Region
    plan: Plan | None
    """None where more chunks lie under the tile than one is read from."""
    fetches: bool
    """Whether it shows all that there is, and fetches what is absent of it."""
    tag: str
    """Entity tag of the tile once it shows all: of the content of the chunks under it."""

    @property
    def at_hand(self) -> bool:
        """Whether everything that it shows is cached."""
        return self.plan is not None and not self.plan.absent and not self.plan.outside


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture."""

    data: bytes
    tag: str | None
    """Entity tag; None where not all is shown."""
    snapshot: str
    not_shown: int
    """Chunks that are not cached and not shown; at least, where there are too many to count."""


class TileService:
    """Answers requests for tiles. Runs on one event loop.

    Args:
        store: the open collections.
        coverages: answer with the pixels of a tile.
        settings: limits of tiles.
        limits: those of requests for pixels.
        pool: computes.
    """

    def __init__(
        self,
        store: Store,
        coverages: CoverageService,
        settings: TileSettings,
        *,
        limits: Limits,
        pool: Executor,
    ) -> None:
        self._store = store
        self._coverages = coverages
        self._limits = limits
        self.settings = settings
        self._pool = pool
        self._zooms: dict[tuple[str, str], Zooms] = {}

    async def zooms(self, spec: CollectionSpec, tms: str) -> Zooms:
        """Return at which zooms of a tile matrix set a collection is worth asking for.

        Where it does not lie in its square, zoom 0 says so.
        """
        found = self._zooms.get((spec.id, tms))
        if found is None:
            most = self.settings.max_tile_chunks
            found = await run_in(self._pool, zooms_of, spec, tms, most) or Zooms(first=0, last=0)
            self._zooms[spec.id, tms] = found
        return found

    def plan(self, request: TileRequest) -> TilePlan:
        """Return what a tile needs; nothing is fetched."""
        store = self._store.collection(request.spec.id)
        margin = _margin(request.style)
        resampling = request.style.resampling
        bands = request.spec.select(request.style.read)
        region = Region(
            collection=request.spec,
            bands=bands,
            target=request.address.geobox(margin),
            times=None if request.time is None else (request.time,),
            level=best_level(request.spec, request.address.geobox()),
            resampling={} if resampling is None else {band.name: resampling for band in bands},
        )
        most = len(bands) * (_MOST_PIXELS // region.grid.chunk**2 or 1)
        limits = replace(self._limits, max_chunks=most, max_fills=most)
        try:
            plan = make_plan(region, store.index, limits)
        except TooLargeError as error:
            if error.setting == "max_output_pixels":
                raise
            plan = None
        absent = Counter(key.band for key in plan.absent) if plan is not None else Counter[str]()
        fetches = plan is not None and max(absent.values(), default=0) <= self.settings.max_tile_chunks
        return TilePlan(
            request=request,
            region=region,
            plan=plan,
            fetches=fetches,
            tag=_tag(request, region, store.generation),
        )

    async def tile(self, planned: TilePlan, trace: Trace) -> Tile:
        """Draw a tile; what is absent is fetched first, unless it is too much: then it is hatched.

        Raises:
            OutsideError: it does not touch the grid.
            NotCachedError: chunks are absent and may not be fetched.
            ChunksFailedError: chunks could not be fetched.
            BusyError: a queue or the memory budget is full.
            DiskFullError: there is no room to keep what would be fetched.
            ShuttingDownError: the daemon is stopping.
        """
        plan = planned.plan
        if plan is None or (not planned.fetches and len(plan.absent) == len(plan.needed)):
            return await self._nothing(planned, trace)
        request = CoverageRequest(
            region=planned.region,
            only_if_cached=planned.request.only_if_cached and planned.fetches,
            fail_on_error=planned.fetches,
            leave_absent=not planned.fetches,
        )
        try:
            answer = await self._coverages.answer(request, _DRAWN, trace=trace, plan=plan)
        except ChunksFailedError as error:
            error.hint = error.remedy
            raise
        if not planned.fetches:
            trace.left = trace.absent
        coverage = answer.coverage
        try:
            with trace.stage("encode"), answer.memory.working():
                data = await run_in(self._pool, _picture, planned, coverage)
        finally:
            answer.close()
        return Tile(
            data=data,
            tag=None if coverage.failed else planned.tag,
            snapshot=coverage.snapshot,
            not_shown=len(coverage.failed),
        )

    async def _nothing(self, planned: TilePlan, trace: Trace) -> Tile:
        """Draw a tile of which nothing is shown: hatch, where the grid lies."""
        with trace.stage("encode"):
            found = await run_in(self._pool, _all_hatched, planned)
        if found is None:
            raise OutsideError("the tile lies outside the collection")
        data, chunks = found
        trace.chunks += chunks
        trace.absent += chunks
        trace.left += chunks
        snapshot = self._store.collection(planned.request.spec.id).snapshot
        return Tile(data=data, tag=None, snapshot=snapshot, not_shown=chunks)


def _margin(style: Style) -> int:
    """Return the pixels around a tile that its style looks at."""
    return 1 if style.hillshade else 0


def _tag(request: TileRequest, region: Region, generation: str) -> str:
    """Return the entity tag of a tile: what it shows, and how, also where the collection file says that."""
    methods = tuple(region.resampling_of(band) for band in region.bands)
    shown = (
        request.spec.id,
        request.address,
        request.style,
        request.time,
        request.format,
        region.level,
        methods,
    )
    parts = repr((_DRAWN_AS, kernel.name(), generation, *shown))
    return f'"{hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}"'


def _picture(planned: TilePlan, coverage: Coverage) -> bytes:
    """Draw and encode a tile. Blocking."""
    request, grid = planned.request, planned.region.grid
    picture = draw(Sheet(coverage=coverage, style=request.style, margin=_margin(request.style)))
    unmarked = _may_leave_unmarked(planned)
    if coverage.failed or unmarked:
        numbers = chunk_numbers(grid, request.address.geobox())
        if unmarked:
            picture = cut(picture, numbers >= 0)
        keys = [ChunkKey.from_path(request.spec.id, failure.chunk) for failure in coverage.failed]
        if keys:
            picture = hatch(picture, pixels_in(grid, numbers, {(key.row, key.col) for key in keys}))
    return encode_picture(picture, request.format)


def _may_leave_unmarked(planned: TilePlan) -> bool:
    """Return whether pixels may lie outside of the grid and no band's nodata, nor a mask, says so."""
    region = planned.region
    if planned.request.style.mask is not None or any(band.nodata is not None for band in region.bands):
        return False
    window, (rows, cols) = planned.plan.window if planned.plan else None, region.grid.shape
    if window is None:
        return True
    return not (min(window.row, window.col) > 0 and window.stop_row < rows and window.stop_col < cols)


def _all_hatched(planned: TilePlan) -> tuple[bytes, int] | None:
    """Draw a tile of hatch, and count chunks; None where none of it lies on the grid. Blocking."""
    numbers = chunk_numbers(planned.region.grid, planned.request.address.geobox())
    where = numbers >= 0
    if not where.any():
        return None
    chunks = len(np.unique(numbers[where])) * len(planned.region.bands)
    return encode_picture(hatch(None, where), planned.request.format), chunks
