"""Which pixels of a band say something: of every source, and of every output.

A pixel of a file is valid if mask and alpha band show it and it is neither nodata nor NaN (``judge``). What a
nodata is, and which values it marks, is as GDAL has it (``number_of``, ``marked_by``).
"""

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.ports import Mask, Pixels, Stack, Validity

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_NAN = re.compile(r"[+-]?(?:nan|1\.#(?:qnan|snan|ind))", re.IGNORECASE)
_INFINITE = re.compile(r"([+-]?)(?:inf|1\.#inf)", re.IGNORECASE)

_LIKENESS = 2 * float(np.finfo(np.float32).eps)
"""Share of the sum of two floats below which GDAL takes them for one; of float64 as well (3.12)."""


def number_of(text: str) -> float | int | None:
    """Return the number that a text says as GDAL reads it: what follows the number does not count.

    None where it says none. So Windows writes NaN: ``-1.#QNAN``, ``-1.#IND``.
    """
    text = text.strip()
    if _NAN.match(text):
        return math.nan
    if infinite := _INFINITE.match(text):
        return -math.inf if infinite[1] == "-" else math.inf
    found = _NUMBER.match(text)
    if found is None:
        return None
    return int(found[0]) if found[0].lstrip("+-").isdecimal() else float(found[0])


@dataclass(frozen=True, slots=True)
class Marked:
    """The values that a nodata marks: from the one to the other."""

    low: float | int
    high: float | int

    def under(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which pixels hold such a value; NaN is left to ``judge``."""
        return values == self.low if self.low == self.high else (values >= self.low) & (values <= self.high)

    def holds(self, number: float) -> bool:
        """Return whether a number is marked; NaN is by NaN."""
        return self.low <= number <= self.high or (math.isnan(self.low) and math.isnan(number))


@functools.lru_cache(maxsize=256)
def marked_by(number: float | None, dtype: np.dtype[np.generic]) -> Marked | None:
    """Return the values of a dtype that a nodata marks as GDAL has it, or None where it marks none.

    Of integers that is one value, of which a fraction is cut off; a number out of the dtype's range marks
    none. Of floats those are marked that GDAL takes for the same: of float32 eight neighbours, and near the
    range's end, where its sums overflow, all that are as large.
    """
    if number is None:
        return None
    if dtype.kind == "f":
        value = float(held(number, dtype).item())
        if not math.isfinite(value):
            return Marked(value, value)
        return Marked(*sorted((_end(value, dtype, outwards=True), _end(value, dtype, outwards=False))))
    limits = np.iinfo(dtype.name)
    if not (math.isfinite(number) and limits.min <= number <= limits.max):
        return None
    return Marked(int(number), int(number))


def held(number: float, dtype: np.dtype[np.generic]) -> np.generic:
    """Return a number as pixels of a dtype hold it: fractions of integers cut off, floats rounded."""
    with np.errstate(over="ignore"):
        return dtype.type(number if dtype.kind == "f" else int(number))


def _end(value: float, dtype: np.dtype[np.generic], *, outwards: bool) -> float:
    """Return the last float of a dtype that GDAL takes for another, away from zero or towards it."""
    limits = np.finfo(dtype.name)
    most, half_step = float(limits.max), math.ldexp(float(limits.eps), int(limits.maxexp) - 2)
    size, sign = abs(value), math.copysign(1.0, value)
    whole = np.dtype(f"u{dtype.itemsize}")

    def at(bits: int) -> float:
        return float(np.array(bits, dtype=whole).view(dtype).item())

    def bits_of(number: float) -> int:
        return int(np.array(number, dtype=dtype).view(whole).item())

    if outwards and size > most / 2:
        return sign * most
    alike = _alike(size, most + half_step)
    near, far = bits_of(size), bits_of(2 * size if outwards else 0.0)  # neighbours in size are so in bits
    while abs(far - near) > 1:
        middle = (near + far) // 2
        near, far = (middle, far) if alike(at(middle)) else (near, middle)
    return sign * at(near)


def _alike(size: float, overflow: float) -> Callable[[float], bool]:
    """Return GDAL's comparison of a float with others (ARE_REAL_EQUAL); sums overflow in it."""

    def alike(other: float) -> bool:
        together = size + other
        return other == size or together >= overflow or abs(size - other) < _LIKENESS * together

    return alike


def shown_by(shape: tuple[int, int], mask: Pixels | None, alpha: Pixels | None) -> Mask:
    """Return which pixels of a file its mask and its alpha band show: where both are other than 0.

    Args:
        shape: of the pixels.
        mask: values of the mask, or None where there is none.
        alpha: values of the alpha band, or None where there is none; NaN shows nothing.
    """
    shown = np.ones(shape, dtype=np.bool_)
    if mask is not None:
        shown &= mask != 0
    if alpha is not None:
        shown &= (alpha != 0) & ~np.isnan(alpha)
    return shown


def judge(values: Pixels, shown: Mask, nodata: float | None, band: BandSpec) -> tuple[Mask, int]:
    """Return which pixels of a file are valid, and how many of them could not be kept as they are.

    Args:
        values: as the file holds them, of the band's dtype.
        shown: True where mask and alpha band of the file show a pixel.
        nodata: the file's own, else the document's, else the band's; None where none is known.
        band: what the pixels are for.

    Returns:
        True = valid; and the number of valid pixels that hold the band's nodata, which is not the file's.
    """
    marked = marked_by(nodata, values.dtype)
    valid = shown if marked is None else shown & ~marked.under(values)
    if values.dtype.kind == "f":
        valid = valid & ~np.isnan(values)
    own = None if band.nodata is None else band.fill.item()
    if own is None or math.isnan(own) or (marked is not None and marked.holds(own)):
        return valid, 0
    return valid, int(np.count_nonzero(valid & (values == own)))


def no_room(band: BandSpec, lost: Mask) -> tuple[str, str]:
    """Return what is wrong, and what to write, where a band of integers has no nodata and a file has holes.

    Args:
        band: without nodata.
        lost: True where a file has a pixel and none is valid.
    """
    number = int(np.count_nonzero(lost))
    detail = f"{number} of its pixels are invalid, and band {band.name!r} has no nodata to hold them"
    return detail, f"write nodata = N for the band, a value of {band.dtype.name} that no valid pixel holds"


def nodata_of(band: BandSpec) -> np.generic | None:
    """Return a band's nodata as its pixels hold it, or None where every value is valid."""
    return None if band.nodata is None else band.fill


def equal(values: Stack, number: np.generic) -> Validity:
    """Return which pixels equal a number; NaN equals NaN."""
    found: Validity = np.isnan(values) if np.isnan(number.item()) else values == number
    return found


def same(first: np.generic | None, second: np.generic | None) -> bool:
    """Return whether two nodata values are the same; NaN is NaN, and none is none."""
    if first is None or second is None:
        return first is second
    one, other = first.item(), second.item()
    return bool(one == other or (np.isnan(one) and np.isnan(other)))


def valid(values: Stack, nodata: np.generic | None) -> Validity:
    """Return which pixels are valid, True = valid."""
    if nodata is None:
        return np.ones(values.shape, dtype=np.bool_)
    return ~equal(values, nodata)


def visible(values: Stack, band: BandSpec) -> Validity:
    """Return which pixels are valid and finite, True = can be drawn or written as a number."""
    mask: Validity = valid(values, nodata_of(band)) & np.isfinite(values)
    return mask


def kept_apart(values: Pixels, valid: Mask, band: BandSpec) -> Pixels:
    """Return values of a band: fill where invalid, and no valid pixel that holds nodata."""
    if band.nodata is not None:
        clash = valid & (values == band.fill)
        if clash.any():
            values = np.where(clash, _next(band.fill), values)
    found: Pixels = np.where(valid, values, band.fill)
    return found


def _next(value: np.generic) -> np.generic:
    """Return the neighbouring value that GDAL's warp moves to: above, at the top of the range below."""
    dtype = value.dtype
    if dtype.kind == "f":
        towards = np.inf if value < np.finfo(dtype.name).max else -np.inf  # type: ignore[operator]  # a number
        return dtype.type(np.nextafter(value, dtype.type(towards)))
    step = 1 if value.item() < int(np.iinfo(dtype.name).max) else -1
    return dtype.type(value.item() + step)
