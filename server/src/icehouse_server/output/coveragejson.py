"""OGC CoverageJSON (OGC 21-069r2) for small answers: values that a page or a shell can read."""

import json

import numpy as np
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.plan import Region
from icehouse_server.core.ports import Stack
from icehouse_server.core.time import written
from icehouse_server.output.cf_description import dataset_attrs
from icehouse_server.output.encoded import Part
from icehouse_server.output.scratch import IN_MEMORY, Scratch
from icehouse_server.raster.crs import crs_of
from icehouse_server.raster.validity import visible

MAX_JSON_VALUES = 1_000_000
"""Values of one answer in JSON: about 10 MB, beyond which every other format serves better."""


_VALUE_BYTES = 96
"""Bytes that a value takes: the object, two lists that hold it, and its text twice."""


def encode_json(
    coverage: Coverage, _: Scratch = IN_MEMORY, *, max_values: int = MAX_JSON_VALUES
) -> list[Part]:
    """Encode a coverage as CoverageJSON, ``null`` where invalid.

    The axes are where each time step starts, if there is a time axis, and pixel centres, x and y, in the
    target's CRS. Where the geobox is rotated there are no such
    axes: they are then centres in pixels. ``icehouse:transform`` always holds the affine, in the order of
    ``proj:transform``.

    Returns:
        One part: the document.

    Raises:
        TooLargeError: it has more than ``max_values`` values.
    """
    rows, cols = coverage.region.shape
    values = rows * cols * len(coverage.region.band_steps)
    if values > max_values:
        raise TooLargeError(
            f"{values} values are too many for JSON, which gets at most {max_values}",
            limit=max_values,
            asked=values,
            hint="ask for less at a time, or for another format: all others hold more",
        )
    bands = coverage.region.bands
    document = {
        "type": "Coverage",
        "domain": _domain(coverage.region),
        "parameters": {band.name: _parameter(band) for band in bands},
        "ranges": {band.name: _range(band, coverage.bands[band.name]) for band in bands},
        "icehouse:transform": [float(number) for number in coverage.region.target.affine[:6]],
        "icehouse:attributes": dataset_attrs(coverage),
    }
    return [json.dumps(document, allow_nan=False, separators=(",", ":")).encode()]


def json_memory(region: Region, _: Scratch) -> int:
    """Return bytes that ``encode_json`` takes at most, in addition to the pixels: objects and text."""
    rows, cols = region.shape
    return min(MAX_JSON_VALUES, rows * cols * len(region.band_steps)) * _VALUE_BYTES


def _domain(region: Region) -> dict[str, object]:
    geobox = region.target
    affine = geobox.affine
    aligned = bool(geobox.axis_aligned)
    rows, cols = (int(size) for size in geobox.shape)
    system = (
        {"type": "GeographicCRS" if crs_of(geobox).geographic else "ProjectedCRS", **_crs_id(geobox)}
        if aligned
        else {"type": "IdentifierRS", "label": {"en": "pixels"}}
    )
    times = {} if region.times is None else {"t": {"values": [written(step.start) for step in region.steps]}}
    calendar = {"type": "TemporalRS", "calendar": "Gregorian"}
    return {
        "type": "Domain",
        "domainType": "Grid",
        "axes": {
            **times,
            "x": _axis(affine.c, affine.a, cols) if aligned else _axis(0.0, 1.0, cols),
            "y": _axis(affine.f, affine.e, rows) if aligned else _axis(0.0, 1.0, rows),
        },
        "referencing": [
            {"coordinates": ["x", "y"], "system": system},
            *([{"coordinates": ["t"], "system": calendar}] if times else []),
        ],
    }


def _crs_id(geobox: GeoBox) -> dict[str, str]:
    crs = crs_of(geobox)
    epsg = crs.epsg
    if epsg is None:
        return {"wkt": str(crs.to_wkt())}
    return {"id": f"http://www.opengis.net/def/crs/EPSG/0/{int(epsg)}"}


def _axis(edge: float, step: float, size: int) -> dict[str, float]:
    """Return a regular axis of pixel centres: first, last, number."""
    first = float(edge + step / 2)
    return {"start": first, "stop": first + float(step) * (size - 1), "num": size}


def _parameter(band: BandSpec) -> dict[str, object]:
    parameter: dict[str, object] = {
        "type": "Parameter",
        "observedProperty": {"label": {"en": band.long_name or band.name}},
    }
    if band.units:
        parameter["unit"] = {"symbol": band.units}
    return parameter


def _range(band: BandSpec, values: Stack) -> dict[str, object]:
    listed = values.astype(object)
    listed[~visible(values, band)] = None
    return {
        "type": "NdArray",
        "dataType": "float" if np.issubdtype(values.dtype, np.floating) else "integer",
        "axisNames": ["y", "x"] if values.ndim == 2 else ["t", "y", "x"],  # noqa: PLR2004
        "shape": list(values.shape),
        "values": listed.ravel().tolist(),
    }
