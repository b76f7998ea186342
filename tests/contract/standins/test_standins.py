"""The stand-ins over sockets, through real clients: pystac-client, GDAL, odc-stac, async-geotiff."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import async_geotiff
import httpx
import numpy as np
import obstore.store
import pystac
import pystac_client
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

from icehouse_server.demo import faults as f
from icehouse_server.demo import pgc_items, pixels
from icehouse_server.demo.object_builder import Variant
from icehouse_server.demo.pgc import tile_of

# async-geotiff 0.5.1 itself multiplies affines in the way that affine now advises against.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "0", "VSI_CACHE": "FALSE"}
KEY = "arcticdem/mosaics/v4.1/32m/67_33/67_33_32m_v4.1_dem.tif"
COUNT_KEY = KEY.replace("_dem", "_count")


def url(standins, key=KEY):
    return standins.cogs_url + key


def get(address, **headers):
    return httpx.get(address, headers=headers, trust_env=False, timeout=20)


def rasterio_read(address, window):
    # CPL_VSIL_CURL_NON_CACHED: GDAL keeps what it read of a URL for the whole process.
    with rasterio.Env(CPL_VSIL_CURL_NON_CACHED="/vsicurl/http", **GDAL), rasterio.open(address) as dataset:
        return dataset.read(1, window=window)


def async_read(base, key, window):
    async def read():
        store = obstore.store.HTTPStore(base, client_options={"allow_http": True})
        tiff = await async_geotiff.GeoTIFF.open(key, store=store)
        area = async_geotiff.Window(
            col_off=window.col_off, row_off=window.row_off, width=window.width, height=window.height
        )
        return (await tiff.read(window=area)).data[0]

    return asyncio.run(read())


def client(standins):
    return pystac_client.Client.open(standins.open_stac_url)


def test_an_item_by_id(fresh_standins):
    document = get(
        fresh_standins.stac_url + "collections/arcticdem-mosaics-v4.1-32m/items/67_33_32m_v4.1"
    ).json()
    item = pystac.Item.from_dict(document)
    assert item.assets["dem"].href == "https://pgc-opendata-dems.s3.us-west-2.amazonaws.com/" + KEY
    assert document["properties"]["proj:transform"] == [32, 0, -800096, 0, -32, 2700096, 0, 0, 1]
    assert list(document) == [
        "type", "stac_version", "stac_extensions", "id", "bbox", "collection", "properties", "links",
        "assets", "geometry",
    ]  # fmt: skip
    assert fresh_standins.stac_counters().requests == 1


def test_a_missing_item_is_a_json_404(standins):
    for name in ("68_32_32m_v4.1", "nonsense", "67_33_10m_v4.1"):
        answer = get(standins.stac_url + f"collections/arcticdem-mosaics-v4.1-32m/items/{name}")
        assert answer.status_code == 404
        assert answer.json()["code"] == "NotFoundError"


def test_the_mirrors_map_published_urls(standins):
    published = pgc_items.item_document("arcticdem", "32m", "67_33")["assets"]["count"]["href"]
    for prefix, mirror in standins.mirrors.items():
        published = published.replace(prefix, mirror)
    assert httpx.head(published, trust_env=False).status_code == 200


def test_search_pages_through_everything_once(fresh_standins):
    found = client(fresh_standins).search(collections=["arcticdem-mosaics-v4.1-2m"], bbox=[149, 64, 152, 66])
    names = [item.id for item in found.items()]
    assert len(names) == len(set(names)) > 10
    assert "67_33_1_2_2m_v4.1" in names
    posts, _ = fresh_standins.stac_counters().matching("/search")
    assert posts == -(-len(names) // 10)


def test_search_by_get_ids_and_time(standins):
    catalogue = client(standins)
    by_get = catalogue.search(method="GET", collections=["rema-mosaics-v2.0-32m"], bbox=[-90, -80, -60, -75])
    by_post = catalogue.search(collections=["rema-mosaics-v2.0-32m"], bbox=[-90, -80, -60, -75])
    assert [item.id for item in by_get.items()] == [item.id for item in by_post.items()] != []
    ids = ["67_33_32m_v4.1", "68_32_32m_v4.1"]
    assert [item.id for item in catalogue.search(ids=ids).items()] == ["67_33_32m_v4.1"]
    before = catalogue.search(ids=ids, datetime="1999-01-01/2000-01-01")
    assert list(before.items()) == []


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"bbox": [1, 2]}', b'{"limit": "many"}', b'{"token": "x"}']
)
def test_a_search_that_can_not_be_read_is_a_400(standins, body):
    answer = httpx.post(standins.stac_url + "search", content=body, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["code"] == "BadRequestError"


def test_a_box_across_the_antimeridian_is_read_as_the_globe(standins):
    catalogue = client(standins)
    wrapped = {
        i.id
        for i in catalogue.search(
            collections=["arcticdem-mosaics-v4.1-32m"], bbox=[179, 71, -179, 71.4], limit=500
        ).items()
    }
    spanning = {
        i.id
        for i in catalogue.search(
            collections=["arcticdem-mosaics-v4.1-32m"], bbox=[-179, 71, 179, 71.4], limit=500
        ).items()
    }
    assert wrapped == spanning
    assert "55_26_32m_v4.1" in spanning


def test_an_item_on_the_antimeridian_is_split_and_its_box_wraps():
    document = pgc_items.item_document("arcticdem", "32m", "55_26")
    west, _, east, _ = document["bbox"]
    assert west > 170
    assert east < -170
    assert document["geometry"]["type"] == "MultiPolygon"
    assert len(document["geometry"]["coordinates"]) == 2
    assert {point[2] for ring in document["geometry"]["coordinates"] for point in ring[0]} == {0}


def test_an_item_on_longitude_0_has_the_published_fault():
    document = pgc_items.item_document("rema", "32m", "45_30")
    assert document["bbox"] == pytest.approx([0.003929, -77.167505, -4.089805, -76.226954], abs=1e-5)


def test_both_forms_of_items(standins):
    old = get(standins.stac_url + "collections/arcticdem-mosaics-v4.1-32m/items/66_33_32m_v4.1").json()
    assert old["stac_version"] == "1.0.0"
    assert old["properties"]["proj:epsg"] == 3413
    assert old["properties"]["datetime"] is None
    assert "proj:code" not in old["properties"]
    assert pystac.Item.from_dict(old).properties["start_datetime"]


def test_the_odd_assets():
    two = pgc_items.item_document("arcticdem", "2m", "67_33_1_2")["assets"]
    assert two["hillshade"]["proj:shape"] == [5020, 5020]
    assert two["hillshade"]["gsd"] == 10
    assert "gsd" not in pgc_items.item_document("arcticdem", "32m", "67_33")["assets"]["hillshade"]
    assert "datamask" in two
    assert "datamask" not in pgc_items.item_document("rema", "32m", "44_06")["assets"]


@pytest.mark.parametrize(
    ("domain", "resolution", "tile", "asset", "window"),
    [
        ("arcticdem", "32m", "67_33", "dem", Window(2100, 700, 1031, 500)),
        ("arcticdem", "32m", "67_33", "hillshade", Window(0, 0, 600, 600)),
        ("rema", "32m", "44_06", "count", Window(900, 900, 300, 700)),
        ("arcticdem", "10m", "67_33", "dem", Window(4300, 4400, 900, 600)),
        ("arcticdem", "2m", "67_33_1_2", "dem", Window(17000, 300, 700, 600)),
        ("arcticdem", "2m", "67_33_1_2", "hillshade", Window(3000, 0, 700, 600)),
        ("arcticdem", "2m", "67_33_2_2", "mindate", Window(16000, 24000, 700, 1100)),
    ],
)
def test_three_ways_to_the_same_pixels(standins, domain, resolution, tile, asset, window):
    place = tile_of(domain, resolution, tile)
    key = place.key(asset)
    truth = pixels.render(place, asset, window.row_off, window.col_off, (window.height, window.width))
    assert len(np.unique(truth)) > 1
    assert np.array_equal(rasterio_read(url(standins, key), window), truth)
    assert np.array_equal(async_read(standins.cogs_url, key, window), truth)


@pytest.mark.parametrize(
    ("resolution", "tile", "overviews"), [("32m", "67_33", 3), ("10m", "67_33", 5), ("2m", "67_33_1_2", 6)]
)
def test_the_files_are_built_as_published(standins, resolution, tile, overviews):
    place = tile_of("arcticdem", resolution, tile)
    with rasterio.Env(**GDAL), rasterio.open(url(standins, place.key("dem"))) as dataset:
        assert dataset.shape == place.shape()
        assert dataset.transform == place.affine()
        assert dataset.crs.to_epsg() == 3413
        assert (dataset.dtypes, dataset.nodata) == (("float32",), -9999)
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1) == [2**level for level in range(1, overviews + 1)]
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert (structure["LAYOUT"], structure["COMPRESSION"], structure["PREDICTOR"]) == ("COG", "LZW", "3")
        small = dataset.read(1, out_shape=tuple(-(-side // 2**overviews) for side in dataset.shape))
        assert (small != -9999).any()
    assert get(url(standins, place.key("dem")), range="bytes=0-3").content == b"II+\0"


def test_ranges(fresh_standins):
    whole = get(url(fresh_standins, COUNT_KEY))
    size = len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    part = get(url(fresh_standins, COUNT_KEY), range="bytes=100-199")
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{size}"
    assert part.headers["etag"] == whole.headers["etag"]
    assert get(url(fresh_standins, COUNT_KEY), range="bytes=-50").content == whole.content[-50:]
    assert (
        get(url(fresh_standins, COUNT_KEY), range=f"bytes={size - 5}-{size + 50}").content
        == whole.content[-5:]
    )
    assert get(url(fresh_standins, COUNT_KEY), range=f"bytes={size}-").status_code == 416
    head = httpx.head(url(fresh_standins, COUNT_KEY), trust_env=False)
    assert int(head.headers["content-length"]) == size
    counters = fresh_standins.cogs_counters()
    assert counters.requests == 6
    assert counters.by_path["HEAD", f"/{COUNT_KEY}"] == (1, 0)
    assert counters.ranges[f"/{COUNT_KEY}"][0] == "bytes=100-199"


def test_a_missing_object_is_an_xml_404(standins):
    answer = get(url(standins, KEY.replace("67_33", "68_32")))
    assert answer.status_code == 404
    assert "NoSuchKey" in answer.text
    assert get(standins.cogs_url).status_code == 403


def test_many_askers_one_build(standins):
    key = standins.key("32m", "66_34", "mad")

    async def ask():
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            return await asyncio.gather(
                *(http.get(url(standins, key), headers={"range": "bytes=0-99"}) for _ in range(8))
            )

    answers = asyncio.run(ask())
    assert {(answer.status_code, answer.headers["etag"]) for answer in answers} == {
        (206, answers[0].headers["etag"])
    }


def test_async_geotiff_asks_for_the_header_and_rows_of_blocks(fresh_standins):
    fresh_standins.prepare([KEY])
    async_read(fresh_standins.cogs_url, KEY, Window(0, 0, 1000, 1000))
    asked = fresh_standins.cogs_counters().ranges[f"/{KEY}"]
    assert asked[0] == "bytes=0-32767"
    assert len(asked) <= 3


def test_status_faults_come_as_often_as_told(fresh_standins):
    fault = f.Fault(path="*_count.tif", action=f.Status(status=503, retry_after="2"), after=1, times=2)
    fresh_standins.faults([fault])
    answers = [get(url(fresh_standins, COUNT_KEY), range="bytes=0-9") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [206, 503, 503, 206]
    assert answers[1].headers["retry-after"] == "2"
    assert "SlowDown" in answers[1].text


def test_a_fault_on_data_spares_the_header(fresh_standins):
    fresh_standins.faults([f.Fault(action=f.Status(status=500), min_offset=1, times=None)])
    assert get(url(fresh_standins, COUNT_KEY), range="bytes=0-9").status_code == 206
    assert get(url(fresh_standins, COUNT_KEY), range="bytes=1-9").status_code == 500


def test_a_dropped_connection(fresh_standins):
    fresh_standins.faults([f.Fault(action=f.Drop())])
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        get(url(fresh_standins, COUNT_KEY), range="bytes=0-9")
    assert get(url(fresh_standins, COUNT_KEY), range="bytes=0-9").status_code == 206


def test_a_body_cut_short(fresh_standins):
    fresh_standins.faults([f.Fault(action=f.Cut())])
    with pytest.raises(httpx.RemoteProtocolError, match="10000"):
        get(url(fresh_standins, COUNT_KEY), range="bytes=0-9999")


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_stall_only_delays(fresh_standins, where):
    right = get(url(fresh_standins, COUNT_KEY), range="bytes=0-49999").content
    fresh_standins.faults([f.Fault(action=f.Stall(seconds=0.3, where=where))])
    start = time.monotonic()
    assert get(url(fresh_standins, COUNT_KEY), range="bytes=0-49999").content == right
    assert time.monotonic() - start >= 0.3


def test_a_stall_ends_with_its_script(fresh_standins):
    """So a test holds a request up for as long as it needs, and no longer."""
    fresh_standins.faults([f.Fault(action=f.Stall(seconds=600))])
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, url(fresh_standins, COUNT_KEY), range="bytes=0-9")
        while not fresh_standins.counters().requests:
            time.sleep(0.01)
        assert not answer.done()
        fresh_standins.reset()
        assert answer.result(30).status_code == 206


def test_a_dripping_body(fresh_standins):
    fresh_standins.faults([f.Fault(action=f.Drip(interval=0.02))])
    start = time.monotonic()
    assert len(get(url(fresh_standins, COUNT_KEY), range="bytes=0-19").content) == 20
    assert time.monotonic() - start >= 0.4


def test_garbled_bytes_have_the_right_length(fresh_standins):
    right = get(url(fresh_standins, COUNT_KEY), range="bytes=0-49999").content
    fresh_standins.faults([f.Fault(action=f.Garble())])
    assert get(url(fresh_standins, COUNT_KEY), range="bytes=0-49999").content == right[:25000] + bytes(25000)


def test_a_page_instead_of_json(fresh_standins):
    fresh_standins.faults([f.Fault(path="/open/api/v1/", action=f.Page())])
    answer = get(fresh_standins.open_stac_url)
    assert answer.status_code == 200
    assert answer.text.startswith("<html>")


def test_a_redirect(fresh_standins):
    fresh_standins.faults([f.Fault(action=f.Redirect(location="http://127.0.0.1:9/"))])
    assert get(url(fresh_standins)).headers["location"] == "http://127.0.0.1:9/"


def test_content_replaced_from_the_second_request_on(fresh_standins):
    fresh_standins.faults([f.Fault(action=f.Replace(variant=Variant(add=1)), after=1, times=None)])
    first, second, third = (get(url(fresh_standins, COUNT_KEY)) for _ in range(3))
    assert first.headers["etag"] != second.headers["etag"] == third.headers["etag"]
    with rasterio.MemoryFile(first.content) as memory, memory.open() as dataset:
        before = dataset.read(1)
    with rasterio.MemoryFile(second.content) as memory, memory.open() as dataset:
        after = dataset.read(1)
    assert np.array_equal(after[before != 0], before[before != 0] + 1)


@pytest.mark.parametrize(
    ("variant", "seen"),
    [
        (Variant(epsg=3031), lambda d: d.crs.to_epsg() == 3031),
        (Variant(shift=0.25), lambda d: d.transform.c == -800096 + 8),
        (Variant(pixel=40), lambda d: d.res == (40, 40)),
        (Variant(dtype="int16"), lambda d: d.dtypes == ("int16",)),
        (Variant(no_nodata=True), lambda d: d.nodata is None),
    ],
)
def test_files_that_lie(fresh_standins, variant, seen):
    fresh_standins.lies({COUNT_KEY: variant})
    body = get(url(fresh_standins, COUNT_KEY)).content
    with rasterio.MemoryFile(body) as memory, memory.open() as dataset:
        assert seen(dataset)


def test_a_truncated_file(fresh_standins):
    whole = len(get(url(fresh_standins, COUNT_KEY)).content)
    fresh_standins.lies({COUNT_KEY: Variant(truncate=0.5)})
    assert len(get(url(fresh_standins, COUNT_KEY)).content) == whole // 2


def test_latency_and_bandwidth(fresh_standins):
    get(url(fresh_standins, COUNT_KEY), range="bytes=0-9")
    fresh_standins.shape(latency=0.2, bandwidth=200_000)
    start = time.monotonic()
    get(url(fresh_standins, COUNT_KEY), range="bytes=0-99999")
    assert 0.65 < time.monotonic() - start < 10


def test_an_unknown_fault_is_refused(standins):
    answer = httpx.post(
        standins.cogs_url + "_control/faults", json=[{"action": {"kind": "meteor"}}], trust_env=False
    )
    assert answer.status_code == 400
    assert "meteor" not in answer.json()["detail"]


# odc-geo 0.5.3 reprojects its extents by a function that shapely 2.2 warns of.
@pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")
def test_odc_stac_reads_the_truth_unpatched(standins):
    import odc.stac
    from odc.geo.geobox import GeoBox

    # Where four 2 m quarters meet and the buffer of two of them is bare.
    affine = Affine(2, 0, -700_500, 0, -2, 2_650_400)
    found = client(standins).search(
        collections=["arcticdem-mosaics-v4.1-2m"], bbox=[149.7, 64.9, 150.4, 65.4]
    )
    items_by_id = sorted(found.items(), key=lambda item: item.id)
    geobox = GeoBox((400, 450), affine, "EPSG:3413")
    loaded = odc.stac.load(
        items_by_id, bands=["dem"], geobox=geobox, groupby=lambda *_: 0, fail_on_error=True
    )
    truth, valid = standins.truth("arcticdem", "2m", "dem", affine, (400, 450))
    assert valid.any()
    assert np.array_equal(loaded.dem.values[0], truth)


def test_the_servers_end_with_their_parent(tmp_path):
    program = (
        "import os, pathlib, signal\n"
        "from icehouse_server.demo.standins import StandIns\n"
        f"with StandIns.start(folder=pathlib.Path({str(tmp_path)!r})) as s:\n"
        "    print(s.stac_base, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    port = int(ended.stdout.strip().rstrip("/").rpartition(":")[2])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.05)
    pytest.fail("the server outlived its parent by five seconds")
