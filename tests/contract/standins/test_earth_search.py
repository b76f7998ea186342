"""The stand-in of Earth Search over sockets, through pystac-client, httpx and GDAL."""

from __future__ import annotations

import datetime as dt

import httpx
import numpy as np
import odc.stac
import pyproj
import pystac_client
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.demo import faults as f
from support.earth_search import dem, items, pixels, world
from support.earth_search.dem import COP_DEM, Degree
from support.earth_search.signing import Clock, refusal, signed
from support.earth_search.world import SENTINEL_2, STACK

SEAM = [11.96, 48.10, 12.03, 48.13]
"""A box that tiles of both zones show."""
GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "0", "VSI_CACHE": "FALSE"}


def client(earth):
    return pystac_client.Client.open(earth.open_stac_url)


def get(url, **headers):
    return httpx.get(url, headers=headers, trust_env=False, timeout=60)


def mapped(earth, url):
    return next(
        own + url.removeprefix(prefix) for prefix, own in earth.mirrors.items() if url.startswith(prefix)
    )


def reading(url):
    return rasterio.Env(CPL_VSIL_CURL_NON_CACHED="/vsicurl/http", **GDAL), rasterio.open(url)


def seen(collection, box, begin, end):
    """Ids that a search must find, by the footprints and times of the world itself."""
    west, south, east, north = box
    found = set()
    for scene in world.scenes(collection):
        corners = items.footprint(scene)
        x, y = [x for x, _ in corners], [y for _, y in corners]
        apart = max(x) < west or min(x) > east or max(y) < south or min(y) > north
        if not apart and begin <= scene.day <= end:
            found.add(scene.item_id)
    return found


def test_search_by_place_and_month(earth_search):
    january = dt.date(2023, 1, 1), dt.date(2023, 1, 31)
    found = list(client(earth_search).search(collections=[SENTINEL_2], bbox=SEAM, datetime="2023-01").items())
    assert {item.id for item in found} == seen(SENTINEL_2, SEAM, *january)
    assert {item.properties["proj:code"] for item in found} == {"EPSG:32632", "EPSG:32633"}
    assert len({item.datetime.date() for item in found}) >= 4
    covers = [item.properties["eo:cloud_cover"] for item in found]
    assert len(set(covers)) == len(covers)
    times = [item.datetime for item in found]
    assert times == sorted(times, reverse=True)


def test_times_are_intervals_with_both_ends(earth_search):
    scene = world.scenes(SENTINEL_2)[0]
    instant = f"{scene.time:%Y-%m-%dT%H:%M:%S.%f}Z"
    for text, number in (
        (instant, 1),
        (f"{instant}/..", 1),
        (f"../{instant}", 42),
        ("2023-04-01T00:00:00Z/..", 4),
    ):
        answer = httpx.post(
            f"{earth_search.stac_url}/search",
            json={"collections": [SENTINEL_2], "datetime": text},
            trust_env=False,
        )
        assert answer.json()["numberMatched"] == number, text
    assert not list(client(earth_search).search(collections=[SENTINEL_2], datetime="2023-04").items())


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_query_and_paging(fresh_earth_search, method):
    earth = fresh_earth_search
    january = {"collections": [SENTINEL_2], "datetime": "2023-01", "bbox": SEAM}
    options = {**january, "method": method, "limit": 3}
    found = list(client(earth).search(**options, query={"eo:cloud_cover": {"gte": 10, "lt": 40}}).items())
    expected = [
        scene.item_id
        for scene in world.scenes(SENTINEL_2)
        if scene.item_id in seen(SENTINEL_2, SEAM, dt.date(2023, 1, 1), dt.date(2023, 1, 31))
        and 10 <= items.cloud_cover(scene) < 40
    ]
    assert sorted(item.id for item in found) == sorted(expected)
    requests, _ = earth.stac_counters().matching("/search")
    assert requests == -(-len(found) // 3)


def test_a_hundred_items_of_one_place_and_month(earth_search):
    found = list(client(earth_search).search(collections=[STACK], datetime="2023-07", limit=33).items())
    assert len({item.id for item in found}) == len({item.assets["red"].href for item in found}) == 100
    assert {tuple(item.bbox) for item in found} == {tuple(found[0].bbox)}
    assert {item.properties["proj:code"] for item in found} == {"EPSG:32633"}


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b'{"bbox": [1, 2]}',
        b'{"limit": "many"}',
        b'{"next": "x"}',
        b'{"datetime": "2023-01"}',
        b'{"query": {"gsd": {"about": 3}}, "collections": ["cop-dem-glo-30"]}',
    ],
)
def test_a_search_that_can_not_be_read_is_a_400(earth_search, body):
    answer = httpx.post(f"{earth_search.stac_url}/search", content=body, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["code"] == "BadRequest"


def test_what_is_missing_is_a_404(earth_search):
    for path in ("/collections/x", f"/collections/{STACK}/items/x"):
        assert get(earth_search.stac_url + path).status_code == 404
    for key in ("sentinel-cogs/x.tif", f"{dem.BUCKET}/{Degree(48, 10).key}", "no-bucket/x"):
        answer = get(earth_search.cogs_base + key)
        assert answer.status_code == 404
        assert "NoSuchKey" in answer.text


@pytest.mark.parametrize(
    ("collection", "item_id", "assets"),
    [
        (SENTINEL_2, "S2A_33UTP_20230115_0_L2A", ["red", "nir", "swir16", "scl"]),
        (SENTINEL_2, "S2B_32UQU_20230120_0_L2A", ["blue", "green", "scl"]),
        (STACK, "S2B_33UVQ_20230719_0_L2A", ["red", "scl"]),
    ],
)
def test_files_hold_what_the_functions_say(earth_search, collection, item_id, assets):
    item = client(earth_search).get_collection(collection).get_item(item_id)
    scene = world.scene_of_item(collection, item_id)
    for key in assets:
        asset = item.assets[key]
        env, file = reading(asset.href)
        with env, file:
            assert np.array_equal(file.read(1), pixels.render(scene, key))
            assert list(file.transform)[:6] == asset.extra_fields["proj:transform"]
            assert list(file.shape) == asset.extra_fields["proj:shape"]
            facts = asset.extra_fields["raster:bands"][0]
            assert (file.dtypes[0], file.nodata) == (facts["data_type"], facts["nodata"])
            assert file.crs.to_epsg() == scene.tile.epsg
            assert file.block_shapes == [(256, 256)]
            wanted = {1098: [2, 4, 8], 549: [2, 4]}.get(file.width, [])
            assert file.overviews(1) == wanted
    corners = np.array(item.geometry["coordinates"][0])
    assert item.bbox == [*corners.min(axis=0), *corners.max(axis=0)]


def test_published_hrefs_and_their_mirrors(earth_search):
    document = get(f"{earth_search.stac_url}/collections/{SENTINEL_2}/items/S2A_33UTP_20230105_0_L2A").json()
    href = document["assets"]["red"]["href"]
    assert href == (
        "https://sentinel-cogs.s3.us-west-2.amazonaws.com/sentinel-s2-l2a-cogs/33/U/TP/2023/1/"
        "S2A_33UTP_20230105_0_L2A/B04.tif"
    )
    assert httpx.head(mapped(earth_search, href), trust_env=False).status_code == 200
    link = next(link["href"] for link in document["links"] if link["rel"] == "self")
    assert get(mapped(earth_search, link)).json() == document


def test_clouds_leave_the_ground_and_some_of_it_is_never_clear():
    january = [
        scene for scene in world.scenes(SENTINEL_2) if scene.tile.name == "33UTP" and scene.day.month == 1
    ]
    classes = np.stack([pixels.render(scene, "scl") for scene in january])
    assert set(np.unique(classes)) == {0, 3, 4, 5, 6, 8, 9, 10}
    clear = (~np.isin(classes, [0, *world.CLOUDS])).sum(axis=0)
    assert set(np.unique(clear)) == {0, 1, 2, 3, 4}
    for scene, scl in zip(january, classes, strict=True):
        assert items.cloud_cover(scene) == pytest.approx(np.isin(scl, [8, 9, 10]).mean() * 100, abs=1e-4)
        red = pixels.render(scene, "red")
        assert np.array_equal(red == 0, np.kron(scl == 0, np.ones((2, 2), dtype=bool)))


def test_tiles_that_overlap_agree_where_their_zone_is_the_same():
    west, east = (
        world.scene_of_item(SENTINEL_2, f"S2A_{name}_20230105_0_L2A") for name in ("33UTP", "33UUP")
    )
    shared = (west.tile.left + west.tile.side - east.tile.left) // 10
    assert shared == 98
    left = pixels.render(west, "nir", 0, 1098 - shared, (1098, shared))
    right = pixels.render(east, "nir", 0, 0, (1098, shared))
    assert np.array_equal(left, right)
    part = pixels.render(west, "nir", 700, 300, (40, 50))
    assert np.array_equal(part, pixels.render(west, "nir")[700:740, 300:350])


def test_footprints_leave_out_what_the_swath_does_not_show():
    scene = world.scene_of_item(SENTINEL_2, "S2A_33UTP_20230115_0_L2A")
    columns = (pixels.render(scene, "scl") > 0).sum(axis=1)
    to_zone = pyproj.Transformer.from_crs(4326, scene.tile.epsg, always_xy=True)
    east = [to_zone.transform(x, y) for x, y in items.footprint(scene)]
    for row, y in ((0, scene.tile.top), (-1, scene.tile.top - scene.tile.side)):
        edge = max(x for x, northing in east if abs(northing - y) < 1)
        assert edge == pytest.approx(scene.tile.left + columns[row] * 20, abs=40)


def test_the_dem_has_the_lattice_of_the_real_one(earth_search):
    found = client(earth_search).search(collections=[COP_DEM], bbox=[11.2, 49.5, 11.8, 50.5])
    items = {item.id: item for item in found.items()}
    assert set(items) == {
        f"Copernicus_DSM_COG_10_{name}_DEM" for name in ("N49_00_E011_00", "N50_00_E011_00")
    }
    published = get(f"{earth_search.stac_url}/collections/{COP_DEM}/items/{Degree(50, 11).item_id}").json()
    name = "Copernicus_DSM_COG_10_N50_00_E011_00_DEM"
    assert published["assets"]["data"]["href"] == f"s3://copernicus-dem-30m/{name}/{name}.tif"
    address = f"https://copernicus-dem-30m.s3.eu-central-1.amazonaws.com/{name}/{name}.tif"
    assert httpx.head(mapped(earth_search, address), trust_env=False, timeout=60).status_code == 200
    for degree in (Degree(49, 11), Degree(50, 11)):
        item = items[degree.item_id]
        env, file = reading(item.assets["data"].href)
        with env, file:
            assert np.array_equal(file.read(1), dem.render(degree))
            assert (file.nodata, file.dtypes, file.tags()["AREA_OR_POINT"]) == (None, ("float32",), "Point")
            assert list(file.shape) == item.properties["proj:shape"]
            assert list(file.transform)[:6] == pytest.approx(item.properties["proj:transform"], abs=1e-12)
            assert file.overviews(1) == [2, 4]


def test_degrees_as_published_items_have_them():
    # the values of a published item of the real product
    degree = Degree(53, -115)
    expected = [0.00041666666666666664, 0, -115.00020833333333, 0, -0.0002777777777777778, 54.00013888888889]
    assert list(degree.affine)[:6] == pytest.approx(expected, abs=1e-14)
    assert degree.shape == (3600, 2400)
    assert degree.bounds == pytest.approx(
        (-115.00020833333333, 53.00013888888889, -114.00020833333333, 54.00013888888889)
    )
    assert items.degree_document(degree, "", str)["properties"]["grid:code"] == "CDEM-N53W115"
    widths = {
        latitude: Degree(latitude, 20).shape[1] for latitude in (49, 50, 60, 70, 80, 84, 85, -50, -51, -86)
    }
    assert widths == {
        49: 3600,
        50: 2400,
        60: 1800,
        70: 1200,
        80: 720,
        84: 720,
        85: 360,
        -50: 3600,
        -51: 2400,
        -86: 360,
    }


def test_heights_continue_at_antimeridian_and_spacing_changes():
    east, west = Degree(67, 179), Degree(67, -180)
    assert east.bounds[2] - 360 == pytest.approx(west.bounds[0])
    longitudes = np.array([179.5, 180.0, 180.5])
    across = dem.elevation(longitudes, np.array([67.25]))
    assert np.array_equal(across, dem.elevation(longitudes - 360, np.array([67.25])))
    south, north = dem.render(Degree(49, 11)), dem.render(Degree(50, 11))
    # a degree's first row is its northern edge; each third column of one is each second of the other
    edge = dem.elevation(11 + np.arange(0, 3600, 3) / 3600, np.array([50.0]))[0]
    assert np.array_equal(south[0, ::3], edge)
    assert abs(north[-1, ::2] - edge).max() < 20
    assert np.array_equal(
        north[-1, ::2], dem.elevation(11 + np.arange(0, 3600, 3) / 3600, np.array([50 + 1 / 3600]))[0]
    )


@pytest.mark.parametrize("form", ["presigned", "sas"])
def test_signed_hrefs_expire_and_are_signed_anew(fresh_earth_search, form):
    earth = fresh_earth_search
    root = {"presigned": earth.presigned_stac_url, "sas": earth.sas_stac_url}[form]
    address = f"{root}/collections/{STACK}/items/S2A_33UVQ_20230702_0_L2A"

    def href():
        return mapped(earth, get(address).json()["assets"]["red"]["href"])

    earth.pass_time(0, lifetime=60)
    first = href()
    assert get(first, range="bytes=0-3").content == b"II*\0"
    assert get(first.partition("?")[0]).status_code == 403
    changed = {"presigned": ("X-Amz-Expires=60", "X-Amz-Expires=9999"), "sas": ("se=20", "se=30")}[form]
    assert get(first.replace(*changed)).status_code == 403
    earth.pass_time(61, lifetime=60)
    late = get(first)
    assert late.status_code == 403
    assert late.headers["content-type"] == "application/xml"
    assert "<Code>" in late.text
    assert get(href(), range="bytes=0-3").status_code == 206
    searched = httpx.post(
        f"{root}/search", json={"collections": [STACK], "ids": ["S2A_33UVQ_20230702_0_L2A"]}, trust_env=False
    )
    again = mapped(earth, searched.json()["features"][0]["assets"]["red"]["href"])
    assert get(again, range="bytes=0-3").status_code == 206


def test_a_signature_is_of_one_object():
    url = signed("https://a.example/b/c.tif", "s3", now=Clock().now(), lifetime=60)
    query = dict(httpx.URL(url).params)
    assert refusal("/b/c.tif", query, now=Clock().now()) is None
    assert refusal("/b/d.tif", query, now=Clock().now()) is not None
    assert refusal("/b/c.tif", {}, now=Clock().now()) is not None
    assert refusal("/b/c.tif", query, now=Clock(ahead=61).now()) is not None


def test_odc_stac_reads_the_same(earth_search):
    scene = world.scene_of_item(STACK, "S2B_33UVQ_20230719_0_L2A")
    found = client(earth_search).search(ids=[scene.item_id], collections=[STACK])
    place = scene.affine("red") @ Affine.translation(30, 50)
    loaded = odc.stac.load(
        found.items(), bands=["red", "scl"], geobox=GeoBox((100, 120), place, "EPSG:32633")
    )
    assert np.array_equal(loaded.red.values[0], pixels.render(scene, "red", 50, 30, (100, 120)))
    cells = np.kron(pixels.render(scene, "scl", 25, 15, (50, 60)), np.ones((2, 2), dtype=np.uint8))
    assert np.array_equal(loaded.scl.values[0], cells)


def test_faults_and_lies(fresh_earth_search):
    earth = fresh_earth_search
    scene = world.scenes(STACK)[0]
    key = f"{world.BUCKET}/{scene.key('scl')}"
    earth.faults([f.Fault(path="*/SCL.tif", action=f.Status(status=503))])
    assert [get(earth.cogs_base + key).status_code for _ in range(2)] == [503, 200]
    assert earth.cogs_counters().matching("SCL")[0] == 2
    earth.lies({key: f.Variant(epsg=32632, add=1)})
    env, file = reading(earth.cogs_base + key)
    with env, file:
        assert file.crs.to_epsg() == 32632
        assert np.array_equal(file.read(1), pixels.render(scene, "scl") + 1)
