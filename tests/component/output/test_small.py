"""NumPy, PNG and CoverageJSON."""

import io
import json

import numpy as np
import pytest
from rasterio.io import MemoryFile

from icehouse_server.core.errors import TooLargeError
from icehouse_server.output import encode
from icehouse_server.output.coveragejson import encode_json
from icehouse_server.output.png import STRETCH, png_bytes, stretch_range
from icehouse_server.raster.validity import visible
from support.coverages import GEOBOXES, KINDS, POLAR, joined, make_band, make_coverage

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize("kind", KINDS)
def test_npy_is_the_pixels_by_band_row_and_column(kind):
    coverage = make_coverage([make_band(*kind)])
    encoded = encode(coverage, "npy")
    got = np.load(io.BytesIO(joined(encoded)), allow_pickle=False)
    assert got.shape == (1, *POLAR.shape)
    assert got.dtype == np.dtype(kind[0])
    np.testing.assert_array_equal(got[0], coverage.bands["dem"])
    assert np.shares_memory(np.frombuffer(encoded.parts[1], np.uint8), coverage.bands["dem"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", ["a", "abc"])
def test_png_by_strips_is_the_same_picture(kind, names, monkeypatch):
    coverage = make_coverage([make_band(*kind, name) for name in names])
    whole = joined(encode(coverage, "png"))
    monkeypatch.setattr("icehouse_server.output.png._STRIP", 300)
    np.testing.assert_array_equal(read_png(joined(encode(coverage, "png"))), read_png(whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["polar", "one", "row"])
def test_png_is_stretched_between_numpys_percentiles(kind, name):
    band = make_band(*kind)
    values = make_coverage([band], GEOBOXES[name]).bands["dem"]
    known = values[visible(values, band)].astype(np.float64)
    wanted = tuple(np.percentile(known, STRETCH)) if known.size else None
    assert stretch_range(values, band) == wanted


def test_npy_promotes_bands_to_a_dtype_that_holds_all():
    coverage = make_coverage([make_band("uint8", 0), make_band("int16", -1, "b")])
    got = np.load(io.BytesIO(joined(encode(coverage, "npy"))))
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got[0], coverage.bands["dem"])
    np.testing.assert_array_equal(got[1], coverage.bands["b"])


def read_png(content):
    with MemoryFile(content) as file, file.open() as dataset:
        assert dataset.driver == "PNG"
        return dataset.read()


@pytest.mark.parametrize("channels", [2, 4])
def test_png_is_what_gdal_reads(channels):
    samples = np.random.default_rng(0).integers(0, 256, size=(33, 21, channels)).astype(np.uint8)
    np.testing.assert_array_equal(read_png(png_bytes(samples)), samples.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_png_of_one_band_is_grey_and_transparent_where_invalid(kind):
    band = make_band(*kind)
    coverage = make_coverage([band])
    values = coverage.bands["dem"]
    grey, alpha = read_png(joined(encode(coverage, "png")))
    valid = np.isfinite(values) if band.nodata is None or np.isnan(band.nodata) else values != band.nodata
    np.testing.assert_array_equal(alpha, np.where(valid, 255, 0))
    low, high = np.percentile(values[valid].astype(float), [2, 98])
    assert (grey[valid & (values <= low)] == 0).all()
    assert (grey[valid & (values >= high)] == 255).all()
    order = np.argsort(values[valid], kind="stable")
    assert (np.diff(grey[valid][order].astype(int)) >= 0).all()


def test_png_of_three_bands_is_in_colour():
    bands = [make_band("uint8", 0, name) for name in "rgb"]
    red, _, _, alpha = read_png(joined(encode(make_coverage(bands), "png")))
    valid = np.logical_and.reduce([value != 0 for value in make_coverage(bands).bands.values()])
    np.testing.assert_array_equal(alpha == 255, valid)
    assert red.max() == 255


@pytest.mark.parametrize("value", [5.0, float("nan"), float("inf")])
def test_png_of_one_value_or_of_nothing(value):
    values = np.full(POLAR.shape, value, dtype="f4")
    coverage = make_coverage([make_band("float32", float("nan"))], arrays={"dem": values})
    grey, alpha = read_png(joined(encode(coverage, "png")))
    assert set(np.unique(alpha)) == ({255} if value == 5 else {0})
    assert set(np.unique(grey)) == ({127} if value == 5 else {0})


@pytest.mark.parametrize("name", [*GEOBOXES])
@pytest.mark.parametrize("kind", [("int16", -9999), ("float32", float("nan"))])
def test_json_is_a_coverage_with_null_where_invalid(name, kind):
    geobox = GEOBOXES[name]
    band = make_band(*kind, units="m")
    coverage = make_coverage([band], geobox)
    document = json.loads(joined(encode(coverage, "json")))
    ranged = document["ranges"]["dem"]
    assert ranged["shape"] == list(geobox.shape)
    flat = np.array([np.nan if value is None else value for value in ranged["values"]])
    values = coverage.bands["dem"].astype(float)
    wanted = np.where(values == -9999, np.nan, values) if kind[0] == "int16" else values
    np.testing.assert_array_equal(flat.reshape(geobox.shape), wanted)
    assert document["icehouse:transform"] == list(geobox.affine)[:6]
    axes = document["domain"]["axes"]
    if geobox.axis_aligned:
        rows, cols = (geobox.coordinates[dim].values for dim in geobox.dimensions)
        x = np.linspace(axes["x"]["start"], axes["x"]["stop"], axes["x"]["num"])
        y = np.linspace(axes["y"]["start"], axes["y"]["stop"], axes["y"]["num"])
        np.testing.assert_allclose(x, cols)
        np.testing.assert_allclose(y, rows)
    assert document["parameters"]["dem"]["unit"] == {"symbol": "m"}


def test_json_is_for_small_answers():
    coverage = make_coverage([make_band("uint8", 0)])
    with pytest.raises(TooLargeError) as caught:
        encode_json(coverage, max_values=100)
    assert (caught.value.limit, caught.value.asked) == (100, 37 * 53)
