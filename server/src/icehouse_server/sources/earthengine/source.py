"""The source for images and collections of Google Earth Engine."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.task_set import TaskSet
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import SourceRefusedError
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, Provenance, Source
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.earthengine.access import Access, shared_access
from icehouse_server.sources.earthengine.error_translation import TooMuchError, explained
from icehouse_server.sources.earthengine.expression import pixel_grid, request_image
from icehouse_server.sources.earthengine.request_cutting import PixelRect, cut, pixel_rects
from icehouse_server.sources.earthengine.settings import BandTable, EarthEngineTable, parse_band, parse_source
from icehouse_server.sources.earthengine.value_bands import Canvas, Layout, band_batches
from icehouse_server.sources.http.hosts import SLOWEST
from icehouse_server.sources.raster.holes import filled, surroundings

log = structlog.get_logger(__name__)

_SMALLEST = 64 * 64
"""Pixels of a request that is not halved any more."""

_REMEMBERED = 600.0
"""Seconds for which requests stay as small as they had to become."""

_BLOCK_SIDE = 4096
"""Pixels each way of a block: large, as a block is cut into requests that Earth Engine's limit fills."""

_HEADER = 64 * 1024
"""Bytes of an answer in addition to its pixels, at most."""


def create(spec: CollectionSpec, context: SourceContext) -> Source:
    """Make the source of a collection file with ``type = "earthengine"``. Opens no connection.

    Raises:
        ConfigurationError: ``[source]`` or a ``[bands.source]`` can't be used.
    """
    return EarthEngineSource(
        table=parse_source(spec),
        bands={band.name: parse_band(spec, band) for band in spec.bands},
        context=context,
        access=shared_access(context),
    )


@dataclass(slots=True)
class _Ceiling:
    """How many pixels Earth Engine can compute for this collection in one request, as far as known."""

    pixels: int | None = None
    until: float = 0.0

    def lower(self, pixels: int) -> None:
        """Note that a request had to be smaller."""
        now = time.monotonic()
        self.pixels = pixels if self.pixels is None or now >= self.until else min(self.pixels, pixels)
        self.until = now + _REMEMBERED

    def limit(self, pixels: int) -> int:
        """Return a limit, or what is known to be less."""
        return pixels if self.pixels is None or time.monotonic() >= self.until else min(self.pixels, pixels)


@dataclass(slots=True, kw_only=True)
class EarthEngineSource:
    """Reads blocks of one image, or of a composite of a collection. Used from one event loop.

    One attempt a call: the caller retries. But a request that is too much for Earth Engine is halved.
    """

    table: EarthEngineTable
    bands: Mapping[str, BandTable]
    context: SourceContext
    access: Access
    _ceiling: _Ceiling = field(default_factory=_Ceiling)
    _reads: TaskSet = field(default_factory=TaskSet)

    @property
    def block_side(self) -> int | None:
        """Large blocks: each is cut into the fewest requests."""
        return _BLOCK_SIDE

    async def read(self, request: BlockRequest) -> Block:
        """Read a block; see ``Source.read``."""
        return await self._reads.run(lambda: self._block(request))

    async def _block(self, request: BlockRequest) -> Block:
        grid, size = request.grid, self._holes(request)
        area = surroundings(grid, request.window, size) if size else request.window
        batches = band_batches(request.bands, self.bands)
        read = await gather_or_cancel(
            self._canvas(request, Layout.of(batch, self.bands), area) for batch in batches
        )
        found: dict[str, BandBlock] = {}
        for batch, canvas in zip(batches, read, strict=True):
            blocks = await run_in(self.context.pool, self._finished, request, batch, canvas)
            found.update(blocks)
        asset = self.table.asset
        origin = Provenance(item=asset, href=f"earthengine:{asset}", version="")
        return Block(bands=found, provenance=(origin,))

    async def _canvas(self, request: BlockRequest, layout: Layout, area: Window) -> Canvas:
        canvas = Canvas.blank(layout, area)
        grid = request.grid
        await gather_or_cancel(
            self._fetch(request, canvas, PixelRect(window, rect.shift))
            for rect in pixel_rects(grid, area)
            for window in cut(rect.window, max_pixels=self._ceiling.limit(layout.max_pixels))
        )
        return canvas

    async def _fetch(self, request: BlockRequest, canvas: Canvas, rect: PixelRect) -> None:
        """Fetch a rectangle, in smaller ones where it is too much for Earth Engine."""
        try:
            await self._fetch_at_once(request, canvas, rect)
        except TooMuchError as error:
            if rect.window.pixels <= _SMALLEST:
                asset = self.table.asset
                raise SourceRefusedError(
                    f"Earth Engine can't compute {rect.window.height} x {rect.window.width} pixels of "
                    f"{asset!r}: {error}",
                    item=asset,
                    href=f"earthengine:{asset}",
                    hint="make [source] of the collection file simpler: fewer images, or a mosaic",
                ) from error
            half = max(_SMALLEST, -(-rect.window.pixels // 2))
            self._ceiling.lower(half)
            log.info("earthengine_halved", collection=request.collection.id, pixels=half)
            smaller = self._ceiling.limit(half)
            await gather_or_cancel(
                self._fetch(request, canvas, PixelRect(window, rect.shift))
                for window in cut(rect.window, max_pixels=smaller)
            )

    async def _fetch_at_once(self, request: BlockRequest, canvas: Canvas, rect: PixelRect) -> None:
        layout, asset = canvas.layout, self.table.asset
        size = rect.window.pixels * layout.dtype.itemsize + _HEADER

        def work(ee: Any) -> None:  # noqa: ANN401 - a module that builds itself
            try:
                answer = ee.data.computePixels(
                    {
                        "expression": request_image(ee, self.table, layout, request.step),
                        "fileFormat": "NPY",
                        "grid": pixel_grid(request.grid, rect),
                        "bandIds": list(layout.names),
                    }
                )
            except Exception as error:
                raise explained(error, asset) from error
            canvas.put(rect.window, answer)

        seconds = self.context.connect_timeout + self.context.read_timeout + size / SLOWEST
        await self.access.run(work, seconds=seconds, max_bytes=size)

    def _finished(
        self, request: BlockRequest, bands: Sequence[BandSpec], canvas: Canvas
    ) -> dict[str, BandBlock]:
        """Make bands of an answer. Blocking."""
        found: dict[str, BandBlock] = {}
        grid, size = request.grid, self._holes(request)
        for band in bands:
            table = self.bands[band.name]
            block = canvas.band(band, table)
            if size and table.mask_of is None:
                found[band.name] = filled(block, canvas.area, request.window, grid, size)
            else:
                inside = request.window.slices(canvas.area)
                found[band.name] = BandBlock(values=block.values[inside], valid=block.valid[inside])
        return found

    def _holes(self, request: BlockRequest) -> int:
        """Return the size of the holes that are filled, in pixels of the request's level."""
        return self.table.fill_holes >> request.level

    async def close(self) -> None:
        """Cancel reads, and let connections go."""
        await self._reads.close()
        self.access.close()
