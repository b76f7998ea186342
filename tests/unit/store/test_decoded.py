"""The cache of decoded chunks, against a model."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.grid import ChunkKey
from icehouse_server.store.layout.codec import void_chunk
from icehouse_server.store.repository.decoded import DecodedCache, held_bytes

BAND = BandSpec(name="b", dtype=np.dtype("uint8"), nodata=0)


def key(number):
    return ChunkKey(collection="c", level=0, band="b", time=None, row=number, col=0)


def pixels(size):
    return np.zeros((1, size), np.uint8)


operation = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 9), st.integers(2, 3000)),
    st.tuples(st.just("get"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("drop"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("late put"), st.integers(0, 9), st.integers(2, 3000)),
)


@given(st.lists(operation, max_size=60), st.integers(0, 6000))
def test_least_recently_used_goes_first_and_bytes_are_bounded(operations, limit):
    cache, model = DecodedCache(limit), OrderedDict()
    for name, number, size in operations:
        if name == "put":
            values = pixels(size)
            cache.put(key(number), values, generation=cache.generation)
            if held_bytes(values) <= limit:
                model.pop(number, None)
                model[number] = values
                while sum(map(held_bytes, model.values())) > limit:
                    model.popitem(last=False)
        elif name == "get":
            found = cache.get(key(number))
            assert found is model.get(number)
            if found is not None:
                model.move_to_end(number)
        elif name == "drop":
            cache.drop((key(number),))
            model.pop(number, None)
        else:  # began to read before something was dropped
            begun = cache.generation
            cache.drop(())
            cache.put(key(number), pixels(size), generation=begun)
        assert cache.bytes == sum(map(held_bytes, model.values())) <= limit
        assert len(cache) == len(model)
    assert all(cache.get(key(number)) is values for number, values in model.items())


def test_hits_and_misses_are_counted():
    cache = DecodedCache(10_000)
    cache.put(key(1), pixels(5), generation=0)
    for number in (1, 1, 2):
        cache.get(key(number))
    assert (cache.hits, cache.misses) == (2, 1)


def test_void_chunks_are_nearly_free():
    cache = DecodedCache(1_000_000)
    for number in range(1000):
        cache.put(key(number), void_chunk(BAND, 512), generation=0)
    assert len(cache) == 1000
    assert held_bytes(void_chunk(BAND, 8192)) < 1000
    assert held_bytes(np.zeros((512, 512), np.uint8)) >= 512 * 512
    assert held_bytes(np.zeros((1, 1), np.uint8)) >= 1
