import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from icehouse_server.core.errors import FailedChunk, NotAcceptableError
from icehouse_server.output import encode
from support.coverages import GEOBOXES, KINDS, joined, make_band, make_coverage


@pytest.fixture
def opened():
    files = []

    def opener(coverage):
        file = MemoryFile(joined(encode(coverage, "geotiff")))
        dataset = file.open()
        files.extend([dataset, file])
        return dataset

    yield opener
    for file in files:
        file.close()


@pytest.mark.parametrize("name", GEOBOXES)
def test_crs_and_transform(opened, name):
    geobox = GEOBOXES[name]
    coverage = make_coverage([make_band("float32", float("nan"))], geobox)
    dataset = opened(coverage)
    assert dataset.shape == geobox.shape
    np.testing.assert_allclose(list(dataset.transform)[:6], list(geobox.affine)[:6], rtol=1e-14, atol=1e-9)
    assert dataset.crs == CRS.from_user_input(geobox.crs.to_wkt())
    assert dataset.tags()["AREA_OR_POINT"] == "Area"
    np.testing.assert_array_equal(dataset.read(1), coverage.bands["dem"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_and_nodata(opened, kind):
    band = make_band(*kind)
    coverage = make_coverage([band])
    dataset = opened(coverage)
    assert dataset.dtypes == (band.dtype.name,)
    if abs(band.nodata or 0) > 2**53:  # rasterio writes doubles: another is taken, and the tag says so
        assert dataset.tags()["icehouse_nodata"] == f"dem={band.nodata}"
        invalid = coverage.bands["dem"] == band.fill
        np.testing.assert_array_equal(dataset.read_masks(1) == 0, invalid)
        np.testing.assert_array_equal(dataset.read(1)[~invalid], coverage.bands["dem"][~invalid])
        return
    np.testing.assert_equal(dataset.nodata, band.nodata)
    np.testing.assert_array_equal(dataset.read(1), coverage.bands["dem"])


def test_long_integers_next_to_others(opened):
    """Together where a dtype holds both, refused where none does: nothing is rounded."""
    long, short = make_band("int64", -1, "long"), make_band("int16", -1, "short")
    coverage = make_coverage([long, short])
    dataset = opened(coverage)
    assert dataset.dtypes == ("int64", "int64")
    np.testing.assert_array_equal(dataset.read(1), coverage.bands["long"])
    np.testing.assert_array_equal(dataset.read(2), coverage.bands["short"])
    with pytest.raises(NotAcceptableError, match=r"none holds 'long' \(int64\)"):
        opened(make_coverage([long, make_band("float32", -1.0, "height")]))


def test_what_it_says_of_itself(opened):
    bands = [make_band("float32", -9999.0, units="m", long_name="height"), make_band("float32", -9999.0, "b")]
    failed = (
        FailedChunk(chunk="dem/c/1/2", kind="x", detail=""),
        FailedChunk(chunk="b/c/1/2", kind="x", detail=""),
    )
    dataset = opened(make_coverage(bands, failed=failed))
    assert dataset.descriptions == ("dem", "b")
    assert dataset.units == ("m", None)
    tags = dataset.tags()
    assert tags["collection"] == "test-32m"
    assert tags["attribution"] == tags["TIFFTAG_COPYRIGHT"] == "The Øresund survey"
    assert tags["icehouse_snapshot"] == "SNAP1"
    assert tags["icehouse_failed_chunks"] == "dem/c/1/2, b/c/1/2"
    assert "icehouse_nodata" not in tags
    assert dataset.tags(1)["long_name"] == "height"
    assert dataset.scales == (1.0, 1.0)


@pytest.mark.parametrize("side", [100, 512, 513, 1000, 2100])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_is_cloud_optimised_with_overviews_down_to_one_tile(opened, side, resampling):
    geobox = GeoBox((side, side), Affine(32, 0, 0, 0, -32, 0), "EPSG:3413")
    values = np.arange(side * side, dtype="f4").reshape(side, side)
    band = make_band("float32", float("nan"), resampling=resampling)
    dataset = opened(make_coverage([band], geobox, arrays={"dem": values}))
    assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert dataset.compression.name == "deflate"
    factors = {100: [], 512: [], 513: [2], 1000: [2], 2100: [2, 4, 8]}[side]
    assert dataset.overviews(1) == factors
    if side == 1000:
        small = dataset.read(1, out_shape=(500, 500))
        average = values.reshape(500, 2, 500, 2).mean(axis=(1, 3))
        if resampling == "nearest":
            assert np.isin(small, values).all()
        else:
            np.testing.assert_allclose(small, average, rtol=1e-6)


def test_bands_of_two_dtypes_are_promoted_and_said_to_be(opened):
    bands = [
        make_band("int16", -9999),
        make_band("uint8", 0, "count"),
        make_band("float32", float("nan"), "mad"),
    ]
    coverage = make_coverage(bands)
    dataset = opened(coverage)
    assert set(dataset.dtypes) == {"float32"}
    assert dataset.tags()["icehouse_dtypes"] == "dem=int16, count=uint8, mad=float32"
    assert dataset.tags()["icehouse_nodata"] == "dem=-9999, count=0, mad=nan"
    for index, band in enumerate(bands, 1):
        own = coverage.bands[band.name]
        valid = np.isfinite(own) if band.dtype.kind == "f" else own != band.nodata
        np.testing.assert_array_equal(dataset.read_masks(index) == 255, valid)
        np.testing.assert_array_equal(dataset.read(index)[valid], own[valid])


def full(value, dtype):
    return np.full((20, 30), value, dtype)


def every_byte():
    return (np.arange(600) % 256).astype(np.uint8).reshape(20, 30)


@pytest.mark.parametrize(
    ("kinds", "arrays", "dtype"),
    [
        ((("uint8", 0), ("uint8", 255)), (full(7, "u1"), full(0, "u1")), "uint8"),
        ((("uint8", 0), ("uint8", None)), (full(0, "u1"), every_byte()), "int16"),
        ((("uint8", None), ("int8", None)), (every_byte(), every_byte().view("i1")), "int16"),
        ((("uint32", 4294967295), ("int32", -1)), (full(5, "u4"), full(-1, "i4")), "float64"),
        (
            (("float32", -9999.0), ("float32", float("nan"))),
            (full(np.nan, "f4"), full(-9999, "f4")),
            "float32",
        ),
        ((("float64", 1e300), ("float32", 0.1)), (full(0.1, "f8"), full(0.1, "f4")), "float64"),
    ],
)
def test_no_valid_pixel_becomes_nodata(opened, kinds, arrays, dtype):
    bands = [make_band(*kind, name=f"b{index}") for index, kind in enumerate(kinds)]
    given = {band.name: values for band, values in zip(bands, arrays, strict=True)}
    dataset = opened(make_coverage(bands, GEOBOXES["utm"], arrays=given))
    assert set(dataset.dtypes) == {dtype}
    for index, (band, values) in enumerate(zip(bands, arrays, strict=True), 1):
        read = dataset.read(index)
        if band.nodata is None:
            invalid = np.zeros(values.shape, dtype=bool)
        else:
            invalid = np.isnan(values) if np.isnan(band.nodata) else values == band.fill
        np.testing.assert_array_equal(read[~invalid], values[~invalid])
        if dataset.nodata is not None:
            same = np.isnan(read) if np.isnan(dataset.nodata) else read == dataset.nodata
            np.testing.assert_array_equal(same, invalid)
        else:
            assert not invalid.any()


def test_rioxarray_reads_it(tmp_path):
    path = tmp_path / "answer.tif"
    coverage = make_coverage([make_band("float32", -9999.0)])
    path.write_bytes(joined(encode(coverage, "geotiff")))
    with rioxarray.open_rasterio(path) as array:
        assert isinstance(array, xr.DataArray)
        assert array.rio.nodata == -9999
        assert array.rio.transform() == coverage.region.target.affine
        assert array.rio.crs == CRS.from_epsg(3413)


def test_nothing_stays_in_gdals_memory():
    before = set(rasterio.vsi_listdir("/vsimem/")) if hasattr(rasterio, "vsi_listdir") else None
    content = [joined(encode(make_coverage([make_band("uint8", 0)]), "geotiff")) for _ in range(2)]
    assert content[0] == content[1]
    if before is not None:
        assert set(rasterio.vsi_listdir("/vsimem/")) == before
