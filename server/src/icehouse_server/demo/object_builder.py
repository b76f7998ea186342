"""Builds the files of the object store, faithful ones and ones that lie about themselves."""

from __future__ import annotations

import json
import os
import threading
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import rasterio
from affine import Affine

from icehouse_server.demo import pixels, world
from icehouse_server.demo.pgc import ASSETS, BLOCK, Tile, parse_key
from icehouse_server.demo.sparse_cog import BlockKey, Layout, write_sparse_cog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    type Write = Callable[[Path, Variant], None]
    """Writes the file of one object."""
    type Find = Callable[[str], Write]
    """What writes the object of a key; raises `NoSuchKeyError` if there is none."""

GDAL_CACHE_BYTES: Final = 64 * 2**20
"""GDAL's own default is a twentieth of the machine's memory."""
_VERSION: Final = 1
"""Part of every file's name: raise it when the pixels change, lest a kept folder pass for a new one."""


class NoSuchKeyError(LookupError):
    """The object store holds no object of this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How a file differs from the one that the catalogue promises. The default does not."""

    epsg: int | None = None
    """Declare this CRS instead."""
    shift: float = 0.0
    """Move the raster by this fraction of a pixel to the east and south."""
    pixel: float | None = None
    """Declare this pixel size in metres instead."""
    dtype: str | None = None
    """Store this dtype instead."""
    no_nodata: bool = False
    """Don't declare nodata (the pixels keep the value)."""
    truncate: float = 1.0
    """Keep this part of the file's bytes."""
    add: float = 0.0
    """Add this to every valid pixel: new content under the old name."""

    @property
    def tag(self) -> str:
        """Distinguishes the variant's file from others of the same key; empty for the faithful one."""
        text = json.dumps(asdict(self), sort_keys=True)
        return "" if self == Variant() else f".{zlib.crc32(text.encode()):08x}"


class Builder:
    """Makes files on demand and keeps them in a folder. Thread-safe: one file is built once.

    Args:
        folder: Where the files are kept.
        find: What there is, and how it is written.
    """

    def __init__(self, folder: Path, find: Find) -> None:
        self._folder = folder
        self._find = find
        self._locks: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()

    def path(self, key: str, variant: Variant) -> Path:
        """The file of a key, built now if it isn't there. Blocks; call it from a worker thread.

        Raises:
            NoSuchKeyError: if the world has no such tile or asset.
        """
        write = self._find(key)
        path = self._folder / f"v{_VERSION}" / f"{key}{variant.tag}"
        with self._guard:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            if not path.exists():
                _build(path, write, variant)
        return path


def mosaic_object(key: str) -> Write:
    """What writes an object of PGC's mosaics.

    Raises:
        NoSuchKeyError: if the world has no such tile or asset.
    """
    try:
        tile, asset = parse_key(key)
    except ValueError as error:
        raise NoSuchKeyError(key) from error
    if not world.exists(tile):
        raise NoSuchKeyError(key)
    if asset == "metadata":
        return lambda path, _: _write_metadata(path, tile)
    return lambda path, variant: _write_raster(path, tile, asset, variant)


def _build(path: Path, write: Write, variant: Variant) -> None:
    """Write the file next to its destination and move it there: a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
        write(draft, variant)
    if variant.truncate < 1:
        os.truncate(draft, int(draft.stat().st_size * variant.truncate))
    try:
        path.hardlink_to(draft)  # never over one that is there: its readers would see the file change
    except FileExistsError:
        pass  # another process that shares the folder was quicker
    finally:
        draft.unlink()


def _write_raster(path: Path, tile: Tile, asset: str, variant: Variant) -> None:
    layout = _layout(tile, asset, variant)
    boxes = world.content_boxes(tile)

    def block(row: int, column: int, shape: tuple[int, int] = (BLOCK, BLOCK)) -> NDArray[Any]:
        values = pixels.render(tile, asset, row * BLOCK, column * BLOCK, shape)
        return np.where(values == layout.fill, values, values + variant.add).astype(layout.dtype)

    if boxes is None:
        _write_with_gdal(path, layout, asset, block(0, 0, layout.shape))
    else:
        write_sparse_cog(path, layout, _blocks_under(tile, asset, boxes), block)


def _layout(tile: Tile, asset: str, variant: Variant) -> Layout:
    facts, corner = ASSETS[asset], tile.affine(asset)
    pixel = variant.pixel or float(tile.pixel(asset))
    moved = variant.shift * pixel
    dtype = variant.dtype or facts.dtype
    predictor = facts.predictor
    if predictor > 1:
        predictor = 3 if np.dtype(dtype).kind == "f" else 2
    return Layout(
        shape=tile.shape(asset),
        affine=Affine(pixel, 0, corner.c + moved, 0, -pixel, corner.f - moved),
        epsg=variant.epsg or tile.domain.epsg,
        dtype=dtype,
        nodata=None if variant.no_nodata else facts.nodata,
        fill=facts.nodata,
        predictor=predictor,
        average=facts.overview != "nearest",
    )


def _write_with_gdal(path: Path, layout: Layout, asset: str, array: NDArray[Any]) -> None:
    """Write a full raster with GDAL's COG driver and the options of PGC's packaging programs."""
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=layout.shape[0],
        width=layout.shape[1],
        count=1,
        dtype=layout.dtype,
        nodata=layout.nodata,
        crs=f"EPSG:{layout.epsg}",
        transform=layout.affine,
        COMPRESS="LZW",
        PREDICTOR={1: "NO", 2: "STANDARD", 3: "FLOATING_POINT"}[layout.predictor],
        BIGTIFF="YES",
        BLOCKSIZE=str(BLOCK),
        OVERVIEW_RESAMPLING=ASSETS[asset].overview.upper(),
    ) as dataset:
        dataset.write(array, 1)


def _blocks_under(tile: Tile, asset: str, boxes: tuple[world.Box, ...]) -> set[BlockKey]:
    """The blocks that share area with a box."""
    side, (left, bottom, right, top) = BLOCK * tile.pixel(asset), tile.bounds
    found: set[BlockKey] = set()
    for box in boxes:
        west, east = max(box[0], left) - left, min(box[2], right) - left
        north, south = top - min(box[3], top), top - max(box[1], bottom)
        rows = range(int(north // side), int(-(-south // side)))
        columns = range(int(west // side), int(-(-east // side)))
        found |= {(row, column) for row in rows for column in columns}
    return found


def _write_metadata(path: Path, tile: Tile) -> None:
    path.write_text(
        f"Icehouse stand-in, not published data\nTile: {tile.item_id}\n"
        f"EPSG: {tile.domain.epsg}\nPixel: {tile.resolution} m\nExtent: {' '.join(map(str, tile.bounds))}\n"
    )
