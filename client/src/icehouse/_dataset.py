"""From decoded arrays to the `xarray.Dataset` that the caller gets.

The ordinary constructors of xarray 2026 look for dask arrays, and import dask (0.5 s) where it is installed.
What is built here goes around that: a worker that only reads pixels never pays for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped] # a requirement of xarray
import xarray as xr
from xarray.indexes import PandasIndex

if TYPE_CHECKING:
    from icehouse._wire import WireArray, WireGroup

_SPATIAL_REF = "spatial_ref"
_FLOATS = frozenset({"NaN", "Infinity", "-Infinity"})
_SINCE_1970 = re.compile(
    r"^(days|hours|minutes|seconds|milliseconds|microseconds|nanoseconds) since "
    r"1970-01-01(?:[T ]00:00(?::00(?:\.0+)?)?)?$"
)
_UNITS = {
    "days": "D",
    "hours": "h",
    "minutes": "m",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
}


def build(group: WireGroup) -> xr.Dataset:
    """Make a dataset over the arrays, without copying the bands.

    Coordinates are the arrays named like a dimension, their bounds, and `spatial_ref`. Times are decoded by
    the CF rules.
    Bands keep their dtype and are not masked: `nodata` is in their attributes.
    """
    dims = {dim for array in group.arrays.values() for dim in array.dims}
    bounds = bounds_in(group)
    bands: dict[str, xr.Variable] = {}
    coords: dict[str, xr.Variable] = {}
    indexes: dict[str, xr.Index] = {}
    for name, array in group.arrays.items():
        if name in dims and array.dims == (name,):
            indexes[name], coords[name] = _axis(name, array)
        elif name in bounds:
            coords[name] = _decoded(name, variable(array))
        elif name == _SPATIAL_REF:
            coords[name] = variable(array)
        else:
            bands[name] = variable(array)
    return xr.Dataset(bands, coords=xr.Coordinates(coords, indexes=indexes), attrs=group.attrs)


def bounds_in(group: WireGroup) -> set[str]:
    """Names of the arrays that are bounds of a coordinate (CF 1.10, 7.1)."""
    return {str(array.attrs["bounds"]) for array in group.arrays.values() if "bounds" in array.attrs}


def variable(array: WireArray) -> xr.Variable:
    """One array as a variable.

    `grid_mapping` goes to the encoding, where odc-geo, rioxarray and `decode_coords="all"` put it.
    `_FillValue` is dropped: in the encoding it would say that the pixels are masked, and they are not.
    """
    attrs = {name: value for name, value in array.attrs.items() if name != "_FillValue"}
    encoding = {"grid_mapping": attrs.pop("grid_mapping")} if "grid_mapping" in attrs else None
    nodata = attrs.get("nodata")
    if isinstance(nodata, str) and nodata in _FLOATS:
        attrs["nodata"] = float(nodata)  # JSON has no literal for these
    return xr.Variable(array.dims, array.data, attrs, encoding, fastpath=True)


def _axis(name: str, array: WireArray) -> tuple[PandasIndex, xr.Variable]:
    """The index of a 1-D coordinate and its variable."""
    source = _decoded(name, variable(array))
    # `.values`, because xarray's own `.to_numpy()` imports dask.
    index = PandasIndex(pd.Index(source.values), name)
    made = index.create_variables()[name]
    made.attrs, made.encoding = source.attrs, source.encoding
    return index, made


def _decoded(name: str, encoded: xr.Variable) -> xr.Variable:
    """The same, as times where it holds times."""
    units = encoded.attrs.get("units")
    return _decoded_time(name, encoded) if isinstance(units, str) and " since " in units else encoded


def _decoded_time(name: str, encoded: xr.Variable) -> xr.Variable:
    attrs: dict[Any, Any] = dict(encoded.attrs)
    match = _SINCE_1970.match(attrs["units"])
    standard = attrs.get("calendar", "standard") in {"standard", "gregorian", "proleptic_gregorian"}
    if not (match and standard and encoded.dtype.kind == "i"):
        decoded = xr.decode_cf(xr.Dataset(coords={name: encoded}), mask_and_scale=False)
        return decoded.variables[name]
    values = np.asarray(encoded.values)
    moments = values.astype(f"datetime64[{_UNITS[match[1]]}]").astype("datetime64[ns]")
    encoding = {"units": attrs.pop("units"), "dtype": encoded.dtype}
    if "calendar" in attrs:
        encoding["calendar"] = attrs.pop("calendar")
    return xr.Variable(encoded.dims, moments, attrs, encoding, fastpath=True)
