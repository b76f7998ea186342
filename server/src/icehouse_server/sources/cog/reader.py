"""Reading windows of one GeoTIFF over HTTP: checked header, only the blocks under the window."""

import asyncio
import itertools
import warnings
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from affine import Affine
from async_geotiff import GeoTIFF
from async_tiff import TIFF, DecoderRegistry, ImageFileDirectory, Tile
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.geometry.horizontal import horizontal
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.raster.validity import held, judge, shown_by
from icehouse_server.sources.cog.checks import (
    Expectation,
    alpha_band,
    block_bytes,
    block_shape,
    block_table,
    check_blocks,
    check_file,
    file_nodata,
    is_native,
)
from icehouse_server.sources.cog.codecs import bounded
from icehouse_server.sources.cog.directory import MalformedTiffError, with_directories
from icehouse_server.sources.cog.gdal_fallback import crs_with_gdal, read_with_gdal
from icehouse_server.sources.cog.georeference import (
    NO_CRS,
    SET_CRS,
    NorthUp,
    UnplacedError,
    north_up,
    tiff_affine,
)
from icehouse_server.sources.cog.item_pixels import ItemPixels
from icehouse_server.sources.cog.levels import TiffLevel, tiff_levels
from icehouse_server.sources.http.ranges import RangeReader

_BATCH = 64 * 1024 * 1024
"""Decoded bytes that one read holds in addition to its outcome: large windows are fetched in turns."""


async def decoded[T](work: Awaitable[T], reader: RangeReader, expected: Expectation) -> T:
    """Await async-tiff and give its failures their type back.

    Our own errors arrive as ``TypeError`` or ``AsyncTiffException``, damaged blocks as ``RustPanic`` or, by
    the version, as pyo3's ``PanicException``, which is not an ``Exception``.

    Raises:
        SourceError: what the reader recorded.
        SourceCorruptError: anything else: then it was the bytes.
    """
    try:
        return await work
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        if reader.failure is not None:
            raise reader.failure from error
        first = str(error).partition("\n")[0][:200]
        raise expected.corrupt(f"it does not decode: {first}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Cog:
    """An open file whose header fits the collection. Serves one block request."""

    reader: RangeReader
    geotiff: GeoTIFF
    expected: Expectation
    extent: Window
    """Where the file lies on the grid that was expected of it; all of it where none was."""
    geobox: GeoBox
    """The file's own grid, at full resolution; its rows run from north to south, whatever the file's do."""
    place: NorthUp | None
    """How the file's rows lie; None where it is rotated or mirrored."""
    images: tuple[TiffLevel, ...]
    """Full resolution and overviews."""
    version: str
    """ETag, or date and size."""
    pool: Executor

    async def read(self, window: Window) -> ItemPixels:
        """Read the part of a window that the file covers, at full resolution.

        Args:
            window: pixels of the collection's grid; must touch ``extent``.

        Raises:
            SourceError: by what happened.
        """
        inside = window.intersection(self.extent)
        if inside is None:
            raise ValueError(f"{window} does not touch {self.extent}")
        rows, cols = inside.slices(self.extent)
        local = Window.from_bounds(rows.start, cols.start, rows.stop, cols.stop)
        values, valid = await self.read_level(0, local)
        return ItemPixels(window=inside, values=values, valid=valid)

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the full resolution and of each overview, from fine to coarse."""
        return tuple(image.shape for image in self.images)

    async def read_level(self, level: int, local: Window) -> tuple[Pixels, Mask]:
        """Read a window in the file's own pixels, north up.

        Args:
            level: number in ``levels``.
            local: pixels of that level; inside it.

        Returns:
            Values (rows, columns) of the file's dtype, and True = valid.

        Raises:
            SourceError: by what happened.
        """
        image = self.images[level]
        data, mask = image.image, image.mask
        for ifd in (data, mask) if level else ():
            if ifd is not None:
                check_blocks(ifd, self.expected)
        flipped = self.place is not None and self.place.flipped
        if flipped and self.place is not None:
            local = self.place.in_file(local, image.shape[0])
        alpha = alpha_band(self.geotiff.ifd)
        if alpha == self.expected.index:
            alpha = None
        if is_native(data) and (mask is None or is_native(mask)):
            values, shown = await self._native(data, mask, alpha, local)
        else:
            values, shown = await read_with_gdal(
                self.reader,
                image,
                local,
                self.expected,
                self.pool,
                has_mask=mask is not None,
                alpha=alpha,
            )
        if flipped:
            values, shown = values[::-1], shown[::-1]
        return values, await run_in(self.pool, self._judge, values, shown)

    async def _native(
        self, data: ImageFileDirectory, mask: ImageFileDirectory | None, alpha: int | None, local: Window
    ) -> tuple[Pixels, Mask]:
        """Return values, and True = shown by mask and alpha band."""
        shape, dtype = (local.height, local.width), self.expected.band.dtype
        # A block that is left out holds the file's nodata, or 0 where it declares none: so GDAL reads it.
        values = np.full(shape, held(self._nodata or 0, dtype), dtype=dtype)
        opaque = None if alpha is None else np.zeros(shape, dtype=dtype)
        mask_values = None if mask is None else np.zeros(shape, dtype=np.uint8)
        samples = [(values, self.expected.index - 1)]
        if alpha is not None and opaque is not None:
            samples.append((opaque, alpha - 1))
        works = [self._blocks(data, local, samples)]
        if mask is not None and mask_values is not None:
            works.append(self._blocks(mask, local, [(mask_values, 0)]))
        await gather_or_cancel(works)
        return values, shown_by(shape, mask_values, opaque)

    async def _blocks(
        self, ifd: ImageFileDirectory, local: Window, samples: Sequence[tuple[Pixels, int]]
    ) -> None:
        """Copy the blocks under a window, those that exist; of each some samples, from 0, into arrays."""
        decoders = bounded(block_bytes(ifd))
        for batch in _batches(ifd, local):
            tiles = await decoded(ifd.fetch_tiles(batch), self.reader, self.expected)
            await gather_or_cancel(self._copy_block(tile, decoders, ifd, local, samples) for tile in tiles)

    async def _copy_block(
        self,
        tile: Tile,
        decoders: DecoderRegistry,
        ifd: ImageFileDirectory,
        local: Window,
        samples: Sequence[tuple[Pixels, int]],
    ) -> None:
        rows, cols = block_shape(ifd)
        # Asked before decoding: a tile that was decoded answers nothing any more.
        block = Window(row=tile.y * rows, col=tile.x * cols, height=rows, width=cols)
        pixels = np.asarray(await decoded(tile.decode(decoder_registry=decoders), self.reader, self.expected))
        if pixels.shape != (rows, cols, ifd.samples_per_pixel):
            raise self.expected.corrupt(f"a block of it has {pixels.shape} pixels, not {rows} x {cols}")
        common = block.intersection(local)
        if common is not None:
            for out, sample in samples:
                out[common.slices(local)] = pixels[(*common.slices(block), sample)]

    @property
    def _nodata(self) -> float | int | None:
        """The file's own."""
        return file_nodata(self.geotiff.ifd, self.expected.band.dtype)

    def _judge(self, values: Pixels, shown: Mask) -> Mask:
        """Return which pixels are valid.

        Raises:
            SourceCorruptError: a valid pixel holds what is nodata in the band.
        """
        own, band = self._nodata, self.expected.band
        valid, clashes = judge(values, shown, self.expected.nodata if own is None else own, band)
        if clashes:
            raise self.expected.corrupt(
                f"{clashes} valid pixel(s) hold {band.nodata}, which band {band.name!r} "
                f"uses for nodata; the file's own nodata is {own}"
            )
        return valid


@dataclass(frozen=True, slots=True, repr=False)  # async-tiff asks for it at each open: 1 ms of a directory
class _TiffStore:
    """What async-tiff sees of a file: directories, which are here, and blocks, which are asked for."""

    directory: bytes
    reader: RangeReader

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> memoryview:
        """Return a part of the directories."""
        del path
        return memoryview(self.directory)[start : start + (length or 0) if end is None else end]

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[memoryview]:
        """Return blocks."""
        return await self.reader.get_ranges_async(path, starts=starts, ends=ends, lengths=lengths)


async def open_cog(reader: RangeReader, expected: Expectation, pool: Executor) -> Cog:
    """Open a file by one request, a few more where its directories lie far apart, none where remembered.

    Raises:
        SourceError: by what happened; ``SourceCorruptError`` where the header does not fit the collection.
    """
    try:
        header = await with_directories(reader)
    except MalformedTiffError as error:
        raise expected.corrupt(str(error)) from error
    store = _TiffStore(header.directory, reader)
    tiff = await decoded(TIFF.open("", store=store, prefetch=len(header.directory)), reader, expected)
    if tiff.ifds and tiff.ifds[0].geo_key_directory is None:
        raise expected.corrupt(NO_CRS, hint=SET_CRS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "striped": those are read by GDAL
            geotiff = GeoTIFF(tiff)
        affine = _affine_of(tiff)
        crs = _crs_of(geotiff) or await crs_with_gdal(reader, expected, pool)
        if not crs:
            raise expected.corrupt(NO_CRS, hint=SET_CRS)
        crs = horizontal(crs)
        place = north_up(affine, geotiff.shape)
        affine = affine if place is None else place.affine
        extent = check_file(geotiff, crs, affine, expected)
        geobox, images = GeoBox(geotiff.shape, affine, crs), tiff_levels(geotiff)
    except UnplacedError as error:
        raise expected.corrupt(str(error), hint=error.hint) from error
    except (ValueError, IndexError, TypeError, AttributeError, KeyError, ArithmeticError, CRSError) as error:
        raise expected.corrupt(f"its header can't be understood: {error}") from error
    return Cog(
        reader=reader,
        geotiff=geotiff,
        expected=expected,
        extent=extent,
        geobox=geobox,
        place=place,
        images=images,
        version=header.version,
        pool=pool,
    )


def _affine_of(tiff: TIFF) -> Affine:
    """Return a file's transform; async-geotiff's own leaves out where on the raster its tie point is."""
    ifd = tiff.ifds[0]
    keys = ifd.geo_key_directory
    return tiff_affine(
        scale=ifd.model_pixel_scale,
        tie_points=ifd.model_tiepoint,
        matrix=ifd.model_transformation,
        raster_type=None if keys is None else keys.raster_type,
    )


def _crs_of(geotiff: GeoTIFF) -> str | None:
    """Return a file's CRS as WKT, or None where async-geotiff can't make one of the keys.

    0.5.1 stumbles over CRS without an authority code, such as a PROJ string's.
    """
    try:
        return str(geotiff.crs.to_wkt())
    except (CRSError, ValueError, KeyError, TypeError):
        return None


def _batches(ifd: ImageFileDirectory, local: Window) -> Iterator[list[tuple[int, int]]]:
    """Yield the (column, row) of blocks under a window in turns of bounded size, sparse ones left out."""
    rows, cols = block_shape(ifd)
    across = -(-ifd.image_width // cols)
    _, counts = block_table(ifd)
    wanted = (
        (col, row)
        for row in range(local.row // rows, -(-local.stop_row // rows))
        for col in range(local.col // cols, -(-local.stop_col // cols))
        if counts[row * across + col] > 0
    )
    size = rows * cols * ifd.samples_per_pixel * max(1, max(ifd.bits_per_sample) // 8)
    while batch := list(itertools.islice(wanted, max(1, _BATCH // size))):
        yield batch
