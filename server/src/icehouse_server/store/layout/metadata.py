"""Zarr v3's metadata documents, as zarr-python writes them.

They are made here because its own functions take 2 ms an array, and a collection can have hundreds: creating
the repositories of the built-in collections took 2 s of processor time. ``tests/unit/store/test_metadata.py``
holds both against each other.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icehouse_server.store.layout.codec import zarr_compressors

DOCUMENT = "zarr.json"
"""Last part of a document's key."""

type Json = dict[str, Any]
"""A document, or a part of one. Any: it is JSON."""


def group_document(attributes: Mapping[str, Any]) -> Json:
    """Return the document of a group."""
    return {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}


def array_document(
    *,
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: np.dtype[np.generic],
    fill: np.generic,
    dimension_names: Sequence[str],
    attributes: Mapping[str, Any],
) -> Json:
    """Return the document of an array whose chunks are encoded as in ``store.codec``; a scalar's are not.

    Args:
        shape: of the array.
        chunks: shape of a chunk.
        dtype: of its values, of which the stored ones are little endian.
        fill: the value where there is no chunk, of the dtype.
        dimension_names: one for each dimension.
        attributes: of the array.
    """
    endian = {} if dtype.itemsize == 1 else {"configuration": {"endian": "little"}}
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill(fill.item()),
        "codecs": [
            {"name": "bytes", **endian},
            *([codec.to_dict() for codec in zarr_compressors(dtype)] if shape else []),
        ],
        "attributes": dict(attributes),
        "dimension_names": list(dimension_names),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _fill(value: float) -> float | str:
    """Return a fill value as JSON has it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"


def dumped(document: Json) -> bytes:
    """Return a document as it is stored."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
