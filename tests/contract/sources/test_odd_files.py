"""Every odd file through every source and path: the same pixels, validity and place as by rasterio."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from affine import Affine

from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.sources import SourceContext, create_source
from icehouse_server.sources.stac.items import parse_item
from support import source_rig as rig
from support.odd_files import ODD_FILES
from support.odd_files.table import (
    AFFINE,
    CRS,
    GRID,
    HEIGHTS,
    PATHS,
    SHOWN,
    geotiff,
    odd,
    right,
    with_holes,
)

if TYPE_CHECKING:
    from icehouse_server.core.collection import CollectionSpec
    from icehouse_server.core.ports import BandBlock
    from support.odd_files.table import OddFile

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

SERVER = textwrap.dedent("""
    import http.server, os, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        def log_message(self, *args): pass
        def do_GET(self):
            with open(sys.argv[1] + self.path, "rb") as file:
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

COLLECTION = """
id = "odd"
title = "Odd"
[grid]
crs = "{crs}"
resolution = 10
bounds = {bounds}
chunk = 96
[extent]
bbox = [-52.0, 66.0, -50.0, 67.0]
[source]
{source}
[[bands]]
name = "b"
dtype = "{dtype}"
{more}
[bands.source]
{band}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def url(folder):
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def context(pool):
    return SourceContext(documents=rig.MemoryDocuments(), pool=pool)


def collection(case: OddFile, source: str, band: str) -> CollectionSpec:
    """Return a collection of one band."""
    bounds = GRID.boundingbox.bbox
    more = f'resampling = "{case.resampling}"\n'
    more += f"scale = {case.scale}\noffset = {case.offset}\n"
    if case.nodata is not None:
        more += f"nodata = {case.nodata}\n"
    text = COLLECTION.format(
        crs=CRS, bounds=list(bounds), source=source, dtype=case.dtype, more=more, band=band
    )
    return parse_collection(text, "odd.toml")


@dataclass(frozen=True)
class OneItem:
    """In the place of the finder: items that need no API."""

    item: object

    async def items(self, *_: object) -> tuple[object, ...]:
        return (self.item,)

    def doubt(self, *_: object, **__: object) -> None:
        """Nothing is remembered."""

    async def close(self) -> None:
        """Nothing is open."""


def item(case: OddFile, href: str) -> object:
    document = {
        "type": "Feature", "stac_version": "1.0.0", "id": case.name, "geometry": None, "links": [],
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "assets": {"a": {"href": href, **case.document}},
    }  # fmt: skip
    return parse_item(json.dumps(document), f"{href}.json")


async def read(case: OddFile, path: str, folder, url: str, context: SourceContext) -> BandBlock:
    """Write a row's file, and read the whole grid of it along a path."""
    where = folder / path / case.name
    where.mkdir(parents=True, exist_ok=True)
    case.write(where / "file.tif", PATHS[path])
    if path == "files":
        spec = collection(case, f'type = "files"\nfolder = "{where}"', f"index = {case.index}")
        source = create_source(spec, context)
    else:
        table = '\n[source.composite]\nrule = "first"' if path == "composite" else ""
        api = f'type = "stac"\napi = "{url}"\ncollection = "c"{table}'
        spec = collection(case, api, f'asset = "a"\nindex = {case.index}')
        finder = OneItem(item(case, f"{url}/{path}/{case.name}/file.tif"))
        source = replace(create_source(spec, context), finder=finder)
    try:
        block = await source.read(rig.request_for(spec, spec.grid.window))
    finally:
        await source.close()
    return block.bands["b"]


CASES = [
    pytest.param(case, path, id=f"{case.name}-{path}")
    for case in ODD_FILES
    for path in PATHS
    if path in case.paths
]


@pytest.mark.parametrize(("case", "path"), CASES)
async def test_an_odd_file_reads_as_rasterio_reads_it(case, path, folder, url, context):
    if case.error:
        with pytest.raises(SourceCorruptError, match=case.error) as caught:
            await read(case, path, folder, url, context)
        assert caught.value.item == ("file.tif" if path == "files" else case.name)
        return
    found = await read(case, path, folder, url, context)
    values, valid = right(case, folder / path / case.name / "file.tif")
    np.testing.assert_array_equal(found.valid, valid)
    assert found.values.dtype == np.dtype(case.dtype)
    assert found.values[valid].tobytes() == values[valid].tobytes()


@pytest.mark.parametrize("path", ["composite", "files"])
@pytest.mark.parametrize(
    "invalid",
    [
        {"mask": SHOWN, "nodata": -9999},
        {"mask": SHOWN},
        {"nodata_text": "-9999.0"},
    ],
    ids=["mask-and-nodata", "mask-and-the-bands-nodata", "nodata"],
)
async def test_a_warp_mixes_no_nodata_into_heights(path, invalid, folder, url, context):
    """Half a pixel off the grid, every pixel is made of four."""
    affine = AFFINE @ Affine.translation(0.5, 0.5)
    write = geotiff(with_holes(-9999), transform=affine, **invalid)
    case = odd(f"warped-{len(invalid)}-{len(str(invalid))}", write, nodata=-9999, resampling="bilinear")
    found = await read(case, path, folder, url, context)
    heights = found.values[found.valid]
    assert heights.size > 1000
    assert heights.min() >= HEIGHTS.min()
    assert heights.max() <= HEIGHTS.max()


def test_the_table_names_each_row_once():
    names = [case.name for case in ODD_FILES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
