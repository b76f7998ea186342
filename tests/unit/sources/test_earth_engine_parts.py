"""The Earth Engine source's parts that need no server: cutting, layers, answers, tables, messages."""

from __future__ import annotations

import contextlib
import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from icehouse_server.collections.loader import parse_collection, read_collections
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import (
    ConfigurationError,
    SourceCorruptError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.core.grid import Grid, Window
from icehouse_server.sources.earthengine.error_translation import TooMuchError, explained
from icehouse_server.sources.earthengine.expression import pixel_grid
from icehouse_server.sources.earthengine.request_cutting import (
    MAX_BANDS,
    MAX_BYTES,
    MAX_SIDE,
    cut,
    pixel_rects,
)
from icehouse_server.sources.earthengine.settings import BandTable, parse_band, parse_source
from icehouse_server.sources.earthengine.value_bands import Canvas, Layout, band_batches, decode

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def covered(window, parts):
    """How often each pixel of a window is covered."""
    count = np.zeros((window.height, window.width), dtype=int)
    for part in parts:
        assert part.intersection(window) == part
        count[part.slices(window)] += 1
    return count


windows = st.builds(
    Window,
    row=st.integers(-50, 50),
    col=st.integers(-50, 50),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
)


@given(windows, st.integers(1, 3000), st.integers(1, 120))
def test_rectangles_cover_a_window_once_and_keep_the_limits(window, max_pixels, max_side):
    parts = cut(window, max_pixels=max_pixels, max_side=max_side)
    assert (covered(window, parts) == 1).all()
    assert all(part.pixels <= max_pixels and max(part.height, part.width) <= max_side for part in parts)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1024), st.sampled_from([2, 5, 9]))
def test_no_more_rectangles_than_needed(height, width, bands, pixel):
    """Of Earth Engine's limit: as many as the pixels need, or few more."""
    max_pixels = MAX_BYTES // (bands * pixel)
    parts = cut(Window(row=0, col=0, height=height, width=width), max_pixels=max_pixels)
    least = math.ceil(height * width / max_pixels)
    assert len(parts) <= max(least + 1, 1.2 * least)
    assert max(max(part.height, part.width) for part in parts) <= MAX_SIDE


@given(
    st.floats(0.01, 40), st.floats(-400, 400), st.floats(-100, 100), windows, st.sampled_from([4326, 4269])
)
def test_what_lies_beyond_180_is_asked_for_where_it_lies(step, west, north, window, code):
    """Each pixel once, at a longitude that exists; none beyond a pole."""
    grid = Grid(geobox=GeoBox((50, 50), Affine(step, 0, west, 0, -step, north), f"EPSG:{code}"), chunk=16)
    parts = list(pixel_rects(grid, window))
    affine = grid.geobox.affine
    count = covered(window, [part.window for part in parts]) if parts else np.zeros((window.height, 1))
    lat = affine.f + affine.e * (np.arange(window.row, window.stop_row) + 0.5)
    inside = np.abs(lat) <= 90
    tied = np.abs(np.abs(lat) - 90) < 1e-9
    assert ((count == inside[:, None]) | tied[:, None]).all()
    for part in parts:
        request = pixel_grid(grid, part)["affineTransform"]
        lon = request["translateX"] + step * (np.arange(part.window.width) + 0.5)
        assert (np.abs(lon) <= 180 + 1e-9).all()


def test_a_projected_grid_is_asked_for_as_it_is():
    grid = Grid(geobox=GeoBox((50, 50), Affine(10, 0, 500, 0, -10, 90), "EPSG:32633"), chunk=16)
    (place,) = pixel_rects(grid, Window(row=-3, col=7, height=20, width=30))
    assert pixel_grid(grid, place) == {
        "dimensions": {"width": 30, "height": 20},
        "affineTransform": {
            "scaleX": 10.0, "shearX": 0.0, "translateX": 570.0,
            "shearY": 0.0, "scaleY": -10.0, "translateY": 120.0,
        },
        "crsCode": "EPSG:32633",
    }  # fmt: skip


def test_a_grid_without_a_code_goes_by_wkt():
    crs = "+proj=laea +lat_0=77 +lon_0=33 +datum=WGS84 +units=m"
    grid = Grid(geobox=GeoBox((50, 50), Affine(10, 0, 500, 0, -10, 90), crs), chunk=16)
    (place,) = pixel_rects(grid, grid.window)
    asked = pixel_grid(grid, place)
    assert "crsCode" not in asked
    assert asked["crsWkt"].startswith("PROJCS[")


# Layers and answers


@st.composite
def bands(draw):
    dtypes = draw(st.lists(st.tuples(st.sampled_from(DTYPES), st.booleans()), min_size=1, max_size=20))
    return [
        BandSpec(name=f"b{n}", dtype=np.dtype(name), nodata=1 if has else None)
        for n, (name, has) in enumerate(dtypes)
    ]


@given(bands(), st.randoms(use_true_random=False))
def test_bands_come_back_out_of_their_layers(chosen, random):
    """Values and validity survive: with nodata by a sentinel, without one by a bit."""
    tables = {band.name: BandTable() for band in chosen}
    layout = Layout.of(chosen, tables)
    area = Window(row=3, col=4, height=5, width=7)
    numbers = np.random.default_rng(random.getrandbits(32))
    pixels = np.zeros((5, 7), dtype=layout.dtype)
    wanted = {}
    for n, layer in enumerate(layout.values):
        limits = (2, 100)
        values = numbers.integers(*limits, (5, 7)).astype(layer.dtype)
        valid = numbers.random((5, 7)) < 0.5
        wanted[layer.band] = values, valid
        pixels[f"v{n}"] = np.where(valid, values, layer.sentinel)
    for n, bit in enumerate(layout.bits):
        layer, place = divmod(n, 8)
        pixels[f"m{layer}"] |= (wanted[bit.band][1] << place).astype(np.uint8)
    canvas = Canvas.blank(layout, area)
    assert not any(canvas.band(band, tables[band.name]).valid.any() for band in chosen)
    canvas.put(area, npy(pixels))
    for band in chosen:
        found = canvas.band(band, tables[band.name])
        values, valid = wanted[band.name]
        assert found.values.dtype == band.dtype
        np.testing.assert_array_equal(found.valid, valid)
        np.testing.assert_array_equal(found.values[valid], values[valid])


def test_a_request_has_few_layers():
    """Four masks of TCTrend are one byte; AlphaEarth needs none."""
    for name, count, size in (("tctrend", 4, 4), ("alphaearth", 64, 256)):
        spec = read_collections(None)[name]
        layout = Layout.of(spec.bands, {band.name: parse_band(spec, band) for band in spec.bands})
        assert (len(layout.names), layout.dtype.itemsize) == (count, size)
    assert layout.max_pixels >= spec.grid.chunk**2  # all of AlphaEarth in one request


def test_more_bands_than_a_request_may_have():
    many = [BandSpec(name=f"b{n}", dtype=np.dtype("uint8"), nodata=None) for n in range(3000)]
    tables = {band.name: BandTable() for band in many}
    batches = band_batches(many, tables)
    assert [band for batch in batches for band in batch] == many
    assert all(len(Layout.of(batch, tables).names) <= MAX_BANDS for batch in batches)


def npy(pixels):
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


LAYOUT = Layout.of([BandSpec(name="a", dtype=np.dtype("int16"), nodata=-1)], {"a": BandTable()})
GOOD = np.zeros((4, 5), dtype=[("v0", "<i2")])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", SourceUnavailableError),
        (b"<html>no</html>", SourceUnavailableError),
        (npy(GOOD)[:-1], SourceUnavailableError),
        (npy(GOOD) + b"\0", SourceUnavailableError),
        (npy(GOOD)[:20], SourceCorruptError),
        (b"\x93NUMPY\x07\x00" + npy(GOOD)[8:], SourceCorruptError),
        (npy(GOOD[:3]), SourceCorruptError),
        (npy(GOOD.T), SourceCorruptError),
        (npy(np.asfortranarray(GOOD)), SourceCorruptError),
        (npy(GOOD.astype([("v0", "<i4")])), SourceCorruptError),
        (npy(GOOD.astype([("v0", ">i2")])), SourceCorruptError),
        (npy(GOOD.astype([("B4", "<i2")])), SourceCorruptError),
        (npy(np.zeros((4, 5), dtype=[("v0", "<i2"), ("v1", "u1")])), SourceCorruptError),
        (npy(np.zeros((4, 5), dtype="<i2")), SourceCorruptError),
        (npy(GOOD).replace(b"(4, 5)", b"(4,1e"), SourceCorruptError),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for(answer, error):
    with pytest.raises(error):
        decode(answer, LAYOUT, (4, 5))


@given(st.binary(max_size=300) | st.binary(max_size=120).map(lambda tail: npy(GOOD)[:8] + tail))
def test_any_answer_is_pixels_or_a_named_error(answer):
    with contextlib.suppress(SourceUnavailableError, SourceCorruptError):
        decode(answer, LAYOUT, (4, 5))


def test_infinity_and_nan_are_no_values():
    band = BandSpec(name="a", dtype=np.dtype("float32"), nodata=math.nan)
    layout = Layout.of([band], {"a": BandTable()})
    area = Window(row=0, col=0, height=1, width=4)
    canvas = Canvas.blank(layout, area)
    sentinel = layout.values[0].sentinel
    canvas.put(area, npy(np.array([[(1.5,), (np.inf,), (np.nan,), (sentinel,)]], dtype=layout.dtype)))
    assert canvas.band(band, BandTable()).valid.tolist() == [[True, False, False, False]]


# What went wrong


class EEException(Exception):  # noqa: N818 - named as Earth Engine's library does
    pass


def raised(text, status=0, **headers):
    """An exception as the library raises it: the status is in its context."""
    try:
        try:
            error = ValueError("HttpError")
            error.resp = type("Response", (dict,), {"status": status})(headers)
            raise error
        except ValueError:
            raise EEException(text)  # noqa: B904 - that is how the library does it
    except EEException as found:
        if not status:
            found.__context__ = None
        return found


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (raised("User memory limit exceeded.", 400), TooMuchError, "memory"),
        (raised("Computation timed out.", 400), TooMuchError, "timed out"),
        (raised("Total request size (56623104 bytes) must be less than ...", 400), TooMuchError, "size"),
        (raised("anything", 413), TooMuchError, ""),
        (raised("Too Many Requests: concurrency limit", 429), SourceUnavailableError, "429"),
        (raised("Quota exceeded for quota metric 'x'", 403), SourceUnavailableError, "Quota"),
        (raised("An internal error has occurred", 400), SourceUnavailableError, "internal"),
        (raised("Ok", 503), SourceUnavailableError, "503"),
        (raised("Image.load: Image asset 'a/b' not found (...)", 400), SourceRefusedError, "no asset 'a/b'"),
        (raised("Permission denied on resource 'a/b'", 403), SourceRefusedError, "no asset 'a/b'"),
        (raised("Caller lacks permission to use project x", 403), SourceRefusedError, "project"),
        (raised("Login required", 401), SourceRefusedError, "credentials"),
        (raised("Please authorize access to your account"), SourceRefusedError, "credentials"),
        (raised("ee.Initialize: no project found. Call with project="), SourceRefusedError, "project"),
        (raised("Image.select: Band pattern 'B9' did not match", 400), SourceRefusedError, "B9"),
        (ConnectionError("reset"), SourceUnavailableError, "broke off"),
        (TimeoutError(), SourceTimeoutError, "in time"),
        (ValueError("no JSON"), SourceUnavailableError, "ValueError"),
    ],
)
def test_errors_are_told_apart(error, kind, says):
    found = explained(error, "a/b")
    assert type(found) is kind
    assert says in str(found)


def test_retry_after_is_kept():
    assert explained(raised("busy", 429, **{"retry-after": "12"}), "").retry_after == 12


def test_long_messages_are_cut():
    assert len(str(explained(raised("x" * 10_000, 400), "a"))) < 500


def test_the_libraries_own_http_error_is_understood():
    class HttpError(Exception):
        resp = SimpleNamespace(status=500, get=lambda _: None)
        reason = "backend error"

    assert isinstance(explained(HttpError("long text"), ""), SourceUnavailableError)


# Tables

FILE = """
id = "x"
title = "X"
[grid]
crs = "EPSG:4326"
resolution = 0.5
bounds = [0, 0, 10, 10]
[extent]
bbox = [0, 0, 10, 10]
[source]
type = "earthengine"
SOURCE
[[bands]]
name = "B4"
dtype = "uint8"
BAND
"""
COLLECTION = 'collection = "a/b"\ncomposite = "mosaic"'


def parsed(source=COLLECTION, band=""):
    spec = parse_collection(FILE.replace("SOURCE", source).replace("BAND", band), "x.toml")
    return parse_source(spec), [parse_band(spec, one) for one in spec.bands]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "either image"),
        (f'{COLLECTION}\nimage = "c"', "either image"),
        ('collection = "a/b"', "'composite' is missing"),
        ('image = "a/b"\ncomposite = "median"', "leave them out"),
        ('collection = "a/b"\ncomposite = "average"', "composite"),
        (f"{COLLECTION}\nfill_hole = 3", "unknown key 'fill_hole'"),
        (f"{COLLECTION}\nfill_holes = 1000", "fill_holes"),
        (f"{COLLECTION}\nfilter = {{ CLOUDS = {{ below = 3 }} }}", "lt, lte"),
        (f"{COLLECTION}\nfilter = {{ CLOUDS = [] }}", "a list holds"),
        (f"{COLLECTION}\nfilter = {{ CLOUDS = true }}", "a text, a number"),
        (f'{COLLECTION}\noperations = [{{ op = "blur" }}]', "'select', 'cast', 'scale', 'mask'"),
        (f'{COLLECTION}\noperations = [{{ op = "mask", band = "SCL" }}]', "give one of drop"),
        (f'{COLLECTION}\noperations = [{{ op = "cast", dtype = "byte" }}]', "'byte' is not one of"),
        (f'{COLLECTION}\noperations = [{{ op = "select", bands = ["a"], rename = [] }}]', "rename"),
        ('image = "a b"', "image"),
        ('image = "a"\n', None),
        (f"{COLLECTION}\nfilter = {{ A = 1, B = 'x', C = [1, 2], D = {{ gt = 1, lte = 9 }} }}", None),
    ],
)
def test_source_tables(source, says):
    if says is None:
        parsed(source)
        return
    with pytest.raises(ConfigurationError, match=r"collection 'x': \[source\]") as caught:
        parsed(source)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("band", "says"),
    [
        ('nodata = 0\n[bands.source]\nmask_of = "B4"\nband = "B4"', "either band or mask_of"),
        ('[bands.source]\nmask_of = "B4"', "nodata = 0"),
        ('[bands.source]\nband = "B.*"', "band"),
        ('[bands.source]\nasset = "B4"', "unknown key 'asset'"),
    ],
)
def test_band_tables(band, says):
    with pytest.raises(ConfigurationError, match=r"\[bands.source\] of band 'B4'") as caught:
        parsed(band=band)
    assert says in str(caught.value)
