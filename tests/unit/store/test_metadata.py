"""The metadata documents that are written without zarr-python are those that it would write."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

from icehouse_server.core.collection import DTYPES
from icehouse_server.store.layout.codec import zarr_compressors
from icehouse_server.store.layout.metadata import array_document, dumped, group_document

FILLS = {"f": (0.0, -9999.0, 0.1, np.nan, np.inf, -np.inf), "i": (0, -1, 7), "u": (0, 1, 255)}


@pytest.mark.parametrize("dtype", [np.dtype(name) for name in DTYPES], ids=str)
def test_an_array_is_described_as_zarr_describes_it(dtype):
    for fill in FILLS[dtype.kind]:
        for shape, chunks, names in (
            ((7, 5), (4, 4), ("y", "x")),
            ((0, 7, 5), (1, 4, 4), ("time", "y", "x")),
        ):
            attributes = {"long_name": "größe", "nodata": "nan", "levels": [1, 2.5]}
            store = MemoryStore()
            zarr.create_array(
                store,
                shape=shape,
                chunks=chunks,
                dtype=dtype.name,
                fill_value=dtype.type(fill).item(),
                compressors=zarr_compressors(dtype),
                dimension_names=names,
                attributes=attributes,
            )
            made = array_document(
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                fill=dtype.type(fill),
                dimension_names=names,
                attributes=attributes,
            )
            assert json.loads(dumped(made)) == documents(store)["zarr.json"]


def test_a_scalar_is_read_by_zarr_as_its_fill_value():
    document = array_document(
        shape=(),
        chunks=(),
        dtype=np.dtype("int32"),
        fill=np.int32(3),
        dimension_names=(),
        attributes={"a": 1},
    )
    array = zarr.open_array(stored(document), mode="r")
    assert array[()] == 3
    assert dict(array.attrs) == {"a": 1}


def test_a_group_is_described_as_zarr_describes_it():
    store = MemoryStore()
    zarr.create_group(store, attributes={"Conventions": "CF-1.10", "shape": [1, 2]})
    made = group_document({"Conventions": "CF-1.10", "shape": [1, 2]})
    assert json.loads(dumped(made)) == documents(store)["zarr.json"]


def documents(store):
    return {key: json.loads(value.to_bytes()) for key, value in store._store_dict.items()}


def stored(document):
    return MemoryStore({"zarr.json": cpu.Buffer.from_bytes(dumped(document))})
