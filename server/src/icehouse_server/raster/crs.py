"""The CRS of a geobox, for those who need one, and as rasterio has it."""

from functools import lru_cache

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS as GdalCRS  # noqa: N811 - a class, not a constant


def crs_of(geobox: GeoBox) -> CRS:
    """Return a geobox's CRS.

    Raises:
        ValueError: it has none. A grid always has one, and so has what is asked of it.
    """
    crs = geobox.crs
    if crs is None:
        raise ValueError("this geobox has no CRS")
    return crs


def gdal_crs(geobox: GeoBox) -> GdalCRS:
    """Return a geobox's CRS as GDAL has it.

    Raises:
        ValueError: it has none.
    """
    return _parse(str(crs_of(geobox)))


@lru_cache(maxsize=64)
def _parse(name: str) -> GdalCRS:
    """Parse a CRS once: it takes GDAL longer than a small warp."""
    return GdalCRS.from_wkt(CRS(name).to_wkt())
