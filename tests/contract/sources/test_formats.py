"""Formats of a folder's files: what GDAL reads is read, and no file leads to another one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.shutil import copy

from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.sources import SourceContext, create_source
from icehouse_server.sources.files.formats import FORMATS
from support.source_rig import MemoryDocuments, request_for

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SHAPE = (50, 60)
PLANE = (np.arange(50 * 60).reshape(SHAPE) % 200 + 1).astype("int16")
PLACE = Affine(10, 0, 500_000, 0, -10, 7_400_000)
COLLECTION = """
id = "any"
title = "Any"
[grid]
crs = "{crs}"
resolution = {resolution}
bounds = {bounds}
chunk = 64
[source]
type = "files"
folder = "{folder}"
pattern = "{pattern}"
[[bands]]
name = "b"
dtype = "{dtype}"
nodata = -9999
resampling = "nearest"
[bands.source]
{band}
"""


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def context(pool):
    return SourceContext(documents=MemoryDocuments(), pool=pool)


async def read(folder, context, dtype="int16", *, lonlat=False, band="index = 1", pattern="*"):
    bounds, resolution = ([500_000, 7_399_500, 500_600, 7_400_000], 10)
    if lonlat:
        bounds, resolution = [10.0, 46.5, 10.6, 47.0], 0.01
    spec = parse_collection(
        COLLECTION.format(
            crs="EPSG:4326" if lonlat else "EPSG:32622", resolution=resolution, bounds=bounds,
            folder=folder, dtype=dtype, band=band, pattern=pattern,
        ),
        "any.toml",
    )  # fmt: skip
    source = create_source(spec, context)
    try:
        return (await source.read(request_for(spec, spec.grid.window))).bands["b"]
    finally:
        await source.close()


def write(path, driver, dtype, *, lonlat=False, **options):
    """Write the plane in a format that has no way to write but a copy."""
    profile = {
        "driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 1, "dtype": dtype,
        "crs": "EPSG:4326" if lonlat else "EPSG:32622",
        "transform": Affine(0.01, 0, 10, 0, -0.01, 47) if lonlat else PLACE,
    }  # fmt: skip
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(PLANE.astype(dtype), 1)
        with memory.open() as dataset:
            copy(dataset, path, driver=driver, **options)


@pytest.mark.parametrize(
    ("name", "driver", "dtype", "read_as", "lonlat", "options"),
    [
        ("a.tif", "GTiff", "int16", "int16", False, {}),
        ("a.dat", "GTiff", "int16", "int16", False, {}),
        ("a.jp2", "JP2OpenJPEG", "int16", "int16", False, {"QUALITY": 100, "REVERSIBLE": "YES"}),
        ("a.sigdem", "SIGDEM", "float64", "float64", False, {}),
        ("a.hf2", "HF2", "float32", "float32", False, {}),
        ("a.asc", "AAIGrid", "int16", "int32", False, {}),
        ("a.gtx", "GTX", "float32", "float32", True, {}),
        ("a.grb2", "GRIB", "float32", "float64", True, {}),
    ],
)
async def test_formats_are_read(tmp_path, context, name, driver, dtype, read_as, lonlat, options):
    write(tmp_path / name, driver, dtype, lonlat=lonlat, **options)
    found = await read(tmp_path, context, read_as, lonlat=lonlat, pattern=name)
    assert found.valid.all()
    np.testing.assert_array_equal(found.values, PLANE)


async def test_overviews_of_jpeg_2000_are_used(tmp_path, context):
    rows, cols = np.mgrid[0:2000, 0:2400]
    profile = {
        "driver": "GTiff", "height": 2000, "width": 2400, "count": 1, "dtype": "int16", "crs": "EPSG:32622",
        "transform": PLACE @ Affine.scale(1 / 40), "tiled": True,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write((rows + cols).astype("int16"), 1)
        with memory.open() as dataset:
            copy(dataset, tmp_path / "a.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    found = await read(tmp_path, context)
    wanted = (rows + cols)[20::40, 20::40]
    assert np.abs(found.values - wanted).max() < 40


# What may lead to other files


STRANGERS = {
    "VRT": """<VRTDataset rasterXSize="60" rasterYSize="50"><SRS>EPSG:32622</SRS>
<GeoTransform>500000,10,0,7400000,0,-10</GeoTransform><VRTRasterBand dataType="Int16" band="1">
<SimpleSource><SourceFilename>SECRET</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>""",
    "WMS": """<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl>
</Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX>
<LowerRightY>0</LowerRightY><TileLevel>1</TileLevel></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>""",
    "GTI": "<GDALTileIndexDataset><IndexDataset>SECRET</IndexDataset></GDALTileIndexDataset>",
    "GDALG": json.dumps({"type": "gdal_streamed_alg", "command_line": "gdal raster edit SECRET"}),
    "STACIT": json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [
        {"type": "Feature", "stac_version": "1.0.0", "assets": {"a": {"href": "SECRET"}}}]}),
    "MRF": "<MRF_META><Raster><Size x='60' y='50'/><DataFile>SECRET</DataFile></Raster></MRF_META>",
    "PDS": 'PDS_VERSION_ID = PDS3\n^IMAGE = ("SECRET", 1)\nEND\n',
    "ERS": 'DatasetHeader Begin\n\tDataFile = "SECRET"\nDatasetHeader End\n',
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".tif"])
@pytest.mark.parametrize("text", STRANGERS.values(), ids=STRANGERS.keys())
async def test_formats_that_name_files_are_refused(tmp_path, context, text, suffix):
    write(tmp_path / "secret.tif", "GTiff", "int16")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a{suffix}").write_text(text.replace("SECRET", str(tmp_path / "secret.tif")))
    with pytest.raises(SourceCorruptError, match="in none of the formats that are read"):
        await read(tmp_path / "in", context)


@pytest.mark.parametrize("driver", ["HFA", "GPKG", "MBTiles", "NITF", "netCDF"])
async def test_formats_that_may_name_files_are_refused(tmp_path, context, driver):
    write(tmp_path / "a.tif", driver, "uint8", lonlat=True)
    with pytest.raises(SourceCorruptError, match="in none of the formats that are read"):
        await read(tmp_path, context, lonlat=True)


async def test_a_picture_has_no_place(tmp_path, context):
    write(tmp_path / "a.png", "PNG", "uint8")
    with pytest.raises(SourceCorruptError, match=r"a\.png.*no transform") as caught:
        await read(tmp_path, context, pattern="a.png")
    assert "gdal_translate" in caught.value.hint


def test_no_format_of_the_list_names_files():
    named = {
        "VRT",
        "GTI",
        "DERIVED",
        "GDALG",
        "STACIT",
        "STACTA",
        "WMS",
        "WCS",
        "WMTS",
        "HTTP",
        "MRF",
        "HFA",
        "netCDF",
        "HDF5",
    }
    assert not named & set(FORMATS)
