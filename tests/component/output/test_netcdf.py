import io

import netCDF4
import numpy as np
import odc.geo.xr
import pytest
import rasterio
import xarray as xr
from rasterio.crs import CRS

from icehouse_server.core.errors import FailedChunk, NotAcceptableError
from icehouse_server.output import encode
from icehouse_server.output.netcdf import encode_netcdf
from support.coverages import GEOBOXES, KINDS, joined, make_band, make_coverage

assert odc.geo.xr  # registers the accessor

ENGINES = ["netcdf4", "h5netcdf"]


@pytest.fixture
def written(tmp_path):
    def writer(coverage):
        path = tmp_path / "answer.nc"
        path.write_bytes(joined(encode(coverage, "netcdf")))
        return path

    return writer


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", GEOBOXES)
def test_the_geobox_comes_back_exactly(written, name, engine):
    geobox = GEOBOXES[name]
    coverage = make_coverage([make_band("float32", float("nan"))], geobox)
    with xr.open_dataset(written(coverage), engine=engine) as dataset:
        got = dataset["dem"].odc.geobox
        assert (got.affine, got.shape, got.crs) == (geobox.affine, geobox.shape, geobox.crs)
        assert set(dataset.data_vars) == {"dem"}
        np.testing.assert_array_equal(dataset["dem"].values, coverage.bands["dem"])


def test_half_floats_are_refused_with_what_holds_them(written):
    with pytest.raises(NotAcceptableError, match="netcdf holds no float16") as caught:
        written(make_coverage([make_band("float16", -1.0)]))
    assert caught.value.hint == "ask for another format: geotiff, zarr, npy, png, json"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] != "float16"])
def test_every_dtype_and_nodata(written, kind, engine):
    band = make_band(*kind)
    coverage = make_coverage([band])
    path = written(coverage)
    with xr.open_dataset(path, engine=engine, mask_and_scale=False) as dataset:
        assert dataset["dem"].dtype == band.dtype
        np.testing.assert_array_equal(dataset["dem"].values, coverage.bands["dem"])
    with xr.open_dataset(path, engine=engine) as dataset:
        wanted = None if band.nodata is None else float(band.nodata)
        np.testing.assert_equal(dataset["dem"].odc.nodata, wanted)


@pytest.mark.parametrize("name", ["polar", "utm", "degrees", "lambert", "antarctic"])
def test_gdal_reads_crs_transform_and_nodata(written, name):
    geobox = GEOBOXES[name]
    coverage = make_coverage([make_band("int16", -9999)], geobox)
    with rasterio.open(f"netcdf:{written(coverage)}:dem") as dataset:
        np.testing.assert_allclose(list(dataset.transform)[:6], list(geobox.affine)[:6], rtol=1e-12)
        assert dataset.crs == CRS.from_user_input(geobox.crs.to_wkt())
        assert dataset.nodata == -9999
        np.testing.assert_array_equal(dataset.read(1), coverage.bands["dem"])


def test_rioxarray_reads_crs_transform_and_nodata(written):
    coverage = make_coverage([make_band("float32", -9999.0)])
    with xr.open_dataset(written(coverage), engine="netcdf4", decode_coords="all") as dataset:
        assert dataset["dem"].rio.crs == CRS.from_epsg(3413)
        assert dataset["dem"].rio.transform() == coverage.region.target.affine
        assert dataset["dem"].rio.encoded_nodata == -9999


def test_attributes_are_as_netcdf_has_them(written):
    failed = tuple(FailedChunk(chunk=f"dem/c/1/{col}", kind="x", detail="") for col in (1, 2))
    coverage = make_coverage([make_band("uint8", 0, units="1")], GEOBOXES["lambert"], failed=failed)
    with netCDF4.Dataset(written(coverage)) as dataset:
        assert dataset.Conventions == "CF-1.10"
        assert dataset.attribution == "The Øresund survey"
        assert dataset.icehouse_failed_chunks == "dem/c/1/1, dem/c/1/2"
        assert dataset["dem"].nodata.dtype == np.uint8
        assert dataset["dem"].units == "1"
        np.testing.assert_array_equal(dataset["spatial_ref"].standard_parallel, [49.0, 44.0])


def test_compression_is_there_for_who_asks():
    coverage = make_coverage([make_band("uint8", 0)], arrays={"dem": np.zeros((37, 53), "u1")})
    packed, plain = (encode_netcdf(coverage, compress=level)[0] for level in (1, 0))
    with xr.open_dataset(io.BytesIO(packed), engine="h5netcdf", mask_and_scale=False) as dataset:
        assert dataset["dem"].encoding["zlib"]
        assert not dataset["dem"].values.any()
    with xr.open_dataset(io.BytesIO(plain), engine="h5netcdf", mask_and_scale=False) as dataset:
        assert not dataset["dem"].encoding.get("zlib")
