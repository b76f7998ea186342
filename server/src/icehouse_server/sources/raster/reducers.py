"""Rules that make one raster of pixels of many, pixel by pixel: first, last, best, min, max, mean, median.

Layers come one after the other, in the order of the items. What a rule says of a pixel depends on that order
and on the rasters' valid values there, on nothing else. A pixel without any valid value is invalid.

Numbers between two of a band's values are rounded half to even (numpy's ``rint``), held to the range of the
dtype; a valid outcome that equals the band's nodata is moved to the next value, as GDAL's warp does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.ports import BandBlock, Mask, Pixels
from icehouse_server.raster.validity import kept_apart
from icehouse_server.raster.wide_values import integers

type RuleName = Literal["first", "last", "best", "min", "max", "mean", "median"]

IN_ORDER = frozenset({"first", "last", "best"})
"""Rules that take the first valid pixel: rasters under a pixel that is settled need not be read."""

_WORKING = 40
"""Bytes that a rule holds for one pixel in addition to its stack: sums, counts, indices."""


class Reducer(Protocol):
    """Takes the rasters of one band, and says what they come to."""

    def add(self, values: Pixels, valid: Mask) -> bool:
        """Take the next raster, of the band's dtype; return whether any pixel of it counts."""
        ...

    def result(self) -> BandBlock:
        """Return what the rasters come to. Call it once, at the end."""
        ...


def reducer(rule: RuleName, band: BandSpec, shape: tuple[int, int], rasters: int) -> Reducer:
    """Make the reducer of a rule.

    Args:
        rule: which.
        band: dtype and nodata of rasters and outcome.
        shape: (rows, columns) of every raster.
        rasters: how many will be added at most; a median holds them all.
    """
    match rule:
        case "first" | "last" | "best":  # they differ in the order of the rasters alone
            return _FirstValid(band=band, shape=shape)
        case "min":
            return _Extreme(band=band, shape=shape, choose=np.minimum)
        case "max":
            return _Extreme(band=band, shape=shape, choose=np.maximum)
        case "mean":
            return _Mean(band=band, shape=shape)
        case "median":
            return _Median(band=band, shape=shape, rasters=rasters)


def bytes_per_pixel(rule: RuleName, itemsize: int, rasters: int) -> int:
    """Return how many bytes a rule holds for each pixel, with one byte of mask for each raster."""
    stacked = rasters * itemsize if rule == "median" else 0
    return stacked + rasters + _WORKING


@dataclass(slots=True, kw_only=True)
class _Chosen:
    """Pixels of rasters as they are: what a rule has chosen of those that came so far."""

    band: BandSpec
    shape: tuple[int, int]
    values: Pixels = field(init=False)
    valid: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.values = np.full(self.shape, self.band.fill, dtype=self.band.dtype)
        self.valid = np.zeros(self.shape, dtype=np.bool_)

    def result(self) -> BandBlock:
        return settled(self.values, self.valid, self.band)


@dataclass(slots=True, kw_only=True)
class _FirstValid(_Chosen):
    """The first raster that is valid wins."""

    def add(self, values: Pixels, valid: Mask) -> bool:
        taken = valid & ~self.valid
        np.copyto(self.values, values, where=taken)
        self.valid |= taken
        return bool(taken.any())


@dataclass(slots=True, kw_only=True)
class _Extreme(_Chosen):
    """The smallest, or the largest, of all rasters."""

    choose: Callable[[Pixels, Pixels], Pixels]

    def add(self, values: Pixels, valid: Mask) -> bool:
        chosen = np.where(self.valid, self.choose(self.values, values), values)
        np.copyto(self.values, chosen, where=valid)
        self.valid |= valid
        return bool(valid.any())


@dataclass(slots=True, kw_only=True)
class _Mean:
    """The mean of all rasters: summed in float64, in the order of the rasters."""

    band: BandSpec
    shape: tuple[int, int]
    total: NDArray[np.float64] = field(init=False)
    count: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.shape, dtype=np.float64)
        self.count = np.zeros(self.shape, dtype=np.int32)

    def add(self, values: Pixels, valid: Mask) -> bool:
        np.add(self.total, values, out=self.total, where=valid)
        self.count += valid
        return bool(valid.any())

    def result(self) -> BandBlock:
        valid: Mask = self.count > 0
        mean = np.divide(self.total, self.count, out=self.total, where=valid)
        return fitted(mean, valid, self.band)


@dataclass(slots=True, kw_only=True)
class _Median:
    """The median of all rasters; of an even number the mean of the two in the middle, in float64."""

    band: BandSpec
    shape: tuple[int, int]
    rasters: int
    stack: NDArray[np.generic] = field(init=False)
    """(pixels, rasters): what belongs to one pixel lies together, for the sort."""
    count: NDArray[np.int32] = field(init=False)
    added: int = 0

    def __post_init__(self) -> None:
        rows, cols = self.shape
        self.stack = np.full((rows * cols, max(1, self.rasters)), self._top, dtype=self.band.dtype)
        self.count = np.zeros(rows * cols, dtype=np.int32)

    @property
    def _top(self) -> float | int:
        """No value is sorted behind it. A valid one may equal it: counts tell them apart."""
        dtype = self.band.dtype
        return np.inf if dtype.kind == "f" else int(np.iinfo(dtype.name).max)

    def add(self, values: Pixels, valid: Mask) -> bool:
        np.copyto(self.stack[:, self.added], values.ravel(), where=valid.ravel())
        self.count += valid.ravel()
        self.added += 1
        return bool(valid.any())

    def result(self) -> BandBlock:
        self.stack.sort(axis=1)
        valid = self.count > 0
        middle = self._picked(np.maximum(self.count - 1, 0) // 2)
        # Halved before they are added: the sum of two large floats may be infinite.
        middle = middle / 2 + self._picked(np.minimum(self.count // 2, self.stack.shape[1] - 1)) / 2
        return fitted(middle.reshape(self.shape), valid.reshape(self.shape), self.band)

    def _picked(self, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        picked = np.take_along_axis(self.stack, positions[:, None], axis=1)[:, 0]
        return picked.astype(np.float64)


def fitted(numbers: NDArray[np.float64], valid: Mask, band: BandSpec) -> BandBlock:
    """Return numbers as values of a band.

    Args:
        numbers: (rows, columns), finite where valid unless the band holds floats.
        valid: True = valid.
        band: its dtype, range and nodata.
    """
    dtype = band.dtype
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = np.where(valid, numbers, 0.0).astype(dtype)
    else:
        values = integers(np.rint(np.where(valid, numbers, 0.0)), dtype)
    return settled(values, valid, band)


def settled(values: Pixels, valid: Mask, band: BandSpec) -> BandBlock:
    """Return a block of a band: fill where invalid, and no valid pixel that holds nodata."""
    return BandBlock(values=kept_apart(values, valid, band), valid=valid)
