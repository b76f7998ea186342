"""Attributes that the repository and the formats write alike: CF-1.10, and what xarray reads in addition."""

import base64
import struct
from types import MappingProxyType

import numpy as np

from icehouse_server.core.collection import BandSpec

TIME_UNITS = MappingProxyType({"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"})
"""Of the time coordinate and of its bounds."""
TIME_ATTRIBUTES = MappingProxyType(
    {"standard_name": "time", "axis": "T", "bounds": "time_bnds"} | dict(TIME_UNITS)
)
"""Of the time coordinate, which is where each step starts (CF 4.4 and 7.1)."""


def scaling(band: BandSpec) -> dict[str, float]:
    """Return a band's attributes of scale and offset, where they say anything."""
    return {"scale_factor": band.scale, "add_offset": band.offset} if band.is_scaled else {}


def xarray_fill(fill: np.generic) -> str | int:
    """Return ``_FillValue`` as xarray writes it into Zarr v3 (``xarray.backends.zarr.FillValueCoder``)."""
    if fill.dtype.kind == "f":
        return base64.standard_b64encode(struct.pack("<d", float(fill.item()))).decode("ascii")
    return int(fill.item())
