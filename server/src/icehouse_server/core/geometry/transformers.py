"""From one CRS to another, with transformers that are made once."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from pyproj import Transformer


def transformer(source: CRS, target: CRS) -> Transformer:
    """Return a pyproj transformer with x, y (lon, lat) axis order, made once for each pair."""
    return transformer_of(str(source), str(target))


@lru_cache(maxsize=64)
def transformer_of(source: str, target: str) -> Transformer:
    """Make a transformer; by names, for the hash of a CRS is that of its WKT, made anew each time.

    Raises:
        ProjError: nothing leads from the one to the other.
    """
    return Transformer.from_crs(source, target, always_xy=True)


def project_points(
    x: NDArray[np.float64], y: NDArray[np.float64], source: CRS | None, target: CRS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points in another CRS, as they are where it is the same one or ``source`` is None.

    Not finite where the target CRS has no such place.
    """
    if source is None or source == target:
        return x, y
    projected: tuple[NDArray[np.float64], NDArray[np.float64]] = transformer(source, target).transform(x, y)
    return projected
