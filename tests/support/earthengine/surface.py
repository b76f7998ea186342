"""The pixels of the stand-in Earth Engine: pure functions of place, band and image.

A value belongs to a pixel of its asset's lattice, and a request sees the pixel in which the centre of its own
pixel lies: Earth Engine's nearest neighbour. So all requests that share a grid see the same pixels.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from support.earthengine.world import CLASSES, DIFFERENT, OCEANS, OVERLAP, PIERCED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from support.earthengine.world import Asset, Band, Box, Tile

type Numbers = NDArray[Any]
type Flags = NDArray[np.bool_]

_ROUNDING = 1e-6
"""Part of a pixel: a centre between two pixels is of one of them, however its coordinate was rounded."""
_HOLE = 3
"""Pixels of a hole, each way."""


def valid(asset: Asset, tile: Tile, band: Band, x: Numbers, y: Numbers) -> Flags:
    """Where an image has a value at all.

    Args:
        asset: The asset.
        tile: One of its images.
        band: One of its bands; the answer depends on `band.mask` alone.
        x: Places in the asset's CRS, as a row (1, n) or an array (m, n).
        y: The same, as a column (m, 1) or an array (m, n).

    Returns:
        Flags of a shape that broadcasts to (m, n).
    """
    inside = _within(tile.box, x, y)
    for ocean in OCEANS.get(asset.kind, ()):
        inside = inside & ~_within(ocean, x, y)
    if not inside.any():
        return inside
    col, row = _pixel(asset, x), _pixel(asset, y)
    match asset.kind:
        case "tctrend":
            inside = inside & ~_hole(col, row, asset.seed)
            if tile.number > 0:
                later = _within((tile.box[0], PIERCED[0], tile.box[0] + OVERLAP, PIERCED[1]), x, y)
                inside = inside & ~(later & (((col >> 3) + (row >> 3)) % 2 == 1))
        case "mixed":
            inside = inside & ~_hole(col, row, asset.seed + sum(map(ord, band.mask)))
        case "dated" if band.mask:
            inside = inside & ~_hole(col, row, asset.seed + tile.number)
    return inside


def values(asset: Asset, tile: Tile, band: Band, x: Numbers, y: Numbers) -> Numbers:
    """The pixels of an image at places in the asset's CRS, whether masked or not; see `valid`."""
    col, row = _pixel(asset, x), _pixel(asset, y)
    number = asset.bands.index(band)
    match asset.kind:
        case "tctrend":
            numbers = _relief(col, row, asset.seed * 3 + number, 256)
            later = _within((tile.box[0], DIFFERENT[0], tile.box[0] + OVERLAP, DIFFERENT[1]), x, y)
            if tile.number > 0 and later.any():
                numbers = np.where(later, (numbers + 100) & 255, numbers)
        case "embeddings":
            year = tile.start.year if tile.start else 0
            # Bands come in pairs, the cosine and the sine of one angle: together they have length 1.
            angle = _mix(col, row, asset.seed + year * 64 + number // 2) >> np.uint32(20)
            return np.asarray(_circle(number % 2)[angle])
        case "mixed":
            numbers = _mixture(band.name, col, row, asset.seed)
        case _:
            numbers = _dated_numbers(band.name, col, row, asset.seed + 10 * tile.number)
    return np.asarray(numbers.astype(band.type.dtype))


def _mixture(name: str, col: Numbers, row: Numbers, seed: int) -> Numbers:
    """What the bands of `MIXED` hold."""
    rough = _mix(col, row, seed + len(name)).astype(np.int64)
    numbers: Numbers
    match name:
        case "elevation":
            numbers = _relief(col, row, seed, 2000) + (rough & 1023) / 1024 - 100
        case "landcover":
            numbers = _mix(col >> 4, row >> 4, seed) % np.uint32(11)
        case "change":
            numbers = (rough & 0xFFFF) - 0x8000
        case "count":
            numbers = rough - 2**31
        case "flags":
            numbers = rough & 0xFFFF
        case _:
            numbers = rough / 2**31 - 1.0
    return np.asarray(numbers)


def _dated_numbers(name: str, col: Numbers, row: Numbers, seed: int) -> Numbers:
    """What the bands of `DATED` hold."""
    if name == "SCL":
        return np.asarray(np.asarray(CLASSES)[_mix(col >> 4, row >> 4, seed) & np.uint32(7)])
    return _relief(col, row, seed + len(name) * (name == "B8"), 8000) + 200


def _pixel(asset: Asset, places: Numbers) -> Numbers:
    """The pixels of the lattice in which places lie."""
    return np.asarray(np.floor(places / asset.step + _ROUNDING).astype(np.int64))


def _within(box: Box, x: Numbers, y: Numbers) -> Flags:
    left, bottom, right, top = box
    return np.asarray(((x >= left) & (x < right)) & ((y >= bottom) & (y < top)))


def _hole(col: Numbers, row: Numbers, seed: int) -> Flags:
    """A hole of 3 x 3 pixels in every third block of 32 x 32 or so, in its 11th to 13th row."""
    block = _mix(col >> 5, row >> 5, seed)
    across = (col & 31) - (block >> np.uint32(8) & np.uint32(27)).astype(np.int64)
    down = (row & 31) - 10
    here = (across >= 0) & (across < _HOLE) & (down >= 0) & (down < _HOLE)
    return np.asarray((block % np.uint32(3) == 0) & here)


def _relief(col: Numbers, row: Numbers, seed: int, height: int) -> Numbers:
    """Slopes that rise and fall, with a little noise so that neighbours differ: 0 to `height` - 1."""
    room = height - 16
    slopes = _saw(col + seed * 1009, room) + _saw(row * 2 + seed * 2003, room)
    return np.asarray((slopes >> 1) + (_mix(col, row, seed) & np.uint32(15)).astype(np.int64))


def _saw(numbers: Numbers, height: int) -> Numbers:
    return np.asarray(np.abs(numbers % (2 * height) - height))


def _mix(col: Numbers, row: Numbers, seed: int) -> Numbers:
    """Unsigned 32-bit noise of a pixel's place."""
    factors = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
    across = (col * factors[0] & 0xFFFFFFFF).astype(np.uint32)
    down = (row * factors[1] + seed * factors[2] & 0xFFFFFFFF).astype(np.uint32)
    mixed = across ^ down
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    mixed *= np.uint32(0x297A2D39)
    mixed ^= mixed >> np.uint32(15)
    return mixed


@functools.cache
def _circle(half: int) -> Numbers:
    """4096 angles to the cosines (0) or sines (1) of a vector of 32 pairs whose length is 1."""
    angles = np.arange(4096) * (2 * np.pi / 4096)
    return np.asarray((np.sin if half else np.cos)(angles) / np.sqrt(32))
