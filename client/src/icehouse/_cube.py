"""The whole collection as a lazy dataset, through xarray and the zarr that the user has."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import xarray as xr

from icehouse._errors import BadParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEEDED = ("zarr", "fsspec", "aiohttp")


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
    storage = {"storage_options": {"headers": dict(headers)}} if headers else {}
    chosen: dict[str, Any] = {"chunks": None, **storage, **options}
    opened: xr.Dataset = xr.open_zarr(url, group=str(level) if level else None, **chosen)
    return opened
