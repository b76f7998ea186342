"""Dtypes that GDAL's warp does not compute in: half floats, and integers of 64 bits.

Half floats are warped as single floats, which hold all of them. GDAL computes with integers of 64 bits as
doubles, which hold them up to 2**53 only; where larger ones are to be taken as they are (``nearest``), their
upper and lower halves are warped on their own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.ports import Mask, Pixels

_EXACT = 2**53
"""Integers up to here are doubles."""

_HALF = 32
"""Bits of a half of a long integer."""


def is_wide(dtype: np.dtype[np.generic]) -> bool:
    """Return whether a dtype is one of these."""
    return dtype == np.float16 or (dtype.kind in "iu" and dtype.itemsize == 8)  # noqa: PLR2004 - bytes


def widened(values: Pixels, valid: Mask, method: str) -> list[NDArray[np.floating]]:
    """Return what is to be warped in place of values: NaN where invalid.

    Args:
        values: of a dtype that ``is_wide``.
        valid: True = valid.
        method: resampling by GDAL's name.

    Returns:
        One array, or the upper and the lower halves.
    """
    if values.dtype == np.float16:
        return [np.where(valid, values.astype(np.float32), np.float32(np.nan))]
    parts: list[NDArray[np.generic]] = [values]
    if method == "nearest" and not _fit_doubles(values[valid]):
        whole = values.astype(values.dtype)
        parts = [np.right_shift(whole, _HALF), np.bitwise_and(whole, 2**_HALF - 1)]
    return [np.where(valid, part.astype(np.float64), np.nan) for part in parts]


def narrowed(parts: Sequence[NDArray[np.generic]], dtype: np.dtype[np.generic]) -> tuple[Pixels, Mask]:
    """Return warped parts as values of a dtype, what is beyond its range at its ends, and True = valid."""
    doubles = [part.astype(np.float64) for part in parts]
    valid: Mask = ~np.isnan(doubles[0])
    if dtype.kind == "f":
        limit = float(np.finfo(dtype.name).max)
        found = np.where(np.isfinite(doubles[0]), np.clip(doubles[0], -limit, limit), doubles[0])
        return np.where(valid, found, 0).astype(dtype), valid
    numbers = [np.where(valid, part, 0.0) for part in doubles]
    if len(numbers) > 1:
        high, low = (number.astype(dtype) for number in numbers)
        return np.bitwise_or(np.left_shift(high, _HALF), low), valid
    return integers(np.floor(numbers[0] + 0.5), dtype), valid  # GDAL's rounding


def integers(numbers: NDArray[np.float64], dtype: np.dtype[np.generic]) -> Pixels:
    """Return whole numbers as integers of a dtype, held to its range.

    The ends of 64 bits are no doubles: the next double is beyond.
    """
    limits = np.iinfo(dtype.name)
    above, below = numbers >= float(limits.max), numbers <= float(limits.min)
    held: Pixels = np.where(above | below, 0.0, numbers).astype(dtype)
    held[above], held[below] = limits.max, limits.min
    return held


def _fit_doubles(values: Pixels) -> bool:
    if not values.size:
        return True
    return int(values.max()) <= _EXACT and int(values.min()) >= -_EXACT
