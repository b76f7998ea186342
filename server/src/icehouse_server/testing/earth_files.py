"""Builds the files of the Earth Search stand-in's buckets. A key begins with the bucket's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rasterio
from affine import Affine

from icehouse_server.testing import earth_world
from icehouse_server.testing.builder import NoSuchKeyError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from icehouse_server.testing.builder import Variant, Write
    from icehouse_server.testing.earth_world import Band, Scene

_BLOCK = 256


def earth_object(key: str) -> Write:
    """What writes an object.

    Raises:
        NoSuchKeyError: if there is no such object.
    """
    bucket, _, name = key.partition("/")
    try:
        if bucket == earth_world.BUCKET:
            scene, band = earth_world.parse_key(name)
            return lambda path, variant: _write_scene(path, scene, band, variant)
    except KeyError as error:
        raise NoSuchKeyError(key) from error
    raise NoSuchKeyError(key)


def _write_scene(path: Path, scene: Scene, band: Band, variant: Variant) -> None:
    corner, pixel = scene.affine(band.asset), variant.pixel or float(band.pixel)
    moved = variant.shift * pixel
    array = earth_world.render(scene, band.asset)
    array = array + (array > 0) * int(variant.add)
    profile = {
        "dtype": variant.dtype or band.dtype,
        "nodata": None if variant.no_nodata else 0,
        "crs": f"EPSG:{variant.epsg or scene.tile.epsg}",
        "transform": Affine(pixel, 0, corner.c + moved, 0, -pixel, corner.f - moved),
        "PREDICTOR": "NO" if band.asset == "scl" else "STANDARD",
        "BLOCKSIZE": str(_BLOCK),
        "OVERVIEW_RESAMPLING": "NEAREST" if band.asset == "scl" else "AVERAGE",
    }
    write_cog(path, array.astype(profile["dtype"]), profile)


def write_cog(path: Path, array: NDArray[Any], profile: dict[str, Any]) -> None:
    """Write one band with GDAL's COG driver, which makes overviews down to a block's size."""
    rows, columns = array.shape
    with rasterio.open(
        path, "w", driver="COG", height=rows, width=columns, count=1, COMPRESS="DEFLATE", LEVEL="1", **profile
    ) as dataset:
        dataset.write(array, 1)
