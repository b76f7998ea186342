"""Whether rasters repeat a place at other times, which makes a time axis."""

import itertools
from collections.abc import Sequence
from datetime import datetime

from icehouse_server.sources.raster.draft_grid import PlacedRaster

_LOOKED_AT = 200
"""Rasters that are held against each other."""

_SAME_PLACE = 0.5
"""Share of the smaller of two rasters that both cover when they are of one place."""

_YEARLY = 300 * 86400.0
"""Seconds between dates from which on a step is a year."""


def is_repeated(placed: Sequence[PlacedRaster], dates: Sequence[datetime | None]) -> bool:
    """Return whether two rasters of different dates cover one place.

    Args:
        placed: where they lie.
        dates: of each, in the same order; None where it is not known.
    """
    looked = list(zip(placed, dates, strict=True))[:_LOOKED_AT]
    return any(
        when is not None and then is not None and when != then and _share(one, other) > _SAME_PLACE
        for (one, when), (other, then) in itertools.combinations(looked, 2)
    )


def longest_period(dates: Sequence[datetime]) -> str:
    """Return ``yearly`` where dates, ascending, are about a year apart, else ``monthly``."""
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(dates)]
    apart = [gap for gap in gaps if gap > 0]
    return "yearly" if apart and min(apart) >= _YEARLY else "monthly"


def _share(one: PlacedRaster, other: PlacedRaster) -> float:
    """Return the share of the smaller raster that both cover; 0 where their CRSs differ."""
    if one.crs != other.crs:
        return 0.0
    a, b = one.bounds, other.bounds
    width = min(a.maxx, b.maxx) - max(a.minx, b.minx)
    height = min(a.maxy, b.maxy) - max(a.miny, b.miny)
    least = min((box.maxx - box.minx) * (box.maxy - box.miny) for box in (a, b))
    return max(0.0, width) * max(0.0, height) / least
