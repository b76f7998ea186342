import io
import json
import shutil
import struct
import subprocess
import zipfile

import numpy as np
import odc.geo.xr
import pytest
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from xarray.backends.zarr import FillValueCoder

from icehouse_server.core.errors import FailedChunk
from icehouse_server.output import encode, zipparts
from support.coverages import GEOBOXES, KINDS, POLAR, joined, make_band, make_coverage

assert odc.geo.xr  # registers the accessor


@pytest.fixture
def opened(tmp_path):
    def opener(coverage, **options):
        path = tmp_path / "answer.zarr.zip"
        path.write_bytes(joined(encode(coverage, "zarr")))
        store = zarr.storage.ZipStore(path, mode="r")
        return xr.open_zarr(store, consolidated=True, **options)

    return opener


@pytest.mark.parametrize("name", GEOBOXES)
def test_the_geobox_comes_back_exactly(opened, name):
    geobox = GEOBOXES[name]
    coverage = make_coverage([make_band("float32", float("nan"))], geobox)
    with opened(coverage) as dataset:
        got = dataset["dem"].odc.geobox
        assert got.affine == geobox.affine
        assert got.shape == geobox.shape
        assert got.crs == geobox.crs
        assert set(dataset.data_vars) == {"dem"}
        np.testing.assert_array_equal(dataset["dem"].values, coverage.bands["dem"])


@pytest.mark.parametrize("name", [name for name in GEOBOXES if name != "one"])
def test_coordinates_are_those_of_odc_geo(opened, name):
    geobox = GEOBOXES[name]
    wanted = odc.geo.xr.xr_coords(geobox)
    with opened(make_coverage([make_band("uint8", 0)], geobox)) as dataset:
        assert dataset["dem"].dims == geobox.dimensions
        for dim in geobox.dimensions:
            np.testing.assert_array_equal(dataset[dim].values, wanted[dim].values)
            assert dataset[dim].dtype == wanted[dim].dtype
        assert dataset["spatial_ref"].item() == wanted["spatial_ref"].item()


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_and_nodata(opened, kind):
    band = make_band(*kind)
    coverage = make_coverage([band])
    values = coverage.bands["dem"]
    with opened(coverage, mask_and_scale=False) as dataset:
        assert dataset["dem"].dtype == band.dtype
        np.testing.assert_array_equal(dataset["dem"].values, values)
    with opened(coverage) as dataset:
        masked = dataset["dem"]
        if band.nodata is None:
            assert masked.odc.nodata is None
            np.testing.assert_array_equal(masked.values, values)
        else:
            np.testing.assert_array_equal(masked.odc.nodata, float(band.nodata))
            invalid = np.isnan(values) if band.nodata != band.nodata else values == band.nodata
            np.testing.assert_array_equal(np.isnan(masked.values), invalid)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[1] is not None])
def test_the_fill_value_is_written_as_xarray_writes_it(kind):
    band = make_band(*kind)
    with zipfile.ZipFile(io.BytesIO(joined(encode(make_coverage([band]), "zarr")))) as archive:
        attrs = json.loads(archive.read("dem/zarr.json"))["attributes"]
    assert attrs["_FillValue"] == FillValueCoder.encode(band.fill, band.dtype)


def test_attributes(opened):
    bands = [
        make_band("float32", float("nan"), units="m", long_name="height"),
        make_band("uint8", 0, name="count"),
    ]
    failed = (FailedChunk(chunk="dem/c/1/2", kind="source-timeout", detail="slow"),)
    with opened(make_coverage(bands, failed=failed)) as dataset:
        assert dataset["dem"].attrs["units"] == "m"
        assert dataset["dem"].attrs["long_name"] == "height"
        assert dataset["count"].attrs["long_name"] == "count"
        assert dataset["y"].attrs["standard_name"] == "projection_y_coordinate"
        assert dataset["y"].attrs["units"] == "m"
        assert dataset["spatial_ref"].attrs["grid_mapping_name"] == "polar_stereographic"
        assert dataset.attrs == {
            "Conventions": "CF-1.10",
            "title": "A test",
            "collection": "test-32m",
            "attribution": "The Øresund survey",
            "license": "CC-BY-4.0",
            "references": "https://doi.org/10.0000/test",
            "icehouse_snapshot": "SNAP1",
            "icehouse_failed_chunks": "dem/c/1/2",
        }


def test_metadata_is_strict_json_and_agrees_with_that_of_arrays():
    content = joined(encode(make_coverage([make_band("float32", float("nan"))]), "zarr"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert names[0] == "zarr.json"
        assert {"dem/c/0/0", "y/c/0", "x/c/0", "spatial_ref/c"} <= set(names)

        def refuse(constant):
            raise AssertionError(constant)

        group = json.loads(archive.read("zarr.json"), parse_constant=refuse)
        for name, metadata in group["consolidated_metadata"]["metadata"].items():
            assert json.loads(archive.read(f"{name}/zarr.json"), parse_constant=refuse) == metadata


def test_chunks_are_stored_whole_at_multiples_of_64_and_checked():
    coverage = make_coverage([make_band("float32", float("nan")), make_band("uint8", 0, name="n")])
    encoded = encode(coverage, "zarr")
    content = joined(encoded)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            name, extra = struct.unpack_from("<2H", content, entry.header_offset + 26)
            start = entry.header_offset + 30 + name + extra
            assert start % 64 == 0
            assert content[start : start + entry.file_size] == archive.read(entry)
    part = next(part for part in encoded.parts if len(part) == coverage.bands["dem"].nbytes)
    assert np.shares_memory(np.frombuffer(part, np.uint8), coverage.bands["dem"])
    assert content == joined(encode(coverage, "zarr"))


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_unzip_finds_no_fault(tmp_path):
    path = tmp_path / "answer.zarr.zip"
    path.write_bytes(joined(encode(make_coverage([make_band("int16", -9999)]), "zarr")))
    done = subprocess.run(["unzip", "-t", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr


@pytest.mark.parametrize("limit", [16, 200, 5000])
def test_zip64_by_lower_limits(monkeypatch, limit):
    monkeypatch.setattr(zipparts, "_wide", lambda number: number >= limit)
    files = [(f"file{number}", bytes([number]) * (number * 40)) for number in range(20)]
    content = b"".join(zipparts.stored_zip(files))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == files


def test_big_endian_and_strided_pixels_become_little_endian(opened):
    band = make_band("float32", -9999.0)
    values = np.arange(37 * 53, dtype=">f4").reshape(37, 53)
    with opened(make_coverage([band], arrays={"dem": values})) as dataset:
        np.testing.assert_array_equal(dataset["dem"].values, values.astype("f4"))
    strided = np.arange(53 * 37, dtype="f4").reshape(53, 37).T
    with opened(make_coverage([band], arrays={"dem": strided})) as dataset:
        np.testing.assert_array_equal(dataset["dem"].values, strided)


def test_zarr_reads_it_without_consolidated_metadata(tmp_path):
    path = tmp_path / "answer.zarr.zip"
    path.write_bytes(joined(encode(make_coverage([make_band("int8", -128)]), "zarr")))
    with zarr.storage.ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        assert sorted(group.array_keys()) == ["dem", "spatial_ref", "x", "y"]
        assert group["dem"].fill_value == -128


def test_a_geobox_without_crs_is_refused():
    bare = GeoBox(POLAR.shape, POLAR.affine, None)
    with pytest.raises(ValueError, match="no CRS"):
        encode(make_coverage([make_band("uint8", 0)], bare), "zarr")
