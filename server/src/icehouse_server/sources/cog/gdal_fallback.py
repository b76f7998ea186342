"""Files that async-tiff does not read are decoded by GDAL, from bytes that still come our way.

GDAL's own HTTP client is not used: it would hide statuses, remember failures, follow directories and know
neither our bounds nor our deadlines. It gets a file object in place of a URL.
"""

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from concurrent.futures import TimeoutError as FutureTimeoutError

import numpy as np
import rasterio
from async_tiff import ImageFileDirectory
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceError, SourceTimeoutError
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.raster.file_facts import FileFacts, facts_of
from icehouse_server.raster.validity import shown_by
from icehouse_server.sources.cog.checks import Expectation, block_grid, block_shape, block_table, planar
from icehouse_server.sources.cog.levels import TiffLevel
from icehouse_server.sources.http.ranges import RangeReader

_NAME = "item.tif"

_GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no look for files next to this one
    "GDAL_SKIP": "VRT",  # a VRT may name any file of this machine
    "GDAL_PAM_ENABLED": "NO",
}


class _RangeFile(io.RawIOBase):
    """A seekable file of which the wanted ranges are here; others are fetched on the loop when read.

    Lives in a thread of the pool; the loop stays free while it waits.
    """

    def __init__(
        self,
        reader: RangeReader,
        loop: asyncio.AbstractEventLoop,
        ranges: list[tuple[int, memoryview]],
        size: int,
        patience: float,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._loop = loop
        self._held = ranges
        self._size = size
        self._patience = patience
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if stop <= self._at:
            return b""
        data = self._here(self._at, stop) or self._there(self._at, stop)
        self._at += len(data)
        return data

    def _here(self, start: int, stop: int) -> bytes | None:
        for first, data in self._held:
            if first <= start and stop <= first + data.nbytes:
                return bytes(data[start - first : stop - first])
        return None

    def _there(self, start: int, stop: int) -> bytes:
        work = self._reader.get_range_async(_NAME, start=start, end=stop)
        try:
            return bytes(asyncio.run_coroutine_threadsafe(work, self._loop).result(self._patience))
        except FutureTimeoutError as error:
            raise SourceTimeoutError("the event loop did not serve GDAL in time") from error


async def read_with_gdal(
    reader: RangeReader,
    level: TiffLevel,
    local: Window,
    expected: Expectation,
    pool: Executor,
    *,
    has_mask: bool,
    alpha: int | None,
) -> tuple[Pixels, Mask]:
    """Read a window (in pixels of a level) of one band, with the file's mask and alpha band.

    Returns:
        Values (rows, columns) of the file's dtype, and a mask, True = shown.

    Raises:
        SourceError: by what happened.
    """
    planes = {expected.index - 1} | ({alpha - 1} if alpha is not None else set())
    ranges = _block_ranges(level.image, local, sorted(planes))
    blocks = await reader.get_ranges_async(
        _NAME, starts=[start for start, _ in ranges], ends=[stop for _, stop in ranges]
    )
    held = [(start, block) for (start, _), block in zip(ranges, blocks, strict=True)]

    def decode(dataset: rasterio.DatasetReader) -> tuple[Pixels, Mask]:
        if dataset.shape != level.shape:
            raise expected.corrupt(f"GDAL finds {dataset.shape} pixels at {level.shape}")
        window = RasterWindow(local.col, local.row, local.width, local.height)
        values: Pixels = dataset.read(expected.index, window=window)
        mask = dataset.read_masks(expected.index, window=window) if has_mask else None
        opaque = None if alpha is None else dataset.read(alpha, window=window)
        return values, shown_by((local.height, local.width), mask, opaque)

    return await _with_dataset(reader, held, decode, expected, pool, level.number)


async def crs_with_gdal(reader: RangeReader, expected: Expectation, pool: Executor) -> str:
    """Return a file's CRS as WKT.

    Raises:
        SourceError: by what happened.
    """

    def look(dataset: rasterio.DatasetReader) -> str:
        return "" if dataset.crs is None else str(dataset.crs.to_wkt())

    return await _with_dataset(reader, [], look, expected, pool)


async def facts_with_gdal(reader: RangeReader, *, item: str, href: str, pool: Executor) -> FileFacts:
    """Return what a file says of itself, whatever a collection would need.

    Args:
        reader: of the file.
        item: id of the item.
        href: as its document gives it.
        pool: runs GDAL.

    Raises:
        SourceError: by what happened.
    """
    nothing = BandSpec(name="any", dtype=np.dtype(np.uint8), nodata=None)
    expected = Expectation(item=item, href=href, grid=None, band=nothing, index=1)
    return await _with_dataset(reader, [], lambda dataset: facts_of(dataset, item), expected, pool)


async def _with_dataset[T](
    reader: RangeReader,
    ranges: list[tuple[int, memoryview]],
    work: Callable[[rasterio.DatasetReader], T],
    expected: Expectation,
    pool: Executor,
    overview: int | None = None,
) -> T:
    """Open the file with GDAL in the pool, or one of its overviews, and let ``work`` have it."""
    header = await reader.open()
    loop = asyncio.get_running_loop()
    patience = 2 * (reader.hosts.connect_timeout + reader.hosts.read_timeout)
    metadata = [(start, memoryview(data)) for start, data in ((0, header.prefix), *header.pieces)]
    file = _RangeFile(reader, loop, [*metadata, *ranges], header.size, patience)
    try:
        return await run_in(pool, _open, file, work, overview)
    except (RasterioError, OSError, ValueError) as error:
        if reader.failure is not None:
            raise reader.failure from error
        raise expected.corrupt(f"GDAL can't decode it: {error}") from error
    except SourceError as error:
        raise reader.failure or error from error


def _open[T](file: _RangeFile, work: Callable[[rasterio.DatasetReader], T], overview: int | None) -> T:
    """Runs in a thread of the pool."""
    options = {} if overview is None else {"overview_level": overview}

    def opener(path: str, mode: str = "rb") -> _RangeFile:
        if path.rpartition("/")[2] != _NAME or mode != "rb":
            raise FileNotFoundError(path)
        return file

    with (
        rasterio.Env(**_GDAL_OPTIONS),
        rasterio.open(_NAME, driver="GTiff", opener=opener, sharing=False, **options) as dataset,
    ):
        return work(dataset)


def _block_ranges(ifd: ImageFileDirectory, local: Window, planes: Sequence[int]) -> list[tuple[int, int]]:
    """Return (start, stop) of the blocks under a window, of some planes from 0; those that exist."""
    rows, cols = block_shape(ifd)
    down, across = block_grid(ifd)
    offsets, counts = block_table(ifd)
    firsts = [plane * down * across for plane in planes] if planar(ifd) else [0]
    numbers = [
        first + row * across + col
        for first in firsts
        for row in range(local.row // rows, -(-local.stop_row // rows))
        for col in range(local.col // cols, -(-local.stop_col // cols))
    ]
    return [(offsets[n], offsets[n] + counts[n]) for n in numbers if counts[n] > 0]
