"""Many items, each on a grid of its own, become one block of the collection's grid by a rule."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import batched

import numpy as np

from icehouse_server.aio.byte_semaphore import ByteSemaphore
from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceError
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, Mask, Pixels, Provenance
from icehouse_server.sources.cog.remote_files import RemoteFiles
from icehouse_server.sources.http.urls import public
from icehouse_server.sources.raster.reducers import IN_ORDER, Reducer, bytes_per_pixel, reducer
from icehouse_server.sources.raster.warping import tile_side
from icehouse_server.sources.stac.items import Item
from icehouse_server.sources.stac.raster_assets import RasterAsset, conversion, raster_asset
from icehouse_server.sources.stac.settings import BandTable, CompositeTable, LimitTable, StacTable
from icehouse_server.sources.stac.warped_raster import Convert, WarpedRaster

STACKS = 256 * 1024 * 1024
"""Bytes that the layers under work in one collection take at most, in all blocks that are read at once."""

WINDOWS = 128 * 1024 * 1024
"""Bytes that the windows of files which are being read in one collection take at most."""

_PART = STACKS // 2
"""Bytes of layers of one part of a block; a block is cut into parts so that this holds."""

_WAVE = 8
"""Layers of one part that are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """Makes blocks of many items. Used from one event loop."""

    settings: StacTable
    table: CompositeTable
    bands: Mapping[str, BandTable]
    files: RemoteFiles
    stacks: ByteSemaphore = field(default_factory=lambda: ByteSemaphore(limit=STACKS))
    windows: ByteSemaphore = field(default_factory=lambda: ByteSemaphore(limit=WINDOWS))

    async def block(self, request: BlockRequest, items: Sequence[Item]) -> Block:
        """Make a block.

        Args:
            request: what is wanted.
            items: those that may touch it, in any order.

        Raises:
            SourceError: by what happened; the next try then asks for everything afresh.
        """
        taken = [item for item in items if matches(item, self.table.query)]
        reading = _Reading(composite=self, request=request, items=ordered(taken, self.table))
        try:
            return await reading.block()
        except SourceError:
            for layer in reading.layers.values():
                if layer is not None:
                    self.files.forget(layer.asset.url)
            raise


def matches(item: Item, query: Mapping[str, LimitTable]) -> bool:
    """Return whether an item's properties are within some limits; one that it lacks is not."""
    return all(_within(item.document.properties.get(name), limit) for name, limit in query.items())


def _within(value: object, limit: LimitTable) -> bool:
    if value is None or (limit.eq is not None and value != limit.eq):
        return False
    if limit.one_of is not None and value not in limit.one_of:
        return False
    if (limit.lt, limit.lte, limit.gt, limit.gte) == (None, None, None, None):
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (
        (limit.lt is None or value < limit.lt)
        and (limit.lte is None or value <= limit.lte)
        and (limit.gt is None or value > limit.gt)
        and (limit.gte is None or value >= limit.gte)
    )


def ordered(items: Sequence[Item], table: CompositeTable) -> list[Item]:
    """Return items in the order in which their layers are laid, the first one on top.

    Ascending by ``order_by`` and then by id, turned round for the rule ``last``. Items that lack the property
    lie below all others.

    Raises:
        SourceCorruptError: the property of an item is no number.
    """
    turned = table.rule == "last"
    match table.order_by:
        case "id":
            return sorted(items, key=lambda item: item.id, reverse=turned)
        case "datetime":
            return sorted(items, key=lambda item: (item.time, item.id), reverse=turned)
        case name:
            known = [item for item in items if item.document.properties.get(name) is not None]
            bare = [item for item in items if item.document.properties.get(name) is None]
            return [
                *sorted(known, key=lambda item: (_number(item, name), item.id), reverse=turned),
                *sorted(bare, key=lambda item: item.id, reverse=turned),
            ]


def _number(item: Item, name: str) -> float:
    value = item.document.properties[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise item.corrupt(f"its property {name!r}, by which items are ordered, is no number")
    return float(value)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One block request."""

    composite: Composite
    request: BlockRequest
    items: Sequence[Item]
    """In order, the first on top."""
    layers: dict[tuple[int, str], WarpedRaster | None] = field(default_factory=dict)
    """By position of the item and name of the band, empty for the mask; None where it lacks the asset."""
    used: set[tuple[int, str]] = field(default_factory=set)
    """Layers of which a pixel counts."""

    async def block(self) -> Block:
        request, window = self.request, self.request.window
        shape = (window.height, window.width)
        blocks = {
            band.name: BandBlock(
                values=np.full(shape, band.fill, dtype=band.dtype), valid=np.zeros(shape, dtype=np.bool_)
            )
            for band in request.bands
        }
        widest = max(band.dtype.itemsize for band in request.bands)
        # As many layers as the window has items at most: a bound that needs no file.
        holds = bytes_per_pixel(self.composite.table.rule, widest, len(self.items)) + _WAVE * (widest + 1)
        parts = list(_cut(window, request.grid, holds)) if self.items else []
        await gather_or_cancel(self._part(part, holds, blocks) for part in parts)
        return Block(bands=blocks, provenance=tuple(sorted(self._provenance())))

    def _provenance(self) -> Iterator[Provenance]:
        for key in self.used:
            layer = self.layers[key]
            if layer is not None:
                asset = layer.asset
                yield Provenance(item=asset.item, href=public(asset.href), version=layer.version)

    async def _part(self, part: Window, holds: int, blocks: Mapping[str, BandBlock]) -> None:
        async with self.composite.stacks.take(part.pixels * holds):
            masks: dict[int, Mask | None] = {}
            for band in self.request.bands:
                found = await self._band(part, band, masks)
                inside = part.slices(self.request.window)
                blocks[band.name].values[inside] = found.values
                blocks[band.name].valid[inside] = found.valid

    async def _band(self, part: Window, band: BandSpec, masks: dict[int, Mask | None]) -> BandBlock:
        """Make one band of one part.

        Args:
            part: of the request's window.
            band: which.
            masks: of this part, by position of the item: kept from band to band.
        """
        areas: dict[int, list[Window]] = {}
        for wave in batched(range(len(self.items)), 4 * _WAVE):
            found = await gather_or_cancel(self._areas(number, band, part) for number in wave)
            areas.update((number, area) for number, area in zip(wave, found, strict=True) if area)
        rule = self.composite.table.rule
        reduce = reducer(rule, band, (part.height, part.width), len(areas))
        if rule in IN_ORDER:
            await self._in_order(part, band, areas, masks, reduce)
        else:
            for wave in batched(areas, _WAVE):
                await self._add(wave, part, band, masks, reduce)
        return await run_in(self.composite.files.context.pool, reduce.result)

    async def _in_order(
        self,
        part: Window,
        band: BandSpec,
        areas: Mapping[int, Sequence[Window]],
        masks: dict[int, Mask | None],
        reduce: Reducer,
    ) -> None:
        """Read what lies on top; and below it only where that has holes.

        In each turn those items are read of which no pixel lies under another that is still to be read.
        """
        left = dict(areas)
        pending = np.ones((part.height, part.width), dtype=np.bool_)
        while left:
            claimed = np.zeros_like(pending)
            wave: list[int] = []
            for number, windows in list(left.items()):
                wanted = [window.slices(part) for window in windows]
                if not any(pending[inside].any() for inside in wanted):
                    del left[number]
                    continue
                if len(wave) < _WAVE and not any((pending & claimed)[inside].any() for inside in wanted):
                    wave.append(number)
                for inside in wanted:
                    claimed[inside] = True
            for number, valid in zip(wave, await self._add(wave, part, band, masks, reduce), strict=True):
                del left[number]
                if valid is not None:
                    pending &= ~valid

    async def _add(
        self,
        wave: Sequence[int],
        part: Window,
        band: BandSpec,
        masks: dict[int, Mask | None],
        reduce: Reducer,
    ) -> list[Mask | None]:
        """Read some layers at once and add them in their order; return what is valid of each."""
        found = await gather_or_cancel(self._masked(number, part, band, masks) for number in wave)
        layers = [(number, layer) for number, layer in zip(wave, found, strict=True) if layer is not None]
        counts = await run_in(
            self.composite.files.context.pool,
            lambda: [number for number, layer in layers if reduce.add(*layer)],
        )
        self.used.update((number, band.name) for number in counts)
        return [None if layer is None else layer[1] for layer in found]

    async def _masked(
        self, number: int, part: Window, band: BandSpec, masks: dict[int, Mask | None]
    ) -> tuple[Pixels, Mask] | None:
        """Return values and validity of one layer, or None where its mask leaves nothing of it."""
        if number not in masks:
            masks[number] = await self._mask(number, part)
        mask = masks[number]
        layer = self._layer(number, band.name)
        if layer is None or (mask is not None and not mask.any()):
            return None
        values, valid = await layer.read(part)
        return values, valid if mask is None else valid & mask

    async def _mask(self, number: int, part: Window) -> Mask | None:
        """Return which pixels of an item count, True = valid; None where all do."""
        table = self.composite.table.mask
        layer = None if table is None else self._layer(number, "")
        if table is None or layer is None:
            return None
        classes, known = await layer.read(part)
        mask: Mask = known & ~np.isin(classes, np.array(table.classes))
        return mask

    async def _areas(self, number: int, band: BandSpec, part: Window) -> list[Window]:
        layer = self._layer(number, band.name)
        return [] if layer is None else await layer.areas(part)

    def _layer(self, number: int, name: str) -> WarpedRaster | None:
        """Return the layer of an item's band, or of its mask where the name is empty."""
        key = (number, name)
        if key not in self.layers:
            self.layers[key] = self._mask_layer(number) if not name else self._band_layer(number, name)
        return self.layers[key]

    def _band_layer(self, number: int, name: str) -> WarpedRaster | None:
        item, band = self.items[number], self.request.collection.band(name)
        table = self.composite.bands[name]
        asset = self._asset(item, table.asset, table.index, optional=table.optional)
        if asset is None:
            return None
        convert = conversion(asset, table, band, item)
        own = band if convert is None else _own(band, table, asset)
        convert_all = None if convert is None else convert.apply
        return self._made(asset, band, own, table.index, band.resampling, convert_all)

    def _mask_layer(self, number: int) -> WarpedRaster | None:
        table = self.composite.table.mask
        if table is None:
            return None
        asset = self._asset(self.items[number], table.asset, table.index, optional=table.optional)
        if asset is None:
            return None
        band = BandSpec(name="mask", dtype=np.dtype(table.dtype), nodata=None)
        return self._made(asset, band, band, table.index, "nearest", None)

    def _asset(self, item: Item, name: str, index: int, *, optional: bool) -> RasterAsset | None:
        composite = self.composite
        return raster_asset(
            item, name, index, optional=optional, settings=composite.settings, trust=composite.files.trust
        )

    def _made(
        self,
        asset: RasterAsset,
        band: BandSpec,
        own: BandSpec,
        index: int,
        method: str,
        convert: Convert | None,
    ) -> WarpedRaster:
        composite = self.composite
        return WarpedRaster(
            asset=asset,
            files=composite.files,
            room=composite.windows,
            pool=composite.files.context.pool,
            grid=self.request.grid,
            band=band,
            own=own,
            index=index,
            method=method,
            convert=convert,
            not_before=self.request.not_before,
        )


def _own(band: BandSpec, table: BandTable, asset: RasterAsset) -> BandSpec:
    """Return what the file holds, where its values are to be converted."""
    dtype = band.dtype if table.dtype is None else np.dtype(table.dtype)
    nodata = band.nodata if asset.nodata is None and dtype == band.dtype else asset.nodata
    try:
        return replace(band, dtype=dtype, nodata=nodata)
    except ValueError:  # what the document says can't be a value of the file, so it marks no pixel
        return replace(band, dtype=dtype, nodata=None)


def _cut(window: Window, grid: Grid, holds: int) -> Iterator[Window]:
    """Cut a window into parts of bounded bytes: several tiles, one tile, or strips of one.

    Args:
        window: pixels of the grid.
        grid: the collection's.
        holds: bytes for a pixel.
    """
    side = tile_side(grid)
    pixels = _PART // holds
    across = max(1, math.isqrt(pixels) // side) * side
    down = across if across * across <= pixels else max(1, pixels // across)
    top, left = window.row // side * side, window.col // side * side
    for row in range(top, window.stop_row, down):
        for col in range(left, window.stop_col, across):
            part = Window(row=row, col=col, height=down, width=across).intersection(window)
            if part is not None:
                yield part
