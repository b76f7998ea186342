"""Many items, each on a grid of its own, become one block of the collection's grid by a rule."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import batched
from typing import cast

import numpy as np

from icehouse_server.aio.byte_semaphore import ByteSemaphore
from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceError
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import BandBlock, Block, BlockRequest, Mask, Pixels, Provenance
from icehouse_server.raster.validity import no_room
from icehouse_server.sources.cog.remote_files import RemoteFiles
from icehouse_server.sources.http.urls import public
from icehouse_server.sources.raster.reducers import IN_ORDER, Reducer, bytes_per_pixel, reducer
from icehouse_server.sources.raster.warping import tile_side
from icehouse_server.sources.stac.items import Item
from icehouse_server.sources.stac.raster_assets import RasterAsset, conversion, raster_asset
from icehouse_server.sources.stac.settings import BandTable, CompositeTable, LimitTable, StacTable
from icehouse_server.sources.stac.warped_raster import Convert, WarpedRaster

STACKS = 256 * 1024 * 1024
"""Bytes that the rasters under work in one collection take at most, in all blocks that are read at once."""

WINDOWS = 128 * 1024 * 1024
"""Bytes that the windows of files which are being read in one collection take at most."""

_SUBWINDOW_BYTES = STACKS // 2
"""Bytes of rasters under one subwindow; a block is cut into subwindows so that this holds."""

_BATCH = 8
"""Rasters under one subwindow that are read at once."""


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
            for raster in reading.rasters.values():
                if raster is not None:
                    self.files.forget(raster.asset.url)
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
    lie below all others. Rules that know no order need no date.

    Raises:
        SourceCorruptError: the property of an item is not a number, or it has no date.
    """
    turned = table.rule == "last"
    match table.order_by:
        case "datetime" if table.rule not in IN_ORDER:
            return sorted(items, key=lambda item: item.id)
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
        raise item.corrupt(f"its property {name!r}, by which items are ordered, is not a number")
    return float(value)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One block request."""

    composite: Composite
    request: BlockRequest
    items: Sequence[Item]
    """In order, the first on top."""
    rasters: dict[tuple[int, str], WarpedRaster | None] = field(default_factory=dict)
    """By position of the item and name of the band, empty for the mask; None where it lacks the asset."""
    used: set[tuple[int, str]] = field(default_factory=set)
    """Rasters of which a pixel counts."""

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
        # As many rasters as the window has items at most: a bound that needs no file.
        holds = bytes_per_pixel(self.composite.table.rule, widest, len(self.items)) + _BATCH * (widest + 1)
        subwindows = list(_cut(window, request.grid, holds)) if self.items else []
        await gather_or_cancel(self._fill(subwindow, holds, blocks) for subwindow in subwindows)
        return Block(bands=blocks, provenance=tuple(sorted(self._provenance())))

    def _provenance(self) -> Iterator[Provenance]:
        for key in self.used:
            raster = self.rasters[key]
            if raster is not None:
                asset = raster.asset
                yield Provenance(item=asset.item, href=public(asset.href), version=raster.version)

    async def _fill(self, subwindow: Window, holds: int, blocks: Mapping[str, BandBlock]) -> None:
        async with self.composite.stacks.take(subwindow.pixels * holds):
            masks: dict[int, Mask | None] = {}
            for band in self.request.bands:
                found = await self._band(subwindow, band, masks)
                inside = subwindow.slices(self.request.window)
                blocks[band.name].values[inside] = found.values
                blocks[band.name].valid[inside] = found.valid

    async def _band(self, subwindow: Window, band: BandSpec, masks: dict[int, Mask | None]) -> BandBlock:
        """Make one band of one subwindow.

        Args:
            subwindow: of the request's window.
            band: which.
            masks: of this subwindow, by position of the item: kept from band to band.
        """
        areas: dict[int, list[Window]] = {}
        for batch in batched(range(len(self.items)), 4 * _BATCH):
            found = await gather_or_cancel(self._areas(number, band, subwindow) for number in batch)
            areas.update((number, area) for number, area in zip(batch, found, strict=True) if area)
        rule = self.composite.table.rule
        reduce = reducer(rule, band, (subwindow.height, subwindow.width), len(areas))
        if rule in IN_ORDER:
            await self._in_order(subwindow, band, areas, masks, reduce)
        else:
            for batch in batched(areas, _BATCH):
                await self._add(batch, subwindow, band, masks, reduce)
        made = await run_in(self.composite.files.context.pool, reduce.result)
        self._check_room(subwindow, band, areas, made.valid)
        return made

    def _check_room(self, subwindow: Window, band: BandSpec, numbers: Iterable[int], valid: Mask) -> None:
        """Refuse what files leave invalid where the band has no nodata: it would become a value."""
        if band.nodata is not None or valid.all():
            return
        for number in numbers:
            raster = self._raster(number, band.name)
            for window, mask in () if raster is None else raster.lost:
                inside = window.intersection(subwindow)
                if inside is None:
                    continue
                lost = mask[inside.slices(window)] & ~valid[inside.slices(subwindow)]
                if lost.any():
                    detail, hint = no_room(band, cast("Mask", lost))
                    raise self.items[number].corrupt(detail, hint=hint)

    async def _in_order(
        self,
        subwindow: Window,
        band: BandSpec,
        areas: Mapping[int, Sequence[Window]],
        masks: dict[int, Mask | None],
        reduce: Reducer,
    ) -> None:
        """Read what lies on top; and below it only where that has holes.

        In each turn those items are read of which no pixel lies under another that is still to be read.
        """
        left = dict(areas)
        pending = np.ones((subwindow.height, subwindow.width), dtype=np.bool_)
        while left:
            claimed = np.zeros_like(pending)
            batch: list[int] = []
            for number, windows in list(left.items()):
                wanted = [window.slices(subwindow) for window in windows]
                if not any(pending[inside].any() for inside in wanted):
                    del left[number]
                    continue
                if len(batch) < _BATCH and not any((pending & claimed)[inside].any() for inside in wanted):
                    batch.append(number)
                for inside in wanted:
                    claimed[inside] = True
            for number, valid in zip(
                batch, await self._add(batch, subwindow, band, masks, reduce), strict=True
            ):
                del left[number]
                if valid is not None:
                    pending &= ~valid

    async def _add(
        self,
        batch: Sequence[int],
        subwindow: Window,
        band: BandSpec,
        masks: dict[int, Mask | None],
        reduce: Reducer,
    ) -> list[Mask | None]:
        """Read some rasters at once and add them in their order; return what is valid of each."""
        found = await gather_or_cancel(self._masked(number, subwindow, band, masks) for number in batch)
        rasters = [
            (number, raster) for number, raster in zip(batch, found, strict=True) if raster is not None
        ]
        counts = await run_in(
            self.composite.files.context.pool,
            lambda: [number for number, raster in rasters if reduce.add(*raster)],
        )
        self.used.update((number, band.name) for number in counts)
        return [None if raster is None else raster[1] for raster in found]

    async def _masked(
        self, number: int, subwindow: Window, band: BandSpec, masks: dict[int, Mask | None]
    ) -> tuple[Pixels, Mask] | None:
        """Return values and validity of one raster, or None where its mask leaves nothing of it."""
        if number not in masks:
            masks[number] = await self._mask(number, subwindow)
        mask = masks[number]
        raster = self._raster(number, band.name)
        if raster is None or (mask is not None and not mask.any() and not raster.keeps_lost):
            return None
        values, valid = await raster.read(subwindow)
        if mask is None:
            return values, valid
        if raster.keeps_lost:
            raster.lost.append((subwindow, valid & ~mask))
        return values, valid & mask

    async def _mask(self, number: int, subwindow: Window) -> Mask | None:
        """Return which pixels of an item count, True = valid; None where all do."""
        table = self.composite.table.mask
        raster = None if table is None else self._raster(number, "")
        if table is None or raster is None:
            return None
        classes, known = await raster.read(subwindow)
        mask: Mask = known & ~np.isin(classes, np.array(table.classes))
        return mask

    async def _areas(self, number: int, band: BandSpec, subwindow: Window) -> list[Window]:
        raster = self._raster(number, band.name)
        return [] if raster is None else await raster.areas(subwindow)

    def _raster(self, number: int, name: str) -> WarpedRaster | None:
        """Return the raster of an item's band, or of its mask where the name is empty."""
        key = (number, name)
        if key not in self.rasters:
            self.rasters[key] = self._mask_raster(number) if not name else self._band_raster(number, name)
        return self.rasters[key]

    def _band_raster(self, number: int, name: str) -> WarpedRaster | None:
        item, band = self.items[number], self.request.collection.band(name)
        table = self.composite.bands[name]
        asset = self._asset(item, table.asset, table.index, optional=table.optional)
        if asset is None:
            return None
        convert = conversion(asset, table, band, item)
        own = band if convert is None else _own(band, table, asset)
        convert_all = None if convert is None else convert.apply
        return self._warped_raster(
            asset,
            band,
            own,
            table.index,
            band.resampling,
            convert_all,
            item.tile_window,
            keeps_lost=band.nodata is None,
        )

    def _mask_raster(self, number: int) -> WarpedRaster | None:
        table = self.composite.table.mask
        if table is None:
            return None
        asset = self._asset(self.items[number], table.asset, table.index, optional=table.optional)
        if asset is None:
            return None
        band = BandSpec(name="mask", dtype=np.dtype(table.dtype), nodata=None)
        return self._warped_raster(asset, band, band, table.index, "nearest", None, keeps_lost=False)

    def _asset(self, item: Item, name: str, index: int, *, optional: bool) -> RasterAsset | None:
        composite = self.composite
        return raster_asset(
            item, name, index, optional=optional, settings=composite.settings, allowed=composite.files.allowed
        )

    def _warped_raster(
        self,
        asset: RasterAsset,
        band: BandSpec,
        own: BandSpec,
        index: int,
        method: str,
        convert: Convert | None,
        tile_window: Window | None = None,
        *,
        keeps_lost: bool,
    ) -> WarpedRaster:
        composite = self.composite
        return WarpedRaster(
            asset=asset,
            files=composite.files,
            window_bytes=composite.windows,
            pool=composite.files.context.pool,
            grid=self.request.grid,
            band=band,
            own=own,
            index=index,
            method=method,
            convert=convert,
            keeps_lost=keeps_lost,
            not_before=self.request.not_before,
            tile_window=None if tile_window is None else _shrunk(tile_window, self.request.level),
        )


def _own(band: BandSpec, table: BandTable, asset: RasterAsset) -> BandSpec:
    """Return what the file holds, where its values are to be converted."""
    dtype = band.dtype if table.dtype is None else np.dtype(table.dtype)
    keeps = asset.nodata is None and dtype == band.dtype  # else a file's values are others than the band's
    return replace(band, dtype=dtype, nodata=band.nodata if keeps else None)


def _shrunk(window: Window, level: int) -> Window:
    """Return the pixels of a level that lie over a window of the full resolution."""
    factor = 2**level
    return Window.from_bounds(
        window.row // factor,
        window.col // factor,
        -(-window.stop_row // factor),
        -(-window.stop_col // factor),
    )


def _cut(window: Window, grid: Grid, holds: int) -> Iterator[Window]:
    """Cut a window into subwindows of bounded bytes: several tiles, one tile, or strips of one.

    Args:
        window: pixels of the grid.
        grid: the collection's.
        holds: bytes for a pixel.
    """
    side = tile_side(grid)
    pixels = _SUBWINDOW_BYTES // holds
    across = max(1, math.isqrt(pixels) // side) * side
    down = across if across * across <= pixels else max(1, pixels // across)
    top, left = window.row // side * side, window.col // side * side
    for row in range(top, window.stop_row, down):
        for col in range(left, window.stop_col, across):
            subwindow = Window(row=row, col=col, height=down, width=across).intersection(window)
            if subwindow is not None:
                yield subwindow
