"""The whole collection as a lazy dataset, through xarray and the zarr that the user has."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from icehouse._errors import BadParameter

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_NEEDED = ("zarr", "fsspec", "aiohttp")

_OF_THE_STORE = re.compile("zarr_conventions|multiscales|icehouse|(proj|spatial):.*")
"""Attributes that describe the groups of the store: wrong of a part of it, and NetCDF holds no tables."""

_CF_ENCODING = frozenset(
    {"_FillValue", "missing_value", "scale_factor", "add_offset", "dtype", "units", "calendar"}
    | {"grid_mapping", "coordinates", "preferred_chunks"}
)
"""What a writer needs to know of how values are encoded. The rest, chunks and codecs of the store, does not
fit a part of it, other chunks of dask or Zarr v2. xarray takes `preferred_chunks` for advice."""

_GDAL_NUMBERS = 6


def open_cube(url: str, level: int, headers: Mapping[str, str], options: Mapping[str, Any]) -> xr.Dataset:
    """Open one level of a Zarr store over HTTP with xarray, lazily.

    Args:
        url: of the store.
        level: 0 is the full resolution.
        headers: sent with each request.
        options: of `xarray.open_zarr`. Without `chunks` there is no dask: a grid of a million chunks would be
            a million tasks.

    Raises:
        ImportError: what xarray needs for it is not installed.
        BadParameter: the level is not a whole number from 0.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"open_zarr needs {', '.join(missing)}, which the client does not bring: "
            'pip install zarr "fsspec[http]"; load() needs none of them'
        )
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise BadParameter(f"level: must be a whole number from 0, not {level!r}")
    chosen: dict[str, Any] = {"chunks": None, **options}
    asked = {"headers": dict(headers)} if headers else {}
    store = _store(url, {**asked, **(chosen.pop("storage_options", None) or {})})
    return savable(xr.open_zarr(store, group=str(level) if level else None, **chosen))


def _store(url: str, options: Mapping[str, Any]) -> MutableMapping[str, bytes]:
    """The store at a URL. xarray makes one from a URL too, but fsspec takes `[::1]` for a chain of URLs."""
    fsspec = importlib.import_module("fsspec")  # what the caller has, checked above
    system = fsspec.filesystem(url.partition(":")[0], **{"asynchronous": True, **options})
    store: MutableMapping[str, bytes] = fsspec.FSMap(url, system)
    return store


def savable(opened: xr.Dataset) -> xr.Dataset:
    """The same dataset without what describes its store alone: any part of it can be saved in any format.

    `GeoTransform` goes as well: slicing does not change it, and GDAL prefers it to the coordinates, so every
    saved part would lie at the corner of the collection. Each axis has its step as `resolution` instead.
    """
    opened.attrs = {
        name: value for name, value in opened.attrs.items() if not _OF_THE_STORE.fullmatch(str(name))
    }
    for variable in opened.variables.values():
        encoding = {name: value for name, value in variable.encoding.items() if name in _CF_ENCODING}
        if "dtype" in encoding:
            # Zarr's says its byte order, of which netCDF4 warns.
            encoding["dtype"] = np.dtype(encoding["dtype"]).newbyteorder("=")
        variable.encoding = encoding
    steps = str(opened.coords["spatial_ref"].attrs.pop("GeoTransform", "")).split()
    if len(steps) == _GDAL_NUMBERS:
        for name, step in (("x", steps[1]), ("y", steps[5])):
            opened[name].attrs["resolution"] = float(step)
    return opened
