"""The pixels of one file, warped to a window of the collection's grid."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from odc.geo.geobox import GeoBox

from icehouse_server.aio.byte_semaphore import ByteSemaphore
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceCorruptError, SourceRefusedError
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.sources.cog.checks import Expectation
from icehouse_server.sources.cog.georeference import UNRELATED, WARP_IT, same_crs, unrelated
from icehouse_server.sources.cog.reader import Cog
from icehouse_server.sources.cog.remote_files import RemoteFiles
from icehouse_server.sources.http.urls import public
from icehouse_server.sources.raster.warping import (
    Scaled,
    WarpTile,
    reached,
    scaled,
    tiles_under,
    warp_tiles_of,
    warped,
)
from icehouse_server.sources.stac.raster_assets import RasterAsset

_READ = 32 * 1024 * 1024
"""Bytes of a window of a file, its mask included, up to which several tiles share one read."""

MAX_READ = 512 * 1024 * 1024
"""Bytes of the window of a file under one tile at most."""

_WASTE = 2
"""How much more than its tiles need a shared window may hold."""

_HELD = 3
"""Bytes held for a byte of a window: what is decoded, what is converted, blocks on their way."""

type Convert = Callable[[Pixels, Mask], tuple[Pixels, Mask]]
"""From a file's values to a band's; (values, valid) of a window."""


@dataclass(slots=True, kw_only=True)
class WarpedRaster:
    """One band of one file, to be seen on the collection's grid. Serves one block request."""

    asset: RasterAsset
    files: RemoteFiles
    window_bytes: ByteSemaphore
    """Bounds the bytes of windows of files."""
    pool: Executor
    grid: Grid
    band: BandSpec
    """What comes out: its dtype and its fill."""
    own: BandSpec
    """What the file holds."""
    index: int
    """Band of the file, from 1."""
    method: str
    """Resampling by GDAL's name."""
    convert: Convert | None
    """None where values stay as they are."""
    not_before: float
    tile_window: Window | None = None
    """Where the tiling puts the item on the grid, if there is a tiling."""
    keeps_lost: bool
    """Whether ``lost`` is of use: the band has no nodata, so pixels that stay invalid have no room."""
    lost: list[tuple[Window, Mask]] = field(default_factory=list)
    """True where the file reaches and its pixels are invalid, by windows of the grid."""
    _cog: Cog | None = None
    _scaled: Scaled | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def version(self) -> str:
        """What identifies the file's content; empty before it was opened."""
        return "" if self._cog is None else self._cog.version

    async def areas(self, window: Window) -> list[Window]:
        """Return rectangles inside a window of the grid that hold all pixels which the file may touch.

        The file itself is asked only where its document does not say.

        Raises:
            SourceError: the file had to be opened and could not be.
        """
        if self.asset.geobox is None:
            file = (await self._opened())[1]
        else:
            geobox = self._on_grid(self.asset.geobox)
            file = scaled([(int(geobox.shape[0]), int(geobox.shape[1]))], geobox, self.grid)
        warp_tiles = await run_in(self.pool, self._warp_tiles, file, window)
        targets = (warp_tile.target for warp_tile in warp_tiles)
        areas = [inside for target in targets if (inside := target.intersection(window)) is not None]
        expected = self.tile_window is not None and self.tile_window.intersection(window) is not None
        if expected and not areas:
            # A document that is wrong here would leave a hole that goes unnoticed: the file is asked.
            await self._opened()
        return areas

    async def read(self, window: Window) -> tuple[Pixels, Mask]:
        """Return values (rows, columns) of a window of the grid, of the band's dtype, and True = valid.

        Raises:
            SourceError: by what happened.
        """
        shape = (window.height, window.width)
        values, valid = np.full(shape, self.band.fill, dtype=self.band.dtype), np.zeros(shape, dtype=np.bool_)
        cog, file = await self._opened()
        warp_tiles = await run_in(self.pool, self._warp_tiles, file, window)
        for group in _groups(warp_tiles, self._bytes_per_pixel):
            await self._fill(cog, file, group, window, values, valid)
        return values, valid

    @property
    def _bytes_per_pixel(self) -> int:
        return self.own.dtype.itemsize + 1

    async def _fill(
        self, cog: Cog, file: Scaled, group: Sequence[WarpTile], window: Window, values: Pixels, valid: Mask
    ) -> None:
        """Read the window of the file under some tiles, and copy what it becomes into the window."""
        under = _union(group)
        size = under.pixels * self._bytes_per_pixel
        if size > MAX_READ:
            raise SourceRefusedError(
                f"item {self.asset.item!r}: {under.height} x {under.width} pixels of its file lie under "
                "one tile of the collection's grid",
                item=self.asset.item,
                href=public(self.asset.href),
                hint="its overviews are too fine for so coarse a grid; use a finer grid, or smaller chunks",
            )
        async with self.window_bytes.take(size * _HELD):
            found, shown = await cog.read_level(file.level, under)

            def work() -> None:
                own, known = found, shown
                if self.convert is not None:
                    own, known = self.convert(own, known)
                for warp_tile in group:
                    self._put(warp_tile, under, file, (own, known), window, (values, valid))

            await run_in(self.pool, work)

    def _put(
        self,
        warp_tile: WarpTile,
        under: Window,
        file: Scaled,
        own: tuple[Pixels, Mask],
        window: Window,
        out: tuple[Pixels, Mask],
    ) -> None:
        inside = warp_tile.piece.source.slices(under)
        made, shown = warped(
            own[0][inside], own[1][inside], warp_tile, file=file, grid=self.grid, method=self.method
        )
        target = warp_tile.target
        common = target.intersection(window)
        if common is None:
            return
        if self.keeps_lost and not own[1][inside].all():
            there = reached(own[1][inside], warp_tile, file=file, grid=self.grid, method=self.method)
            self.lost.append((common, cast("Mask", (there & ~shown)[common.slices(target)])))
        made, shown = made[common.slices(target)], shown[common.slices(target)]
        values, valid = out[0][common.slices(window)], out[1][common.slices(window)]
        taken = shown & ~valid
        np.copyto(values, made, where=taken)
        valid |= taken

    def _warp_tiles(self, file: Scaled, window: Window) -> list[WarpTile]:
        return warp_tiles_of(file, self.grid, list(tiles_under(self.grid, window)), self.method)

    async def _opened(self) -> tuple[Cog, Scaled]:
        async with self._opening:
            if self._cog is None or self._scaled is None:
                geobox = self.asset.geobox
                expected = Expectation(
                    item=self.asset.item,
                    href=public(self.asset.href),
                    grid=geobox,
                    band=self.own,
                    index=self.index,
                    said=self.asset.said,
                    nodata=self.own.nodata if self.asset.nodata is None else self.asset.nodata,
                    units_known=self.asset.units is not None,
                )
                cog = await self.files.open(self.asset.url, expected, self.not_before)
                if geobox is None:
                    if cog.place is None:
                        raise expected.corrupt("its raster is rotated or mirrored", hint=WARP_IT)
                    geobox = cog.geobox
                self._cog, self._scaled = cog, scaled(cog.levels, self._on_grid(geobox), self.grid)
            return self._cog, self._scaled

    def _on_grid(self, geobox: GeoBox) -> GeoBox:
        """Return a geobox with the grid's own CRS where it has the same one in other words.

        Raises:
            SourceCorruptError: its CRS has nothing to do with the grid's.
        """
        if reason := unrelated(str(geobox.crs), str(self.grid.crs)):
            raise SourceCorruptError(
                f"item {self.asset.item!r}: {reason}",
                item=self.asset.item,
                href=public(self.asset.href),
                hint=UNRELATED,
            )
        same = same_crs(str(self.grid.crs), str(geobox.crs))
        return GeoBox(geobox.shape, geobox.affine, self.grid.crs) if same else geobox


def _union(warp_tiles: Sequence[WarpTile]) -> Window:
    window = warp_tiles[0].piece.source
    for warp_tile in warp_tiles[1:]:
        window = window.union(warp_tile.piece.source)
    return window


def _groups(warp_tiles: Sequence[WarpTile], bytes_per_pixel: int) -> Iterator[list[WarpTile]]:
    """Yield tiles that are read together, because their windows of the file lie together."""
    group: list[WarpTile] = []
    for warp_tile in warp_tiles:
        joined = _union([*group, warp_tile])
        needed = sum(member.piece.source.pixels for member in [*group, warp_tile])
        if group and (joined.pixels > _WASTE * needed or joined.pixels * bytes_per_pixel > _READ):
            yield group
            group = []
        group.append(warp_tile)
    if group:
        yield group
