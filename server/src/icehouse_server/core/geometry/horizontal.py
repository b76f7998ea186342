"""What of a CRS says where on the ground something lies: without heights."""

from functools import lru_cache

import pyproj
from odc.geo.crs import CRS
from pyproj.exceptions import ProjError

from icehouse_server.core.geometry.transformers import transformer_of


@lru_cache(maxsize=256)
def horizontal(crs: str) -> str:
    """Return the horizontal part of a CRS: of a compound one its first, of a 3-D one that in two dimensions.

    Pixels say nothing of the height at which their file places them, so a vertical datum must not move them.

    Args:
        crs: WKT, or authority and code.

    Returns:
        WKT; the argument as it is where there is nothing to leave out.

    Raises:
        CRSError: PROJ does not know it.
    """
    whole = pyproj.CRS.from_user_input(crs)
    found = _flat(whole)
    return crs if found is whole else str(found.to_wkt())


def _flat(crs: pyproj.CRS) -> pyproj.CRS:
    if crs.is_bound and crs.source_crs is not None:
        inner = _flat(crs.source_crs)
        return crs if inner is crs.source_crs else inner
    if crs.is_compound:
        return _flat(crs.sub_crs_list[0])
    return crs.to_2d() if len(crs.axis_info) > 2 and not crs.is_geocentric else crs  # noqa: PLR2004 - x and y


def is_map(crs: CRS) -> bool:
    """Return whether a CRS is a map of the earth: two axes, no height, no geocentre, no other planet."""
    return is_flat(crs) and convertible("EPSG:4326", str(crs))


def is_flat(crs: CRS) -> bool:
    """Return whether a CRS is projected or geographic in two axes, of whatever planet."""
    return bool(crs.projected or crs.geographic) and len(crs.proj.axis_info) == 2  # noqa: PLR2004 - x and y


@lru_cache(maxsize=256)
def convertible(source: str, target: str) -> bool:
    """Return whether places in a CRS have one in another: not between the Earth and a local CRS or the Moon.

    Args:
        source: WKT, or authority and code.
        target: the same.
    """
    try:
        transformer_of(source, target)
    except ProjError:
        return False
    return True
