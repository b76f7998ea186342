"""Which pixels of a band say something."""

import numpy as np

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.ports import Stack, Validity


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
