"""What lies in the group of a level: the documents of its arrays, the values of its axes and its time steps.

All of it follows from the collection; the repository and the store that is served (``store.cube``) have it.
"""

import math
from itertools import batched
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.cf_attributes import TIME_ATTRIBUTES, TIME_UNITS, scaling, xarray_fill
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.grid import Grid
from icehouse_server.core.time import TimeAxis
from icehouse_server.store.layout.codec import encode
from icehouse_server.store.layout.metadata import DOCUMENT, Json, array_document, dumped

AXES = ("y", "x")
COORDINATE_CHUNK = 1 << 16
"""Longest chunk of an axis."""

_TIME_CHUNK = 1024


def dataset_attributes(spec: CollectionSpec) -> dict[str, Any]:
    """Return the attributes of a collection as a dataset, which every level has."""
    attributes = {
        "Conventions": "CF-1.10",
        "coordinates": "spatial_ref",  # as xarray writes it: makes it a coordinate, where rioxarray looks
        "title": spec.title,
        "license": spec.license,
        "attribution": spec.attribution,
        "references": spec.citation,
    }
    return {name: value for name, value in attributes.items() if value}


def describe(spec: CollectionSpec, level: int, steps: int) -> dict[str, bytes]:
    """Return what lies in the group of a level, by key: its arrays' documents and its time steps.

    The values of its axes are not among it, and no chunk of a band.
    """
    grid = spec.grids[level]
    documents = {name: _axis(name, grid) for name in AXES}
    documents["spatial_ref"] = _spatial_ref(grid)
    if spec.time is not None:
        documents |= _times(steps)
    documents |= {band.name: band_document(spec, band, level, steps) for band in spec.bands}
    held = {f"{name}/{DOCUMENT}": dumped(document) for name, document in documents.items()}
    return held if spec.time is None else held | _time_chunks(spec.time, steps)


def _axis(name: str, grid: Grid) -> Json:
    """Return the document of an axis."""
    words = {
        ("y", False): ("projection_y_coordinate", "m"),
        ("x", False): ("projection_x_coordinate", "m"),
        ("y", True): ("latitude", "degrees_north"),
        ("x", True): ("longitude", "degrees_east"),
    }
    standard_name, units = words[name, grid.crs.geographic]
    size = grid.shape[AXES.index(name)]
    return array_document(
        shape=(size,),
        chunks=(min(COORDINATE_CHUNK, size),),
        dtype=np.dtype("float64"),
        fill=np.float64(0),
        dimension_names=(name,),
        attributes={"standard_name": standard_name, "units": units, "axis": name.upper()},
    )


def axis_values(grid: Grid, name: str, chunk: int) -> NDArray[np.float64]:
    """Return a chunk of an axis: the centres of its pixels; shorter at the end of the axis.

    Args:
        grid: whose axis it is.
        name: ``y`` or ``x``.
        chunk: number of the chunk.
    """
    affine, size = grid.geobox.affine, grid.shape[AXES.index(name)]
    first, step = (affine.f, affine.e) if name == "y" else (affine.c, affine.a)
    start = chunk * COORDINATE_CHUNK
    values: NDArray[np.float64] = first + step * (
        np.arange(start, min(start + COORDINATE_CHUNK, size), dtype=np.float64) + 0.5
    )
    return values


def axis_chunk(grid: Grid, name: str, chunk: int) -> bytes:
    """Return a chunk of an axis as it is stored. Blocking; takes 2 ms."""
    values = axis_values(grid, name, chunk)
    whole = np.zeros(min(COORDINATE_CHUNK, grid.shape[AXES.index(name)]), dtype=np.float64)
    whole[: len(values)] = values
    return encode(whole)


def axis_chunks(grid: Grid) -> dict[str, bytes]:
    """Return the values of the axes: 30 MB at 2 m, of which 1 MB is left."""
    return {
        f"{name}/c/{chunk}": axis_chunk(grid, name, chunk)
        for name, size in zip(AXES, grid.shape, strict=True)
        for chunk in range(math.ceil(size / COORDINATE_CHUNK))
    }


def _spatial_ref(grid: Grid) -> Json:
    affine, crs = grid.geobox.affine, grid.crs.proj
    attributes = {**crs.to_cf(), "spatial_ref": crs.to_wkt()}
    attributes["GeoTransform"] = " ".join(
        repr(float(number)) for number in (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e)
    )
    return array_document(
        shape=(),
        chunks=(),
        dtype=np.dtype("int32"),
        fill=np.int32(0),
        dimension_names=(),
        attributes=attributes,
    )


def _times(steps: int) -> dict[str, Json]:
    """Return the documents of the time axis."""
    return {
        name: array_document(
            shape=(steps, *trailing),
            chunks=(_TIME_CHUNK, *trailing),
            dtype=np.dtype("int64"),
            fill=np.int64(0),
            dimension_names=dims,
            attributes=attributes,
        )
        for name, trailing, dims, attributes in (
            ("time", (), ("time",), TIME_ATTRIBUTES),
            ("time_bnds", (2,), ("time", "bnds"), TIME_UNITS),
        )
    }


def _time_chunks(axis: TimeAxis, steps: int) -> dict[str, bytes]:
    """Return the values of the time axis: where each step starts, and its bounds."""
    held = {}
    for chunk, numbers in enumerate(batched(range(steps), _TIME_CHUNK)):
        bounds = np.zeros((_TIME_CHUNK, 2), dtype=np.int64)
        bounds[: len(numbers)] = [axis.step(number).seconds for number in numbers]
        held[f"time/c/{chunk}"] = encode(bounds[:, 0])
        held[f"time_bnds/c/{chunk}/0"] = encode(bounds)
    return held


def band_document(spec: CollectionSpec, band: BandSpec, level: int, steps: int) -> Json:
    """Return the document of a band's array."""
    temporal, shape, chunk = spec.time is not None, spec.grids[level].shape, spec.grid.chunk
    attributes: dict[str, Any] = {"grid_mapping": "spatial_ref", "long_name": band.long_name or band.name}
    if band.units:
        attributes["units"] = band.units
    if band.nodata is not None:
        attributes["nodata"] = band.nodata if np.isfinite(band.nodata) else str(band.nodata)
        attributes["_FillValue"] = xarray_fill(band.fill)
    return array_document(
        shape=(steps, *shape) if temporal else shape,
        chunks=(1, chunk, chunk) if temporal else (chunk, chunk),
        dtype=band.dtype,
        fill=band.fill,
        dimension_names=("time", "y", "x") if temporal else ("y", "x"),
        attributes=attributes | scaling(band),
    )
