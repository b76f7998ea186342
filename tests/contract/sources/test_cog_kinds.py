"""Files of every kind, in a server of its own process, against rasterio's read of the same file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.windows import Window as RasterWindow

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.core.grid import Window
from icehouse_server.sources.cog.checks import Expectation, is_native
from icehouse_server.sources.cog.reader import open_cog
from icehouse_server.sources.http.hosts import Hosts
from icehouse_server.sources.http.ranges import HEADER, HeaderCache, RangeReader
from icehouse_server.sources.http.shared_ranges import SharedRanges

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

SERVER = textwrap.dedent("""
    import http.server, os, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def log_message(self, *args): pass
        def do_GET(self):
            with open(os.path.join(sys.argv[1], os.path.basename(self.path)), "rb") as file:
                body = file.read()
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last), len(body) - 1)
            part = body[first:last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
""")
SIDE = 700
GRID = GeoBox((4000, 4000), Affine(32, 0, -800_000, 0, -32, 2_700_000), "EPSG:3413")
ROW, COL = 100, 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def server(folder):
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def pixels(dtype, count=1):
    row, col = np.mgrid[0:SIDE, 0:SIDE]
    kind = np.dtype(dtype)
    plane = np.sin(row / 40) * np.cos(col / 30)
    values = (plane * 800).astype(dtype) if kind.kind == "f" else (row // 3 + col // 2).astype(dtype)
    values[: SIDE // 3, : SIDE // 2] = 0
    return np.stack([values + np.asarray(n, dtype) for n in range(count)])


def write(folder, name, dtype="float32", *, count=1, nodata=None, mask=None, **how):
    values = pixels(dtype, count)
    facts = {
        "driver": "GTiff", "height": SIDE, "width": SIDE, "count": count, "dtype": dtype, "nodata": nodata,
        "crs": how.pop("crs", "EPSG:3413"), "transform": GRID.affine * Affine.translation(COL, ROW),
    }  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**facts) as dataset:
            dataset.write(values)
            if mask is not None:
                dataset.write_mask(mask)
        with memory.open() as dataset:
            copy(dataset, folder / name, **{"driver": "GTiff", **how})
    return folder / name


async def read(server, path, window, *, dtype="float32", nodata=-9999, index=1):
    hosts = Hosts(connect_timeout=5, read_timeout=5, max_requests_per_host=8, user_agent="test")
    band = BandSpec(name="b", dtype=np.dtype(dtype), nodata=nodata)
    expected = Expectation(item="i", href="h", grid=GRID, band=band, index=index)
    reader = RangeReader(
        hosts=hosts, headers=HeaderCache(), shared=SharedRanges(), url=f"{server}/{path.name}", item="i"
    )
    hosts.enter(None)
    try:
        with ThreadPoolExecutor(2) as pool:
            cog = await open_cog(reader, expected, pool)
            piece = await cog.read(window)
    finally:
        await hosts.leave(None)
    (traffic,) = hosts.traffic.snapshot().values()
    return cog, piece, traffic


WINDOW = Window(row=ROW + 150, col=COL + 100, height=400, width=333)
TILED = {"tiled": "YES", "blockxsize": 256, "blockysize": 256}


@pytest.mark.parametrize(
    ("native", "dtype", "nodata", "how"),
    [
        (True, "float32", 0, {"driver": "COG", "compress": "LZW", "predictor": "YES", "bigtiff": "YES"}),
        (True, "float64", None, {"driver": "COG", "compress": "ZSTD", "predictor": "YES"}),
        (True, "uint8", 0, {"driver": "COG", "compress": "DEFLATE", "predictor": "YES"}),
        (True, "int8", 0, {"driver": "COG", "compress": "LZW"}),
        (True, "int16", 0, {"driver": "COG", "compress": "DEFLATE", "predictor": "YES"}),
        (True, "uint16", 0, {"driver": "COG", "compress": "NONE"}),
        (True, "int32", 0, {"driver": "COG", "compress": "ZSTD", "predictor": "YES"}),
        (True, "uint32", 0, {"driver": "COG", "compress": "LZW", "predictor": "YES"}),
        (True, "float32", 0, {"endianness": "BIG", "compress": "DEFLATE", **TILED}),
        (True, "int16", 0, {"endianness": "BIG", "compress": "LZW", "predictor": 2, **TILED}),
        (True, "uint8", 0, {"sparse_ok": "TRUE", "compress": "DEFLATE", **TILED}),
        (False, "float32", 0, {}),
        (False, "uint8", 0, {"blockysize": 1}),
        (False, "int16", 0, {"compress": "DEFLATE", "predictor": 2}),
        (False, "uint8", 0, {"compress": "JPEG", **TILED}),
        (False, "uint8", 0, {"compress": "PACKBITS", **TILED}),
        (False, "float32", 0, {"compress": "LERC", **TILED}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
async def test_pixels_are_gdals(folder, server, native, dtype, nodata, how, request):
    name = f"{abs(hash(request.node.name))}.tif"
    path = write(folder, name, dtype, nodata=nodata, **how)
    cog, piece, traffic = await read(server, path, WINDOW, dtype=dtype, nodata=nodata)
    assert is_native(cog.geotiff.ifd) is native
    with rasterio.open(path) as dataset:
        area = RasterWindow(WINDOW.col - COL, WINDOW.row - ROW, WINDOW.width, WINDOW.height)
        values, valid = dataset.read(1, window=area), dataset.read_masks(1, window=area) != 0
    np.testing.assert_array_equal(piece.valid, valid)
    assert piece.values[valid].tobytes() == values[valid].tobytes()
    assert piece.values.dtype == values.dtype
    assert traffic.requests <= 12


@pytest.mark.parametrize("interleave", ["PIXEL", "BAND"])
@pytest.mark.parametrize("index", [1, 3])
async def test_one_band_of_several(folder, server, interleave, index):
    path = write(folder, f"{interleave}{index}.tif", "uint16", count=3, interleave=interleave, **TILED)
    _, piece, _ = await read(server, path, WINDOW, dtype="uint16", nodata=None, index=index)
    inside = np.s_[WINDOW.row - ROW : WINDOW.stop_row - ROW, WINDOW.col - COL : WINDOW.stop_col - COL]
    np.testing.assert_array_equal(piece.values, pixels("uint16", 3)[index - 1][inside])
    with pytest.raises(SourceCorruptError, match="4 was asked for"):
        await read(server, path, WINDOW, dtype="uint16", nodata=None, index=4)


@pytest.mark.parametrize("how", [{"driver": "COG"}, TILED, {}], ids=["cog", "tiled", "striped"])
async def test_a_mask_inside_the_file(folder, server, how):
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[100:600:2, 50:650] = True
    path = write(folder, f"mask{len(how)}.tif", "uint8", mask=mask, **how)
    _, piece, _ = await read(server, path, WINDOW, dtype="uint8", nodata=None)
    inside = np.s_[WINDOW.row - ROW : WINDOW.stop_row - ROW, WINDOW.col - COL : WINDOW.stop_col - COL]
    np.testing.assert_array_equal(piece.valid, mask[inside])
    np.testing.assert_array_equal(piece.values[piece.valid], pixels("uint8")[0][inside][piece.valid])


async def test_nan_is_never_valid_and_the_files_nodata_rules(folder, server):
    path = write(folder, "nan.tif", "float32", nodata=0, **TILED)
    with rasterio.open(path, "r+") as dataset:
        values = dataset.read(1)
        values[300, 200:230] = np.nan
        dataset.write(values, 1)
    _, piece, _ = await read(server, path, WINDOW)
    inside = np.s_[WINDOW.row - ROW : WINDOW.stop_row - ROW, WINDOW.col - COL : WINDOW.stop_col - COL]
    np.testing.assert_array_equal(piece.valid, ((values != 0) & ~np.isnan(values))[inside])


async def test_a_valid_pixel_with_the_bands_nodata_is_an_error(folder, server):
    """The file says -1 is nodata, the collection says 0: a 0 in the file could not be kept."""
    path = write(folder, "clash.tif", "int16", nodata=-1, **TILED)
    with pytest.raises(SourceCorruptError, match="hold 0, which band 'b' uses for nodata"):
        await read(server, path, WINDOW, dtype="int16", nodata=0)
    clean = Window(row=ROW + 300, col=COL + 400, height=20, width=20)
    _, piece, _ = await read(server, path, clean, dtype="int16", nodata=0)
    assert piece.valid.all()


@pytest.mark.parametrize(
    "crs",
    [
        "EPSG:3413",
        "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs",
    ],
)
async def test_a_crs_written_in_another_way_is_the_same(folder, server, crs):
    path = write(folder, f"crs{len(crs)}.tif", crs=crs, **TILED)
    _, piece, _ = await read(server, path, WINDOW)
    assert piece.valid.any()


async def test_a_large_header_opens_in_one_request(folder, server):
    """2,500 blocks and six overviews, as at 2 m, of smaller blocks: GDAL's own layout, sparse, BigTIFF."""
    path = folder / "large.tif"
    facts = {
        "driver": "GTiff", "height": 12_800, "width": 12_800, "count": 1, "dtype": "float32", "nodata": -9999,
        "crs": "EPSG:3413", "transform": GRID.affine, "bigtiff": "YES", "sparse_ok": "TRUE",
        "compress": "LZW", "tiled": "YES", "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    plain = folder / "plain.tif"
    with rasterio.open(plain, "w", **facts) as dataset:
        dataset.write(np.ones((512, 512), dtype="float32"), 1, window=RasterWindow(0, 0, 512, 512))
    with rasterio.open(plain) as dataset:
        how = {"compress": "LZW", "bigtiff": "YES", "predictor": "YES", "sparse_ok": "TRUE"}
        copy(dataset, path, driver="COG", blocksize=256, **how)
    window = Window(row=0, col=0, height=700, width=700)
    cog, piece, traffic = await read(server, path, window)
    assert piece.valid.sum() == 512 * 512
    assert traffic.requests == 2
    assert cog.geotiff.tiff.header_byte_size < HEADER
    assert len(cog.geotiff.overviews) == 6
