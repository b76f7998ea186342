"""The wire format: what the real zarr library reads from a ZIP is what our decoder reads."""

from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import icehouse
from icehouse._dataset import build
from icehouse._wire import WireArray, WireGroup, decode

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64"]
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)


@st.composite
def stores(draw):
    rows, cols = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    times = draw(st.one_of(st.none(), st.integers(1, 3)))
    shape = (rows, cols) if times is None else (times, rows, cols)
    dims = ("y", "x") if times is None else ("time", "y", "x")
    arrays = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        data = draw(npst.arrays(draw(st.sampled_from(DTYPES)), shape))
        arrays[name] = (dims, data, draw(st.dictionaries(NAMES, st.integers(), max_size=2)))
    arrays["y"] = (("y",), np.arange(rows) * -0.1, {"units": "metre"})
    arrays["x"] = (("x",), np.arange(cols) / 3, {})
    arrays["spatial_ref"] = ((), np.int32(3413), {"crs_wkt": "WKT"})
    return arrays


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=stores(), align=st.sampled_from([0, 64]), attrs=st.dictionaries(NAMES, st.text()))
def test_our_decoder_and_zarr_agree(double, tmp_path_factory, arrays, align, attrs):
    body = double.encode_zip(arrays, attrs, align=align)
    group = decode(memoryview(bytearray(body)))
    assert group.attrs == attrs
    assert set(group.arrays) == set(arrays)
    path = tmp_path_factory.getbasetemp() / "oracle.zip"
    path.write_bytes(body)
    with zarr.storage.ZipStore(path, mode="r") as store:
        oracle = zarr.open_group(store, mode="r")
        for name, array in group.arrays.items():
            expected = oracle[name]
            np.testing.assert_array_equal(array.data, expected[...])
            assert array.data.dtype == expected.dtype
            assert array.data.dtype.isnative
            assert array.data.flags.writeable
            assert array.data.flags.aligned
            assert array.dims == expected.metadata.dimension_names
            assert array.attrs == dict(expected.attrs)
    ds = build(group)
    ordinary = xr.Dataset(
        {n: v[:3] for n, v in arrays.items() if len(v[0]) > 1},
        coords={n: v[:3] for n, v in arrays.items() if len(v[0]) < 2},
        attrs=attrs,
    )
    assert ds.identical(ordinary)


def test_aligned_arrays_are_views_and_others_are_copies(double):
    data = np.arange(4096, dtype="float64").reshape(64, 64)
    arrays = {"a": (("y", "x"), data, {})}
    body = np.frombuffer(bytearray(double.encode_zip(arrays)), np.uint8)
    array = decode(memoryview(body)).arrays["a"].data
    assert np.shares_memory(array, body)
    np.testing.assert_array_equal(array, data)
    for shift in range(8):
        shifted = bytearray(bytes(shift) + double.encode_zip(arrays))
        array = decode(memoryview(shifted)[shift:]).arrays["a"].data
        assert np.shares_memory(array, np.frombuffer(shifted, np.uint8)) is (shift == 0)
        np.testing.assert_array_equal(array, data)


def test_zip64_and_data_descriptors_are_read(double):
    arrays = {"a": (("y", "x"), np.arange(6, dtype="int16").reshape(2, 3), {})}

    class Unseekable(io.RawIOBase):  # makes zipfile write data descriptors
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    sink = Unseekable()
    with zipfile.ZipFile(io.BytesIO(double.encode_zip(arrays))) as old, zipfile.ZipFile(sink, "w") as new:
        for info in old.infolist():
            with new.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as entry:
                entry.write(old.read(info))
    np.testing.assert_array_equal(decode(memoryview(bytearray(sink.data))).arrays["a"].data, arrays["a"][1])


def _edited(body, edit):
    """The ZIP with its group metadata changed."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(sink, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "zarr.json":
                document = json.loads(data)
                edit(document["consolidated_metadata"]["metadata"]["a"], document)
                data = json.dumps(document).encode()
            new.writestr(info.filename, data)
    return sink.getvalue()


EDITS = {
    "codecs": lambda a, _g: a["codecs"].append({"name": "zstd"}),
    "8 bytes are not": lambda a, _g: (
        a.update(shape=[2, 5]),
        a["chunk_grid"]["configuration"].update(chunk_shape=[2, 5]),
    ),
    "expected one chunk": lambda a, _g: a.update(shape=[4, 4]),
    "named dimensions": lambda a, _g: a.update(dimension_names=None),
    "unknown data type": lambda a, _g: a.update(data_type="string"),
    "lacks b/c": lambda a, g: g["consolidated_metadata"]["metadata"].update(b=a),
    "KeyError": lambda a, _g: a.pop("shape"),
    "consolidated": lambda _a, g: g.pop("consolidated_metadata"),
    "has an unexpected format": lambda a, _g: a.update(shape="xx"),
}


@pytest.mark.parametrize(("message", "edit"), EDITS.items(), ids=EDITS.keys())
def test_other_stores_are_refused(double, message, edit):
    body = double.encode_zip({"a": (("y", "x"), np.zeros((2, 2), "int16"), {})})
    with pytest.raises(icehouse.ProtocolError, match=re.escape(message)):
        decode(memoryview(bytearray(_edited(body, edit))))


def test_damaged_zips_are_refused(double):
    good = double.encode_zip({"a": (("y", "x"), np.zeros((2, 2), "int16"), {})})
    squeezed = double.encode_zip({"a": (("y", "x"), np.zeros((9, 9)), {})}, compression=zipfile.ZIP_DEFLATED)
    cases = {
        "not a ZIP": b"",
        "a ZIP": b"<html>" * 100,
        "damaged": good[:-30],
        "lacks zarr.json": good.replace(b"zarr.json", b"zarr.jsun"),
        "compressed": squeezed,
        "CRC": good.replace(b'"zarr_format"', b'"zarr_farmot"', 1),
    }
    for message, body in cases.items():
        with pytest.raises(icehouse.ProtocolError, match=message):
            decode(memoryview(bytearray(body)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gets_past_as_another_error(double, data):
    body = bytearray(double.encode_zip({"a": (("y", "x"), np.zeros((2, 2), "int16"), {})}))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    try:
        decode(memoryview(body))
    except icehouse.ProtocolError as error:
        assert str(error)  # noqa: PT017 - that it is this error is the point


@pytest.mark.parametrize(
    "unit", ["days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"]
)
@pytest.mark.parametrize("since", ["1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00:00", "2001-02-03"])
def test_times_are_those_of_xarray(unit, since):
    attrs = {"units": f"{unit} since {since}", "calendar": "proleptic_gregorian", "axis": "T"}
    values = np.array([0, 1, 12_345])
    encoded = WireArray(dims=("time",), data=values, fill_value=0, attrs=attrs)
    ours = build(WireGroup(arrays={"time": encoded}, attrs={}))
    theirs = xr.decode_cf(xr.Dataset(coords={"time": ("time", values, attrs)}))
    assert ours.identical(theirs)
    assert ours.time.dtype == "datetime64[ns]"
    assert ours.time.encoding["units"] == attrs["units"]


def test_datetime64_and_named_floats(double):
    body = double.encode_zip(
        {"time": (("time",), np.array([1, 2]), {}), "a": (("time", "y"), np.zeros((2, 1)), {})}
    )

    def edit(array, group):
        array["attributes"]["nodata"] = "NaN"
        array["fill_value"] = "-Infinity"
        unit = {"unit": "s", "scale_factor": 1}
        time = group["consolidated_metadata"]["metadata"]["time"]
        time["data_type"] = {"name": "numpy.datetime64", "configuration": unit}

    group = decode(memoryview(bytearray(_edited(body, edit))))
    assert group.arrays["a"].fill_value == -np.inf
    ds = build(group)
    assert np.isnan(ds.a.attrs["nodata"])
    assert ds.time.values[1] == np.datetime64("1970-01-01T00:00:02")
