"""Rules that make one layer of many, and the bound on what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from icehouse_server.core.collection import BandSpec
from icehouse_server.sources.http.urls import expiry_of
from icehouse_server.sources.raster.reducers import fitted, reducer

DTYPES = ("uint8", "int16", "uint16", "int32", "float32")
NUMPY = {"min": np.ma.min, "max": np.ma.max, "mean": np.ma.mean, "median": np.ma.median}


def band(dtype, nodata=None):
    return BandSpec(name="b", dtype=np.dtype(dtype), nodata=nodata)


def made(rule, spec, values, valid):
    reduce = reducer(rule, spec, values.shape[1:], len(values))
    counts = [reduce.add(*layer) for layer in zip(values, valid, strict=True)]
    return reduce.result(), counts


@st.composite
def layers(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = (draw(st.integers(1, 6)), 2, 3)
    numbers = st.integers(-100, 100) if dtype[0] != "u" else st.integers(0, 200)
    values = draw(hnp.arrays(np.int64, shape, elements=numbers)).astype(dtype)
    return values, draw(hnp.arrays(np.bool_, shape))


@given(layers(), st.sampled_from(sorted(NUMPY)))
def test_rules_are_those_of_numpy(drawn, rule):
    values, valid = drawn
    found, counts = made(rule, band(values.dtype), values, valid)
    truth = NUMPY[rule](np.ma.masked_array(values.astype(np.float64), ~valid), axis=0).filled(0)
    truth = truth.astype(np.float32) if values.dtype.kind == "f" else np.rint(truth)
    np.testing.assert_array_equal(found.valid, valid.any(axis=0))
    assert found.values.dtype == values.dtype
    np.testing.assert_array_equal(found.values[found.valid], truth[found.valid])
    assert counts == [bool(layer.any()) for layer in valid]


@given(layers())
def test_the_first_valid_layer_wins(drawn):
    values, valid = drawn
    found, _ = made("first", band(values.dtype), values, valid)
    truth = np.take_along_axis(values, valid.argmax(axis=0)[None], axis=0)[0]
    np.testing.assert_array_equal(found.valid, valid.any(axis=0))
    np.testing.assert_array_equal(found.values[found.valid], truth[found.valid])


def test_the_largest_value_of_a_type_is_a_value_like_others():
    """The stack is filled up with it; what counts is given by counts."""
    values = np.array([[[255]], [[255]], [[9]], [[0]]], dtype=np.uint8)
    valid = np.array([[[True]], [[True]], [[True]], [[False]]])
    assert made("median", band("uint8"), values, valid)[0].values == 255


@pytest.mark.parametrize(
    ("dtype", "nodata", "number", "value"),
    [
        ("uint16", 0, 2.5, 2),
        ("uint16", 0, 3.5, 4),
        ("uint16", 0, 0.2, 1),
        ("uint16", 0, -900.0, 1),
        ("uint16", 65535, 1e9, 65534),
        ("int16", -1, -1.0, 0),
        ("float32", -9999.0, -9999.0, np.nextafter(np.float32(-9999), np.float32(0))),
    ],
)
def test_numbers_become_values(dtype, nodata, number, value):
    """Half to even, held to the range, and never nodata where valid."""
    block = fitted(np.array([[number, 7.0]]), np.array([[True, False]]), band(dtype, nodata))
    assert block.values[0, 0] == value
    assert block.values[0, 1] == nodata


@pytest.mark.parametrize(
    ("query", "end"),
    [
        ("X-Amz-Date=20240101T000000Z&X-Amz-Expires=60&X-Amz-Signature=a", 1704067260),
        ("X-Goog-Date=20240101T000000Z&X-Goog-Expires=60", 1704067260),
        ("se=2024-01-01T00%3A00%3A00Z&sig=a%3D", 1704067200),
        ("Expires=1704067200&Signature=a", 1704067200),
        ("Expires=1704067200", None),
        ("X-Amz-Expires=60", None),
        ("se=soon&sig=a", None),
        ("", None),
    ],
)
def test_when_a_signed_link_ends(query, end):
    assert expiry_of(f"https://a.org/b.tif?{query}") == end


def test_a_link_that_is_none_has_no_end():
    assert expiry_of("http://[::1?se=2024-01-01&sig=a") is None
