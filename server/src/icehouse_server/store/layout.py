"""How a collection lies in its Icechunk repository.

The root group holds one array a band (``y``, ``x``; one chunk is one cached chunk), the coordinates and
``spatial_ref`` (CF grid mapping), so that ``xarray.open_zarr`` on the repository just works.
"""

from typing import Any

import icechunk
import numpy as np
import zarr
from xarray.backends.zarr import FillValueCoder
from zarr.abc.store import Store as ZarrStore

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import RepositoryForeignError
from icehouse_server.store.codec import zarr_compressors

LAYOUT = 1
"""Number of this layout; a higher one in a repository means that a later version wrote it."""

_COORDINATE_CHUNK = 1 << 16
_MANIFEST_SPLIT = 128
"""Chunks per side of a manifest; a commit rewrites those that it touches and lists them all.

Measured: one chunk into a full manifest takes 17 ms at 128 and 9 ms at 64, but with a million chunks cached a
commit took 16 ms at 128 and 146 ms at 64.
"""


_UPDATES_PER_FILE = 10
"""Repository updates per file: fewer copies under ``overwritten/``, which Icechunk never collects."""


def repository_config() -> icechunk.RepositoryConfig:
    """Return the settings that every repository of ours is opened with."""
    config = icechunk.RepositoryConfig.default()
    config.num_updates_per_repo_info_file = _UPDATES_PER_FILE
    split = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.Any(): _MANIFEST_SPLIT
            }
        }
    )
    config.manifest = icechunk.ManifestConfig(splitting=split)
    return config


def identity(spec: CollectionSpec) -> dict[str, Any]:
    """Return what must stay the same for stored chunks to keep their meaning."""
    affine = spec.grid.geobox.affine
    return {
        "layout": LAYOUT,
        "collection": spec.id,
        "crs": str(spec.grid.crs),
        "transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "shape": list(spec.grid.shape),
        "chunk": spec.grid.chunk,
    }


def create(spec: CollectionSpec, store: ZarrStore) -> None:
    """Write the empty cube. Blocking."""
    root = zarr.create_group(store, attributes={**_dataset_attributes(spec), "icehouse": identity(spec)})
    affine = spec.grid.geobox.affine
    _coordinate(root, "y", affine.f, affine.e, spec)
    _coordinate(root, "x", affine.c, affine.a, spec)
    crs = spec.grid.crs.proj
    attributes = {**crs.to_cf(), "spatial_ref": crs.to_wkt()}
    attributes["GeoTransform"] = " ".join(
        repr(float(number)) for number in (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e)
    )
    root.create_array("spatial_ref", shape=(), dtype="int32", fill_value=0, attributes=attributes)[...] = 0
    for band in spec.bands:
        create_band(spec, band, root)


def create_band(spec: CollectionSpec, band: BandSpec, root: zarr.Group) -> None:
    """Write the metadata of a band's array. Blocking."""
    attributes: dict[str, Any] = {"grid_mapping": "spatial_ref", "long_name": band.long_name or band.name}
    if band.units:
        attributes["units"] = band.units
    if band.nodata is not None:
        attributes["nodata"] = band.nodata if np.isfinite(band.nodata) else str(band.nodata)
        attributes["_FillValue"] = FillValueCoder.encode(band.fill.item(), band.dtype)
    root.create_array(
        band.name,
        shape=spec.grid.shape,
        chunks=(spec.grid.chunk, spec.grid.chunk),
        dtype=band.dtype.name,
        fill_value=band.fill.item(),
        compressors=zarr_compressors(band.dtype),
        dimension_names=("y", "x"),
        attributes=attributes,
        config={"write_empty_chunks": True},
    )


def check(spec: CollectionSpec, root: zarr.Group | None) -> tuple[BandSpec, ...]:
    """Check that a repository is ours and fits the collection.

    Returns:
        The bands that the collection has gained since and that the repository lacks.

    Raises:
        RepositoryForeignError: it is not ours, of a later layout, or of another grid, chunk or band type.
    """
    found = None if root is None else root.attrs.get("icehouse")
    if root is None or not isinstance(found, dict) or "layout" not in found:
        raise RepositoryForeignError(
            f"the repository of collection {spec.id!r} was not written by Icehouse; it is left untouched",
            hint="move it out of the cache folder, or point cache_dir elsewhere",
        )
    if found["layout"] != LAYOUT:
        raise RepositoryForeignError(
            f"the repository of collection {spec.id!r} has layout {found['layout']}; "
            f"this version reads layout {LAYOUT}; it is left untouched",
            hint="use the Icehouse version that wrote it, or point cache_dir elsewhere",
        )
    wanted = identity(spec)
    for name in wanted:
        if found.get(name) != wanted[name]:
            raise RepositoryForeignError(
                f"collection {spec.id!r} has {name} {wanted[name]}, but its repository "
                f"holds {found.get(name)}; it is left untouched",
                hint="give the changed collection another id, or move the old repository away",
            )
    return tuple(band for band in spec.bands if not _has_band(spec, band, root))


def _has_band(spec: CollectionSpec, band: BandSpec, root: zarr.Group) -> bool:
    array = root.get(band.name)
    if array is None:
        return False
    if not isinstance(array, zarr.Array) or array.dtype.name != band.dtype.name or not _same(array, band):
        raise RepositoryForeignError(
            f"band {band.name!r} of collection {spec.id!r} is {band.dtype.name} with nodata {band.nodata}, "
            f"which differs from its repository; it is left untouched",
            hint="give the changed band another name, or move the old repository away",
        )
    return True


def _same(array: zarr.Array[Any], band: BandSpec) -> bool:
    fill = bool(np.array_equal(np.asarray(array.fill_value), np.asarray(band.fill), equal_nan=True))
    return fill and ("nodata" in array.attrs) == (band.nodata is not None)


def _coordinate(root: zarr.Group, name: str, first: float, step: float, spec: CollectionSpec) -> None:
    """Write the centres of the pixels along an axis, slice by slice: at 2 m they are 30 MB."""
    words = {
        ("y", False): ("projection_y_coordinate", "m"),
        ("x", False): ("projection_x_coordinate", "m"),
        ("y", True): ("latitude", "degrees_north"),
        ("x", True): ("longitude", "degrees_east"),
    }
    standard_name, units = words[name, spec.grid.crs.geographic]
    size = spec.grid.shape[0 if name == "y" else 1]
    array = root.create_array(
        name,
        shape=(size,),
        chunks=(min(_COORDINATE_CHUNK, size),),
        dtype="float64",
        fill_value=0.0,
        compressors=zarr_compressors(np.dtype("float64")),
        dimension_names=(name,),
        attributes={"standard_name": standard_name, "units": units, "axis": name.upper()},
    )
    for start in range(0, size, _COORDINATE_CHUNK):
        stop = min(start + _COORDINATE_CHUNK, size)
        array[start:stop] = first + step * (np.arange(start, stop) + 0.5)


def _dataset_attributes(spec: CollectionSpec) -> dict[str, Any]:
    attributes = {
        "Conventions": "CF-1.10",
        "coordinates": "spatial_ref",  # as xarray writes it: makes it a coordinate, where rioxarray looks
        "title": spec.title,
        "license": spec.license,
        "attribution": spec.attribution,
        "references": spec.citation,
    }
    return {name: value for name, value in attributes.items() if value}
