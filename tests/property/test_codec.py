"""Our chain of codecs against zarr's own, both ways."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.storage import MemoryStore

from icehouse_server.core.collection import DTYPES, BandSpec
from icehouse_server.store.layout.codec import decode, encode, zarr_compressors

SIDE = 32


def chunk_of(dtype, seed):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        values = rng.normal(size=(SIDE, SIDE)).astype(dtype)
        values[3, :3] = np.nan, -np.inf, -0.0
        return values
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (SIDE, SIDE), dtype=dtype, endpoint=True)


def array_in(store, dtype):
    return zarr.create_array(
        store,
        name="b",
        shape=(SIDE, SIDE),
        chunks=(SIDE, SIDE),
        dtype=dtype,
        fill_value=0,
        compressors=zarr_compressors(np.dtype(dtype)),
        config={"write_empty_chunks": True},
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_zarr_reads_what_we_write_and_we_read_what_zarr_writes(dtype, seed):
    values = chunk_of(dtype, seed) if seed else np.zeros((SIDE, SIDE), dtype)
    band = BandSpec(name="b", dtype=np.dtype(dtype), nodata=None)
    store = MemoryStore()
    array = array_in(store, dtype)
    array[...] = values
    stored = asyncio.run(store.get("b/c/0/0", default_buffer_prototype())).to_bytes()
    assert decode(stored, band, SIDE).tobytes() == values.tobytes()
    asyncio.run(store.set("b/c/0/0", cpu.Buffer.from_bytes(encode(values))))
    assert array[...].tobytes() == values.tobytes()
