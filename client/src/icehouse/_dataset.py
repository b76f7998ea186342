"""From decoded arrays to the `xarray.Dataset` that the caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icehouse._wire import WireArray, WireGroup

_SPATIAL_REF = "spatial_ref"
_FLOATS = frozenset({"NaN", "Infinity", "-Infinity"})


def build(group: WireGroup) -> xr.Dataset:
    """Make a dataset over the arrays, without copying the bands.

    Coordinates are the arrays named like a dimension, and `spatial_ref`. Times are decoded by the CF rules.
    Bands keep their dtype and are not masked: `nodata` stands in their attributes.
    """
    dims = {dim for array in group.arrays.values() for dim in array.dims}
    variables = {name: variable(array) for name, array in group.arrays.items()}
    coords = {
        name: _decoded(name, value) if _is_time(value.attrs) else value
        for name, value in variables.items()
        if name in dims or name == _SPATIAL_REF
    }
    bands = {name: value for name, value in variables.items() if name not in coords}
    return xr.Dataset(bands, coords=coords, attrs=group.attrs)


def variable(array: WireArray) -> xr.Variable:
    """One array as a variable.

    `grid_mapping` goes to the encoding, where odc-geo, rioxarray and `decode_coords="all"` put it.
    `_FillValue` is dropped: in the encoding it would say that the pixels are masked, and they are not.
    """
    attrs = {name: value for name, value in array.attrs.items() if name != "_FillValue"}
    encoding = {"grid_mapping": attrs.pop("grid_mapping")} if "grid_mapping" in attrs else {}
    if isinstance(attrs.get("nodata"), str) and attrs["nodata"] in _FLOATS:
        attrs["nodata"] = float(attrs["nodata"])  # JSON has no literal for these
    result = xr.Variable(array.dims, array.data, attrs)
    result.encoding = encoding
    return result


def _is_time(attrs: Mapping[Any, Any]) -> bool:
    units = attrs.get("units")
    return isinstance(units, str) and " since " in units


def _decoded(name: str, value: xr.Variable) -> xr.Variable:
    decoded = xr.decode_cf(xr.Dataset(coords={name: value}), mask_and_scale=False)
    return decoded.variables[name]
