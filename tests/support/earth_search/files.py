"""Builds the files of the Earth Search stand-in's buckets. A key begins with the bucket's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rasterio
from affine import Affine

from icehouse_server.demo.object_builder import NoSuchKeyError
from support.earth_search import dem, pixels, world

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from icehouse_server.demo.object_builder import Variant, Write
    from support.earth_search.dem import Degree
    from support.earth_search.world import Band, Scene


def earth_object(key: str) -> Write:
    """What writes an object.

    Raises:
        NoSuchKeyError: if there is no such object.
    """
    bucket, _, name = key.partition("/")
    try:
        if bucket == world.BUCKET:
            scene, band = world.parse_key(name)
            return lambda path, variant: _write_scene(path, scene, band, variant)
        if bucket == dem.BUCKET:
            degree = dem.parse_key(name)
            return lambda path, variant: _write_degree(path, degree, variant)
    except KeyError as error:
        raise NoSuchKeyError(key) from error
    raise NoSuchKeyError(key)


def _write_scene(path: Path, scene: Scene, band: Band, variant: Variant) -> None:
    corner, pixel = scene.affine(band.asset), variant.pixel or float(band.pixel)
    moved = variant.shift * pixel
    array = pixels.render(scene, band.asset)
    array = array + (array > 0) * int(variant.add)
    dtype = variant.dtype or band.dtype
    profile = {
        "dtype": dtype,
        "nodata": None if variant.no_nodata else 0,
        "crs": f"EPSG:{variant.epsg or scene.tile.epsg}",
        "transform": Affine(pixel, 0, corner.c + moved, 0, -pixel, corner.f - moved),
        "PREDICTOR": "NO" if band.asset == "scl" else "STANDARD",
        "BLOCKSIZE": "256",
        "OVERVIEW_RESAMPLING": "NEAREST" if band.asset == "scl" else "AVERAGE",
    }
    write_cog(path, array.astype(dtype), profile)


def _write_degree(path: Path, degree: Degree, variant: Variant) -> None:
    """Declares no nodata, and pixels that stand for points, as the real product does."""
    affine = degree.affine
    dtype = variant.dtype or "float32"
    profile = {
        "dtype": dtype,
        "nodata": None,
        "crs": f"EPSG:{variant.epsg or 4326}",
        "transform": affine @ Affine.translation(variant.shift, variant.shift),
        "PREDICTOR": "YES",
        "BLOCKSIZE": "1024",
        "OVERVIEW_RESAMPLING": "AVERAGE",
    }
    array = (dem.render(degree) + variant.add).astype(dtype)
    write_cog(path, array, profile, AREA_OR_POINT="Point")


def write_cog(path: Path, array: NDArray[Any], profile: dict[str, Any], **tags: str) -> None:
    """Write one band with GDAL's COG driver, which makes overviews down to a block's size."""
    rows, columns = array.shape
    with rasterio.open(
        path, "w", driver="COG", height=rows, width=columns, count=1, COMPRESS="DEFLATE", LEVEL="1", **profile
    ) as dataset:
        dataset.write(array, 1)
        dataset.update_tags(**tags)
