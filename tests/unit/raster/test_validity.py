"""What nodata marks and which pixels are valid; rasterio says the same of files with such texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.core.collection import BandSpec
from icehouse_server.raster.validity import judge, marked_by, number_of
from support.odd_files.table import STRIPED, geotiff


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "text",
    ["-9999", "0", "1.5", "0.1", "1e-40", "-1e30", "-2e38", "-3.4e38", "-3.40282e+38",
     "3.4028234663852886e+38", "-1.797693e+308", "-1.7976931348623157e+308"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_floats_that_a_nodata_marks_are_gdals(dtype, text, tmp_path):
    """Six neighbours each way of the first and of the last that it marks."""
    kind = np.dtype(dtype)
    marked = marked_by(number_of(text), kind)
    near = {kind.type(0), kind.type(-9999), np.finfo(kind).min, np.finfo(kind).max}
    for end in (kind.type(marked.low), kind.type(marked.high)):
        for direction in (-np.inf, np.inf):
            value = end
            for _ in range(6):
                near.add(value)
                with np.errstate(over="ignore"):
                    value = np.nextafter(value, kind.type(direction))
    values = np.array([sorted(near)], dtype=kind)
    geotiff(values, nodata_text=text)(tmp_path / "a.tif", STRIPED)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(marked.under(values), dataset.read_masks(1) == 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-9999", -9999), (" -9999.0 ", -9999.0), ("-9999m", -9999), ("1e3", 1000.0), (".5", 0.5), ("+7", 7),
        ("9223372036854775807", 9223372036854775807), ("inf", math.inf), ("-1.#INF", -math.inf),
        ("", None), ("none", None), ("-", None),
    ],
)  # fmt: skip
def test_a_text_says_a_number_or_nothing(text, number):
    assert number_of(text) == number
    assert type(number_of(text)) is type(number)


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "1.#QNAN", "-1.#IND", "1.#SNAN"])
def test_nan_has_many_spellings(text):
    assert math.isnan(number_of(text))


@pytest.mark.parametrize(
    ("dtype", "number", "value"),
    [("uint8", 7.9, 7), ("int16", -0.5, 0), ("uint8", -0.5, None), ("uint8", 256, None),
     ("int8", math.nan, None), ("uint32", 4294967295, 4294967295), ("int32", None, None)],
)  # fmt: skip
def test_of_integers_one_value_is_marked_or_none(dtype, number, value):
    marked = marked_by(number, np.dtype(dtype))
    assert (None if marked is None else (marked.low, marked.high)) == (
        None if value is None else (value, value)
    )


@given(st.data())
def test_valid_is_shown_and_neither_nodata_nor_nan(data):
    numbers = st.sampled_from([0.0, 1.0, -9999.0, -1.0, math.nan, math.inf])
    values = np.array([data.draw(st.lists(numbers, min_size=4, max_size=4))], dtype="float32")
    shown = np.array([data.draw(st.lists(st.booleans(), min_size=4, max_size=4))])
    nodata = data.draw(st.sampled_from([None, 0.0, -1.0, math.nan]))
    band = BandSpec(name="b", dtype=np.dtype("float32"), nodata=-9999)
    valid, clashes = judge(values, shown, nodata, band)
    expected = shown & ~np.isnan(values) & ~(values == (np.nan if nodata is None else nodata))
    np.testing.assert_array_equal(valid, expected)
    assert clashes == (expected & (values == -9999)).sum()
