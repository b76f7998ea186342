"""The geobox of an xarray object, read from its coordinates and grid mapping."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from icehouse._errors import BadParameter
from icehouse._geobox import Affine6, GeoBox, as_geobox, crs_text

if TYPE_CHECKING:
    import xarray as xr

_DIMS = (("y", "x"), ("latitude", "longitude"), ("lat", "lon"), ("Y", "X"), ("northing", "easting"))
_TOLERANCE = 1e-3
"""Pixels by which a coordinate may be off the GeoTransform before the coordinate is taken instead."""


def geobox_like(like: xr.Dataset | xr.DataArray) -> GeoBox:
    """The pixel grid of an xarray object.

    The GeoTransform of its grid mapping gives the exact numbers; its coordinates show whether the object was
    cut since, which writers do not record in the GeoTransform. Where neither suffices, the `.odc` or `.rio`
    accessor is asked, if its package is loaded already.

    Raises:
        BadParameter: no CRS or no regular grid can be found.
    """
    if not (hasattr(like, "coords") and hasattr(like, "sizes")):
        raise BadParameter(f"like: expected an xarray object, got {type(like).__name__}")
    mapping = _grid_mapping(like)
    wkt = mapping.get("crs_wkt") or mapping.get("spatial_ref") or like.attrs.get("crs")
    dims = next(((y, x) for y, x in _DIMS if y in like.sizes and x in like.sizes), None)
    if wkt and dims:
        return _from_coordinates(like, mapping, str(wkt), dims)
    box = _from_accessors(like)
    if box is None:
        lacking = "spatial dimensions such as y, x" if wkt else "CRS (a grid mapping coordinate with crs_wkt)"
        raise BadParameter(f"like: found no {lacking} in the {type(like).__name__}")
    return box


def _from_coordinates(
    like: xr.Dataset | xr.DataArray, mapping: dict[str, Any], wkt: str, dims: tuple[str, str]
) -> GeoBox:
    ydim, xdim = dims
    transform = _transform(mapping, _axis(like, xdim), _axis(like, ydim))
    return GeoBox(crs=crs_text(wkt), transform=transform, shape=(like.sizes[ydim], like.sizes[xdim]))


def _grid_mapping(like: xr.Dataset | xr.DataArray) -> dict[str, Any]:
    """Attributes of the coordinate that describes the CRS, empty where there is none."""
    variables = [like.variable] if hasattr(like, "variable") else list(like.variables.values())
    named = [v.encoding.get("grid_mapping") or v.attrs.get("grid_mapping") for v in variables]
    scalars = [name for name, coord in like.coords.items() if coord.ndim == 0]
    for name in [*named, "spatial_ref", *scalars]:
        if isinstance(name, str) and name in like.coords:
            attrs = like.coords[name].attrs
            if "crs_wkt" in attrs or "spatial_ref" in attrs:
                return {str(key): value for key, value in attrs.items()}
    return {}


def _axis(like: xr.Dataset | xr.DataArray, dim: str) -> tuple[float, float, float | None] | None:
    """First value, mean step (None for a single pixel) and stated resolution; None without coordinate."""
    if dim not in like.coords:
        return None
    coord = like.coords[dim]
    values = np.asarray(coord.values, dtype=np.float64)
    stated = coord.attrs.get("resolution")
    first = float(values[0])
    if len(values) == 1:
        return first, float("nan"), None if stated is None else float(stated)
    step = float(values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or float(np.abs(np.diff(values) - step).max()) > abs(step) * 0.01:
        raise BadParameter(f"like: the coordinate {dim} is not evenly spaced")
    return first, step, step if stated is None else _exact_step(step, float(stated))


type _Axis = tuple[float, float, float | None] | None


def _transform(mapping: dict[str, Any], xaxis: _Axis, yaxis: _Axis) -> Affine6:
    noted = _geotransform(mapping)
    if xaxis is None or yaxis is None:
        if noted is None:
            raise BadParameter("like: there are neither x, y coordinates nor a GeoTransform")
        return noted
    if noted is None:
        return _from_axes(xaxis, yaxis, None)
    a, b, c, d, e, f = noted
    if b == 0 and d == 0:
        mine = _from_axes(xaxis, yaxis, noted)
        # Bits of a coordinate are rounded, those of the GeoTransform are what was asked for.
        return noted if _agree(noted, mine) else mine
    # Rotated: the coordinates count pixels of the noted grid, from 0.5.
    pa, _, pc, _, pe, pf = _from_axes(xaxis, yaxis, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    return (a * pa, b * pe, a * pc + b * pf + c, d * pa, e * pe, d * pc + e * pf + f)


def _from_axes(
    xaxis: tuple[float, float, float | None], yaxis: tuple[float, float, float | None], noted: Affine6 | None
) -> Affine6:
    (x0, _, dx), (y0, _, dy) = xaxis, yaxis
    if noted is not None:
        dx, dy = _exact_step(dx, noted[0]), _exact_step(dy, noted[4])
    if dx is None or dy is None:
        raise BadParameter("like: the size of a single pixel is unknown: there is no GeoTransform")
    return (dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)


def _exact_step(step: float | None, noted: float) -> float:
    # The noted step where the coordinates agree with it: theirs carries rounding.
    return noted if step is None or abs(step - noted) <= abs(noted) * _TOLERANCE * 1e-3 else step


def _agree(noted: Affine6, mine: Affine6) -> bool:
    return (
        noted[0] == mine[0]
        and noted[4] == mine[4]
        and abs(noted[2] - mine[2]) <= abs(noted[0]) * _TOLERANCE
        and abs(noted[5] - mine[5]) <= abs(noted[4]) * _TOLERANCE
    )


def _geotransform(mapping: dict[str, Any]) -> Affine6 | None:
    text = mapping.get("GeoTransform")
    if text is None:
        return None
    try:
        c, a, b, f, d, e = (float(part) for part in (text.split() if isinstance(text, str) else text))
    except (TypeError, ValueError):
        return None
    return (a, b, c, d, e, f)


def _from_accessors(like: xr.Dataset | xr.DataArray) -> GeoBox | None:
    if "odc.geo.xr" in sys.modules:
        box = like.odc.geobox
        if box is not None and box.crs is not None:
            return as_geobox(box)
    if "rioxarray" in sys.modules and like.rio.crs is not None:
        return as_geobox(like.rio)
    return None
