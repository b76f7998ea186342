"""The wire format: a ZIP with stored entries that holds one Zarr v3 store, one chunk an array.

Any Zarr reader opens it (``zarr.storage.ZipStore``). A client that wants to be fast maps the chunks
straight into NumPy: entries are stored, not deflated, each chunk lies whole at a multiple of 64 bytes, and
metadata are consolidated in the first entry, ``zarr.json``. The same coverage is always the same bytes.
"""

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.cf_attributes import xarray_fill
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.plan import Region
from icehouse_server.output.cf_description import Description, Value, Variable, describe
from icehouse_server.output.encoded import Part
from icehouse_server.output.scratch import IN_MEMORY, Scratch
from icehouse_server.output.zipparts import stored_zip

type Json = Mapping[str, object]


def encode_zarr(coverage: Coverage, _: Scratch = IN_MEMORY) -> list[Part]:
    """Encode a coverage as a Zarr v3 store in a ZIP.

    Returns:
        The parts of the ZIP; pixels are views of the coverage's arrays, not copies.
    """
    return [*stored_zip(list(_entries(describe(coverage))))]


def zarr_memory(_: Region, __: Scratch) -> int:
    """Return bytes that ``encode_zarr`` takes in addition to the pixels: none to speak of."""
    return 0


def _entries(description: Description) -> Iterator[tuple[str, bytes | memoryview]]:
    arrays = {variable.name: array_metadata(variable) for variable in description.variables}
    yield "zarr.json", _dump(_group_metadata(description.attrs, arrays))
    for name, metadata in arrays.items():
        yield f"{name}/zarr.json", _dump(metadata)
    for variable in description.variables:
        key = "/".join([variable.name, "c", *("0" for _ in variable.dims)])
        yield key, little_endian(variable.values)


def little_endian(values: NDArray[np.generic]) -> memoryview:
    """Return an array's bytes, C order, little endian; a view where the array is so already."""
    stored = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    # Through uint8, as a memoryview of a byte-swapped array would not let itself be cast.
    return memoryview(stored.reshape(-1).view(np.uint8))


def _group_metadata(attrs: Mapping[str, Value], arrays: Mapping[str, Json]) -> Json:
    """Return a group with consolidated metadata as zarr-python writes them; no specification has them yet."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": _json_attrs(attrs),
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
    }


def array_metadata(variable: Variable) -> Json:
    """Return the ``zarr.json`` of an array that is one uncompressed chunk."""
    values = variable.values
    attrs = _json_attrs(variable.attrs)
    if variable.nodata is not None:
        attrs["_FillValue"] = xarray_fill(variable.nodata)
    many = values.dtype.itemsize > 1
    codec: Json = {"name": "bytes", "configuration": {"endian": "little"}} if many else {"name": "bytes"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(values.shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _number(0 if variable.nodata is None else variable.nodata.item()),
        "codecs": [codec],
        "attributes": attrs,
        "dimension_names": list(variable.dims),
        "storage_transformers": [],
    }


def _json_attrs(attrs: Mapping[str, Value]) -> dict[str, object]:
    return {
        name: _number(value) if isinstance(value, int | float) else value for name, value in attrs.items()
    }


def _number(value: object) -> object:
    """Return a number as Zarr v3 writes it: JSON has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _dump(document: Json) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
