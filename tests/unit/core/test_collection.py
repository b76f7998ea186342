"""What a collection may be, and the tree of errors."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.core import errors, ports
from icehouse_server.core.collection import DTYPES, RESERVED_NAMES, BandSpec, CollectionSpec
from icehouse_server.core.errors import FailedChunk, UnknownBandError
from icehouse_server.testing.fakes import tiny_spec


def band(name="dem", dtype="float32", nodata=None, **more):
    return BandSpec(name=name, dtype=np.dtype(dtype), nodata=nodata, **more)


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a/b", "a.b", "../x", "a b", "ä", "dem\n", "x" * 65])
def test_a_bands_name_is_an_identifier(name):
    with pytest.raises(ValueError, match="name"):
        band(name)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_names_of_coordinates_are_reserved(name):
    with pytest.raises(ValueError, match=name):
        band(name)


@pytest.mark.parametrize("dtype", ["complex64", "bool", "S3", "datetime64[s]", "O"])
def test_other_data_types_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype"):
        band(dtype=dtype)


@pytest.mark.parametrize("dtype", [">f4", ">i2"])
def test_a_foreign_byte_order_is_refused(dtype):
    """Sources give native arrays; a band of another order would refuse every block."""
    with pytest.raises(ValueError, match="byte order"):
        band(dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", -1),
        ("uint8", 256),
        ("uint8", 0.5),
        ("int16", 32768),
        ("uint32", -1),
        ("int32", math.nan),
        ("int8", math.inf),
        ("uint8", -math.inf),
        ("float32", 1e300),
        ("float32", -1e39),
    ],
)
def test_nodata_that_the_dtype_can_not_hold_is_refused(dtype, nodata):
    with pytest.raises(ValueError, match="nodata"):
        band(dtype=dtype, nodata=nodata)


@given(st.sampled_from(DTYPES), st.data())
def test_nodata_that_the_dtype_can_hold_is_the_fill(dtype, data):
    if np.dtype(dtype).kind == "f":
        nodata = data.draw(st.floats(width=np.dtype(dtype).itemsize * 8))
    else:
        info = np.iinfo(dtype)
        nodata = data.draw(st.integers(int(info.min), int(info.max)))
    fill = band(dtype=dtype, nodata=nodata).fill
    assert fill.dtype == np.dtype(dtype)
    assert fill == nodata or (math.isnan(fill) and math.isnan(nodata))


def test_floats_without_nodata_hold_nan_where_invalid():
    """0 is a height like others; so it is for integers, which have nothing else."""
    for dtype in DTYPES:
        fill = band(dtype=dtype).fill
        assert np.isnan(fill) if fill.dtype.kind == "f" else fill == 0


def test_resampling_is_one_of_gdals():
    with pytest.raises(ValueError, match="nearly"):
        band(resampling="nearly")


@pytest.mark.parametrize(
    "name",
    ["", ".hidden", "..", "../up", "a/b", "a\\b", "A", "a b", "-a", "a\n", "a\0", "ä", "x" * 65, "/etc"],
)
def test_an_id_is_no_path(name):
    with pytest.raises(ValueError, match="id"):
        tiny_spec(name)


def test_bands_have_names_of_their_own_and_defaults_exist():
    spec = tiny_spec()
    for change in (
        {"bands": (band(), band())},
        {"bands": ()},
        {"default_bands": ("nope",)},
        {"default_bands": ()},
    ):
        with pytest.raises(ValueError, match="band"):
            dataclasses.replace(spec, **change)


def test_an_unknown_band_is_answered_with_the_known_ones():
    with pytest.raises(UnknownBandError) as caught:
        tiny_spec().select(["dem", "ndvi"])
    assert "ndvi" in caught.value.detail
    assert "mask" in caught.value.hint


def test_source_settings_of_a_band_are_immutable():
    options = {"asset": "dem"}
    made = band(source=options)
    options["asset"] = "other"
    assert made.source["asset"] == "dem"
    with pytest.raises(TypeError):
        made.source["asset"] = "other"


def test_ports_carry_frozen_values():
    values = [
        value
        for _, value in inspect.getmembers(ports, dataclasses.is_dataclass)
        if value.__module__ == ports.__name__
    ]
    assert len(values) >= 6
    assert all(value.__dataclass_params__.frozen for value in values)
    assert CollectionSpec.__dataclass_params__.frozen


def tree():
    found, todo = [], [errors.IcehouseError]
    while todo:
        found.append(todo.pop())
        todo += [kind for kind in found[-1].__subclasses__() if kind.__module__ == errors.__name__]
    return found


def make(kind):
    """An instance with every argument given."""
    values = {
        "parameter": "bbox",
        "detail": "it is wrong",
        "hint": "do it right",
        "limit": 1,
        "asked": 2,
        "setting": "max",
        "window": 60.0,
        "retry_after": 3.5,
        "item": "scene",
        "href": "https://example.org/a.tif",
        "failed": [FailedChunk(chunk="a/c/0/0", kind="source-timeout", detail="late")],
    }
    parameters = inspect.signature(kind).parameters
    return kind(**{name: values[name] for name in parameters})


def test_kinds_are_unique_and_every_class_has_its_own():
    kinds = [kind.kind for kind in tree()]
    assert len(kinds) == len(set(kinds)) >= 25
    assert all("kind" in vars(kind) for kind in tree())


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"]
)
def test_errors_survive_pickling(kind, through):
    """A class that can't be rebuilt on the other side of a process pool hides the error behind another."""
    error = make(kind)
    again = through(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.extensions() == error.extensions()


def test_chunks_failed_lists_100_and_tells_time_from_fault():
    late = [FailedChunk(chunk=f"a/c/0/{n}", kind="source-timeout", detail="late") for n in range(150)]
    error = errors.ChunksFailedError(late)
    assert error.timed_out
    assert error.extensions()["failed"] == 150
    assert len(error.extensions()["chunks"]) == 100
    bad = FailedChunk(chunk="a/c/1/1", kind="source-corrupt", detail="bad", item="scene")
    assert not errors.ChunksFailedError([*late, bad]).timed_out


def test_what_fails_for_good_is_not_to_be_tried_again():
    def failed(kind, hint=""):
        return errors.FailedChunk(chunk="dem/c/0/0", kind=kind, detail="no", hint=hint)

    refused, corrupt = failed("source-refused", "log in"), failed("source-corrupt")
    assert errors.ChunksFailedError([refused, corrupt]).hint.startswith("log in, or pass fail_on_error=false")
    assert "the same will fail again" in errors.ChunksFailedError([corrupt]).hint
    assert errors.ChunksFailedError([refused, corrupt]).extensions()["remedy"] == "log in"
    for passing in ("source-timeout", "source-unavailable", "shutting-down", "deadline-exceeded"):
        assert errors.ChunksFailedError([refused, failed(passing)]).remedy == "try again later"
